"""The verbs: teach, distill, evaluate, export and run. Each command of the command line is one call of these."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from snnkd import processes
from snnkd.bench import report as bench_report
from snnkd.data import ImageSet, check_fit, load_data
from snnkd.errors import PlaceError, RequestError, WorkError, did_you_mean
from snnkd.export import check as check_export
from snnkd.export import safetensors as safetensors_export
from snnkd.export.place import check_target, place
from snnkd.files import read_json, trouble, write_json
from snnkd.measure.plot import check_plot_path, group_by_seed, plot_curves
from snnkd.models.files import Loaded, load_network
from snnkd.recipe import DATA, fields
from snnkd.recipe.data_schema import DataConfig
from snnkd.recipe.loss_section import needs_teacher
from snnkd.recipe.resolve import Pipeline
from snnkd.recipe.schema import DistillRecipe, EvalConfig, ExecutionConfig, StageRecipe, TeacherConfig, TeachRecipe
from snnkd.recipe.sweep import Task
from snnkd.report import Reporter
from snnkd.runs.find import Finished, choose, finished_runs
from snnkd.runs.folder import RUN, identity, is_finished, runs_folder
from snnkd.runs.lock import Lock, in_turn
from snnkd.stage import Options, Stage, folder_of, last_line, measure_network, run_stage
from snnkd.teachers import find_teacher
from snnkd.training.environment import check_execution, pick_device
from snnkd.usercode import check_permitted, is_user_code

FORMATS = ("safetensors",)


@processes.joined()
def teach(recipe: TeachRecipe, options: Options) -> Finished:
    """Train an ANN teacher and measure it; a finished run is returned as it is."""
    device = _device(recipe.execution)
    data = load_data(recipe.data, options.report)
    return run_stage(Stage(recipe=recipe, data=data, teacher=None, device=device, options=options))


@processes.joined()
def distill(recipe: DistillRecipe, options: Options) -> Finished:
    """Train a spiking student, from a teacher where the loss has one, and measure it at every timestep."""
    device = _device(recipe.execution)
    data = load_data(recipe.data, options.report)
    teacher, fixed = None, TeacherConfig()
    if needs_teacher(recipe.loss) or recipe.train.init == "teacher":
        began = partial(_began, recipe, data, options=options)
        teacher = processes.in_all(partial(find_teacher, recipe, data, began, options.report))
        fixed = TeacherConfig(run=str(teacher.folder), sha256=teacher.sha256)
    recipe = dataclasses.replace(recipe, teacher=fixed)
    return run_stage(Stage(recipe=recipe, data=data, teacher=teacher, device=device, options=options))


def _device(execution: ExecutionConfig) -> torch.device:
    return processes.in_all(partial(pick_device, execution.device))


def _began(recipe: DistillRecipe, data: ImageSet, teacher_sha256: str, options: Options) -> Literal["no", "unfinished", "finished"]:
    """Whether the run that `recipe` asks for was begun with this teacher."""
    same = identity(recipe, data.sha256, teacher_sha256)
    folder = folder_of(recipe, same, options)
    if options.fresh or not (folder / RUN).is_file() or read_json(folder / RUN).get("identity") != same:
        return "no"
    return "finished" if is_finished(folder) else "unfinished"


@processes.joined()
def evaluate(folder: Path, settings: EvalConfig, options: Options, execution: ExecutionConfig | None = None) -> dict[str, Any]:
    """Measure the network of a run or an export at every timestep; never answers from result.json.

    Settings other than a run's own are also written to RUN/eval/<settings>.json.
    """
    execution = execution or ExecutionConfig()
    device = _device(execution)
    loaded = processes.in_all(partial(load_network, folder))
    specification = loaded.network.specification
    if settings.T is not None and specification.kind == "ann" and settings.T != 1:
        raise RequestError(f"--T {settings.T}: {folder} is a teacher, which has no timesteps")
    name = _eval_file(settings, specification.T) if (folder / RUN).exists() else None
    try:
        if name:  # before the work, so that a place that cannot be written is known at once
            processes.of_first(lambda: (folder / "eval").mkdir(exist_ok=True))
        result = measure_network(loaded, _data_of(loaded, options.report), settings, execution, device, options)
        if name:
            processes.of_first(lambda: write_json(folder / "eval" / name, result))
    except OSError as error:
        raise trouble(error, folder / "eval") from error
    return result


def _eval_file(settings: EvalConfig, trained_T: int) -> str | None:
    """The name under RUN/eval for settings other than the run's own; None for those."""
    T = settings.T or trained_T
    return None if settings.split == "test" and trained_T == T else f"{settings.split}-T{T}.json"


