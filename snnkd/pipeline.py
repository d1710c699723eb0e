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
from snnkd.compare.report import make_report
from snnkd.compare.tables import as_table
from snnkd.compare.words import left_out
from snnkd.data import ImageSet, Way, check_fit, load_data
from snnkd.data.archives import check_mirror
from snnkd.data.describe import describe
from snnkd.errors import RequestError
from snnkd.evaluation import Asked, data_of, measure_run, measured_already, own_eval_file
from snnkd.exports.check import sample
from snnkd.exports.extras import check_installed
from snnkd.exports.formats import load_format
from snnkd.exports.make import keep
from snnkd.exports.make import make as make_export
from snnkd.exports.place import check_target
from snnkd.exports.source import Source
from snnkd.files import read_json
from snnkd.measure.plot import check_plot_path, group_by_seed, plot_curves
from snnkd.models.files import load_network
from snnkd.recipe.catalogue import DATA
from snnkd.recipe.data_schema import DataConfig
from snnkd.recipe.exports import EXPORTS
from snnkd.recipe.loss_section import needs_teacher
from snnkd.recipe.neurons import check_timesteps
from snnkd.recipe.resolve import Pipeline
from snnkd.recipe.schema import CompareConfig, DistillRecipe, ExecutionConfig, StageRecipe, TeacherConfig, TeachRecipe
from snnkd.recipe.sweep import Task
from snnkd.runs.find import Finished, choose, finished_runs
from snnkd.runs.folder import RUN, identity, is_finished, read_result, runs_folder
from snnkd.runs.lock import Lock, in_turn
from snnkd.stage import Options, Stage, folder_of, last_line, run_stage
from snnkd.teachers import check_teacher, find_teacher, fixed_teacher
from snnkd.training.environment import check_execution, check_track, pick_device


@processes.joined()
def teach(recipe: TeachRecipe, options: Options) -> Finished:
    """Train an ANN teacher and measure it; a finished run is returned as it is."""
    device = _device(recipe.execution)
    data = load_data(recipe.data, options.report, way=_way(options))
    return run_stage(Stage(recipe=recipe, data=data, teacher=None, device=device, options=options))


@processes.joined()
def distill(recipe: DistillRecipe, options: Options) -> Finished:
    """Train a spiking student, from a teacher where the loss has one, and measure it at every timestep."""
    device = _device(recipe.execution)
    check_teacher(recipe.teacher)
    data = load_data(recipe.data, options.report, way=_way(options))
    teacher, fixed = None, TeacherConfig()
    if needs_teacher(recipe.loss) or recipe.train.init == "teacher":
        began = partial(_began, recipe, data, options=options)
        teacher = processes.in_all(partial(find_teacher, recipe, data, began, options.report))
        fixed = fixed_teacher(recipe.teacher, teacher)
    recipe = dataclasses.replace(recipe, teacher=fixed)
    return run_stage(Stage(recipe=recipe, data=data, teacher=teacher, device=device, options=options))


def data(config: DataConfig, source: Path | None, mirror: str | None, options: Options) -> dict[str, Any]:
    """Bring a data set here, from `source` (a copy of the user's) or `mirror` where these are given, and describe it."""
    if DATA[config.name].detail("source") is None:
        for option, given in (("--from", source), ("--mirror", mirror)):
            if given is not None:
                raise RequestError(f"{option} {given}: {config.name} is not downloaded, there is nothing to bring")
    if source is not None and mirror is not None:
        raise RequestError(f"--mirror {mirror}: given together with --from {source}; name one of them")
    way = Way(source=source, mirror=mirror, stop=options.stop.check)
    check_mirror(mirror)
    return describe(load_data(config, options.report, way=way), config.name)


def _way(options: Options) -> Way:
    """How data that are missing come here; a download stops when asked to."""
    return Way(stop=options.stop.check)


def _device(execution: ExecutionConfig) -> torch.device:
    check_track(execution)
    return processes.in_all(partial(pick_device, execution.device))


def _began(recipe: DistillRecipe, data: ImageSet, teacher_sha256: str, options: Options) -> Literal["no", "unfinished", "finished"]:
    """Whether the run that `recipe` asks for was begun with this teacher."""
    same = identity(recipe, data.sha256, teacher_sha256)
    folder = folder_of(recipe, same, options)
    if options.fresh or not (folder / RUN).is_file() or read_json(folder / RUN).get("identity") != same:
        return "no"
    return "finished" if is_finished(folder) else "unfinished"


@processes.joined()
def evaluate(folder: Path, asked: Asked, options: Options, execution: ExecutionConfig | None = None) -> dict[str, Any]:
    """Measure the network of a run or an export at every timestep; never answers from result.json.

    Settings other than a run's own are also written to RUN/eval/<settings>.json.
    """
    execution = execution or ExecutionConfig()
    device = _device(execution)
    asked.check()
    return measure_run(folder, asked, options, execution, device)