@processes.joined()
def evaluate_all(
    folders: Sequence[Path] | None,
    latest: bool,
    settings: EvalConfig,
    execution: ExecutionConfig,
    options: Options,
    plot: Path | None = None,
) -> list[dict[str, Any]]:
    """`evaluate` each of `folders` (without any, the one finished student), and draw them into `plot`."""
    _device(execution)
    if plot:
        processes.of_first(partial(check_plot_path, plot))
    chosen = list(folders or [processes.of_first(partial(_the_student, latest))])
    results = [evaluate(folder, settings, options, execution) for folder in chosen]
    if plot and processes.is_first():
        plot_curves(group_by_seed(results), plot)
        options.report.note(f"drawn: {plot}")
    return results


def _the_student(latest: bool) -> Path:
    absent = f"no finished student under {runs_folder()}; run `snnkd distill` first, or name a run"
    return choose(finished_runs("distill"), "student", latest, "--latest", absent).folder


def _data_of(loaded: Loaded, report: Reporter) -> ImageSet:
    """The data that a network was trained on, as its config.json names it."""
    section = loaded.config.get("data")
    name = str(section.get("name")) if isinstance(section, dict) else ""
    if is_user_code(name) and name.partition(":")[0] not in DATA:
        check_permitted(name, f"{loaded.folder}: its data set")
    try:
        entry = DATA[str(section["name"])]  # type: ignore[index]
        config: DataConfig = fields.build(entry.options, section, "data")
    except (TypeError, KeyError, RequestError) as error:
        raise PlaceError(f"{loaded.folder}/config.json: its data section is damaged: {error}") from error
    data = load_data(config, report)
    if data.sha256 != loaded.config.get("data_sha256"):
        report.note(f"warning: {data.name} here has other bytes (sha256 {data.sha256[:12]}...) than the data of {loaded.folder}")
    return data


def export(run: Path | None, format: str, out: Path | None, force: bool, options: Options, latest: bool = False) -> dict[str, Any]:
    """Write the network of `run` (by default the one finished student) in `format`, read it back, compare on 256 test images.

    Raises RequestError for an unknown format or an `out` that exists, WorkError (nothing left behind) on disagreement.
    """
    if format not in FORMATS:
        raise RequestError(f"--format {format!r} is not known{did_you_mean(format, FORMATS)}")
    folder = run or _the_student(latest)
    target = out or folder / "export" / format
    loaded = load_network(folder)
    check_target(target, force)
    images = check_export.sample(_data_of(loaded, options.report).test)
    found = check_export.Agreement(0, 0.0, 0.0)

    def make(draft: Path) -> None:
        nonlocal found
        safetensors_export.write(draft, loaded)
        found = check_export.compare(loaded.network, safetensors_export.read_back(draft), images)
        if found.max_difference > safetensors_export.TOLERANCE:
            raise WorkError(f"{target}: the export differs from {folder} by {found.max_difference:.3g}; it was removed")
        options.stop.check("while exporting; nothing was written")

    place(target, force, make)
    T = loaded.network.specification.T
    return {"schema": 1, "run": str(folder), "format": format, "path": str(target), "T": T, **dataclasses.asdict(found)}


def bench(recipe: DistillRecipe, rounds: int, baseline: bool = False, levers: bool = False) -> dict[str, Any]:
    """Time the training step of `recipe` by part, against the published loop, and with one lever after another."""
    return bench_report.bench(recipe, rounds, baseline, levers)


@processes.joined()
def run(tasks: Sequence[Task], options: Options) -> list[Finished]:
    """The tasks of a recipe in turn, in the same directories as the single commands; finished runs are not repeated.

    Everything is checked before the first begins. A run that another process holds, such as a teacher that tasks
    share, is waited for (execution.wait). Returns each run once.
    """
    options = dataclasses.replace(options, wait=True)
    _check_all(tasks, options)
    done: dict[Path, Finished] = {}
    for i, task in enumerate(tasks):
        # a time limit lets the next one make a step, as everywhere. Of several processes a script learns by `snnkd status`
        # alone whether something is left to do: there it begins, and stops at its first step
        if i > 0 and options.stop.signalled and processes.count() == 1:
            raise options.stop.error(f"before {task.name}")
        if task.name:
            options.report.note(f"{task.name}, {i + 1} of {len(tasks)}" if len(tasks) > 1 else task.name)
        done |= {finished.folder: finished for finished in _run_one(task.pipeline, options)}
    return list(done.values())


def _run_one(pipeline: Pipeline, options: Options) -> list[Finished]:
    """The stages of one task."""
    done: list[Finished] = []
    if pipeline.teach:
        done.append(teach(pipeline.teach, options))
    if pipeline.distill:
        student = pipeline.distill
        if pipeline.teach and student.teacher.run is None:
            student = dataclasses.replace(student, teacher=TeacherConfig(run=str(done[0].folder)))
        done.append(distill(student, options))
    _measure_and_export(done[-1], pipeline, options)
    return done


def _stages(pipeline: Pipeline) -> list[StageRecipe]:
    return [stage for stage in (pipeline.teach, pipeline.distill) if stage]


def _check_all(tasks: Sequence[Task], options: Options) -> None:
    """Refuse now what a later stage, or task, would refuse after hours of training."""
    by_data: dict[str, list[tuple[Task, StageRecipe]]] = {}
    for task in tasks:
        with _naming(task):
            for stage in _stages(task.pipeline):
                _device(stage.execution)
                by_data.setdefault(repr(stage.data), []).append((task, stage))
            if task.pipeline.eval and not task.pipeline.distill and task.pipeline.eval.T not in (None, 1):
                raise RequestError(f"eval.T: {task.pipeline.eval.T} given for a teacher, which has no timesteps")
    for group in by_data.values():  # each data set is loaded once
        data = load_data(group[0][1].data, options.report)
        for task, stage in group:
            with _naming(task):
                check_fit(stage.train, data)
                check_execution(stage.train, stage.execution, pick_device(stage.execution.device))
                if task.pipeline.eval and stage is _stages(task.pipeline)[-1]:
                    data.split(task.pipeline.eval.split)


@contextmanager
def _naming(task: Task) -> Iterator[None]:
    """A refusal inside names the task of a sweep."""
    try:
        yield
    except RequestError as error:
        raise RequestError(f"{task.name}: {error}" if task.name else str(error)) from error


def _measure_and_export(last: Finished, pipeline: Pipeline, options: Options) -> None:
    """The eval and export sections for the last stage's run; what stands there already is not made again."""
    stage = _stages(pipeline)[-1]
    name = _eval_file(pipeline.eval, last.result["trained_T"] or 1) if pipeline.eval else None
    formats = pipeline.export.formats if pipeline.export else ()

    def missing() -> tuple[bool, list[str]]:
        measured = name is None or (last.folder / "eval" / name).exists()
        return not measured, [format for format in formats if not (last.folder / "export" / format).exists()]

    def work() -> None:
        if processes.of_first(missing) == (False, []):
            return
        with ExitStack() as held:  # one task at a time: another may have the same student
            processes.of_first(lambda: held.enter_context(Lock(last.folder)) and None)
            held.enter_context(processes.noticing())
            unmeasured, unwritten = processes.of_first(missing)
            if unmeasured and pipeline.eval:
                options.report.note(last_line(evaluate(last.folder, pipeline.eval, options, stage.execution)))
            for format in unwritten:
                found = processes.of_first(partial(export, last.folder, format, None, False, options))
                options.report.note(f"exported to {found['path']} (agreement {found['agreement']:.4f})")

    in_turn(work, last.folder, stage.execution.wait, options.stop.check, options.report)