@processes.joined()
def evaluate_all(
    folders: Sequence[Path] | None,
    asked: Asked,
    execution: ExecutionConfig,
    options: Options,
    *,
    latest: bool = False,
    every: bool = False,
    plot: Path | None = None,
) -> list[dict[str, Any]]:
    """`evaluate` each of `folders` (without any, the one finished student), and draw them into `plot`.

    With `every`, all finished runs in `folders` (without any, in the runs folder) that were not yet measured so; the picture
    shows those that were, too.
    """
    _device(execution)
    asked.check()
    if plot:
        processes.of_first(partial(check_plot_path, plot))
    if every and asked.save_logits:
        raise RequestError(f"--save-logits {asked.save_logits}: one file for --all; give one run")
    stored: list[dict[str, Any]] = []
    if every:
        known = processes.of_first(partial(measured_already, folders or (), asked, options.report))
        chosen, stored = [run for run, result in known if result is None], [result for _, result in known if result is not None]
    else:
        chosen = list(folders or [processes.of_first(partial(_the_student, latest))])
    if asked.save_logits and len(chosen) > 1:
        raise RequestError(f"--save-logits {asked.save_logits}: one file for {len(chosen)} runs; give one run")
    results = [evaluate(folder, asked, options, execution) for folder in chosen]
    if plot and (stored or results) and processes.is_first():
        plot_curves(group_by_seed([*stored, *results]), plot)
        options.report.note(f"drawn: {plot}")
    return results


def _the_student(latest: bool) -> Path:
    absent = f"no finished student under {runs_folder()}; run `snnkd distill` first, or name a run"
    return choose(finished_runs("distill"), "student", latest, "--latest", absent).folder


def export(
    run: Path | None, format: str, out: Path | None, force: bool, options: Options, latest: bool = False, T: int | None = None
) -> dict[str, Any]:
    """Write the network of `run` (by default the one finished student) in `format`, read it back, compare on 256 test images.

    `T` timesteps are unrolled, the trained ones by default. What was found is also kept beside RUN/export/<format>, as .json.
    Raises RequestError for an unknown format, one whose packages are missing or that cannot say the network, or an `out`
    that exists; WorkError (nothing left behind) on disagreement.
    """
    entry = EXPORTS[format]
    check_installed(entry)
    folder = run or _the_student(latest)
    source = _source(folder, T)
    other = "" if source.T == source.loaded.network.specification.T else f"-T{source.T}"
    target = out or folder / "export" / f"{format}{other}"
    load_format(entry).check(source)
    check_target(target, force)
    images = sample(data_of(source.loaded, options.report, way=_way(options)).test)
    found = make_export(entry, source, target, force, images, options.stop.check)
    made = {"schema": 1, "run": str(folder), "format": entry.name, "path": str(target), "T": source.T, **found}
    if out is None and (folder / RUN).exists():
        keep(target, made)
    return made


def _source(folder: Path, T: int | None) -> Source:
    """The network of `folder` with its result, where that is of these weights, to be exported with `T` timesteps."""
    loaded = load_network(folder)
    specification = loaded.network.specification
    if T is not None:
        if T < 1:
            raise RequestError(f"--T {T}: a network runs at least 1 timestep")
        if specification.kind == "ann" and T != 1:
            raise RequestError(f"--T {T}: {folder} is a teacher, which has no timesteps")
        check_timesteps(specification.neuron, specification.T, T, f"--T {T}")
        if specification.frames is not None and specification.frames < T:
            raise RequestError(f"--T {T}: every timestep sees a frame of its own, and these events have {specification.frames}")
    result = read_result(folder) if is_finished(folder) else None
    same = result is not None and result.get("weights_sha256") == loaded.sha256
    return Source(loaded, specification.T if T is None else T, result if same else None)


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


def compare(settings: CompareConfig, runs: Sequence[Finished], whole: bool, options: Options) -> None:
    """The compare section of a recipe: a table over its students, said on stderr; made when the `whole` recipe was carried out."""
    if not processes.is_first():
        return
    if not whole:
        options.report.note("compare: made when all tasks run in one command; `snnkd compare` does it afterwards")
        return
    report = make_report([finished.folder for finished in runs if finished.result["stage"] == "distill"], settings)
    for line in as_table(report).splitlines():
        options.report.note(line)
    if report.left_out:
        options.report.note(left_out(report))


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
            for format in task.pipeline.export.formats if task.pipeline.export else ():
                check_installed(EXPORTS[format])
            for stage in _stages(task.pipeline):
                _device(stage.execution)
                by_data.setdefault(repr(stage.data), []).append((task, stage))
            if task.pipeline.eval and not task.pipeline.distill and task.pipeline.eval.T not in (None, 1):
                raise RequestError(f"eval.T: {task.pipeline.eval.T} given for a teacher, which has no timesteps")
    for group in by_data.values():  # each data set is loaded once
        data = load_data(group[0][1].data, options.report, way=_way(options))
        for task, stage in group:
            with _naming(task):
                check_fit(stage.train, data, stage.data.augment)
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
    asked = Asked(settings=pipeline.eval) if pipeline.eval else None
    name = own_eval_file(pipeline.eval, last.result["trained_T"] or 1) if pipeline.eval else None
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
            to_measure, unwritten = processes.of_first(missing)
            if to_measure and asked:
                options.report.note(last_line(evaluate(last.folder, asked, options, stage.execution)))
            for format in unwritten:
                found = processes.of_first(partial(export, last.folder, format, None, False, options))
                options.report.note(f"exported to {found['path']} (agreement {found['agreement']:.4f})")

    in_turn(work, last.folder, stage.execution.wait, options.stop.check, options.report)
