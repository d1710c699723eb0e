"""One function per command: teach, distill, evaluate, export, run, ..."""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from snnkd import distributed, preflight
from snnkd.catalog.data import DATA
from snnkd.catalog.formats import EXPORTS
from snnkd.catalog.hub import HUB, is_address
from snnkd.catalog.neurons import check_timesteps
from snnkd.compare.formats import as_table
from snnkd.compare.report import make_report
from snnkd.compare.sections import left_out_line
from snnkd.console import Clock, Console, duration
from snnkd.context import RunContext
from snnkd.data import FetchOptions, ImageSet, load_data
from snnkd.data.classes import match_classes
from snnkd.data.describe import describe
from snnkd.data.download.archives import check_mirror
from snnkd.environment import device_line, pick_device
from snnkd.errors import FileError, RunError, UsageError, counted
from snnkd.evaluation import EvalRequest, Pending, data_of, find_pending, measure_run, own_eval_file
from snnkd.exports.agreement import sample_images
from snnkd.exports.export import check_supported, export_network, write_report
from snnkd.exports.extras import check_installed
from snnkd.exports.install import check_target
from snnkd.exports.source import Source
from snnkd.exports.upload import check_client, check_remote, upload
from snnkd.files import RUN
from snnkd.measure.network import summary_line
from snnkd.measure.plot import check_plot_path, group_by_seed, plot_curves
from snnkd.measure.result import ResultDict
from snnkd.models.files import load_network, read_initial_weights
from snnkd.models.weights import WeightFile
from snnkd.prediction import list_pictures, predict_pictures
from snnkd.recipe.resolve import Pipeline
from snnkd.recipe.sweep import Task
from snnkd.recipe.train_section import fit_train
from snnkd.runs.find import Finished, choose_student
from snnkd.runs.folder import is_finished, read_result, runs_folder
from snnkd.runs.lock import Lock, retry_when_free
from snnkd.schema.data import DataConfig
from snnkd.schema.run import (
    CompareConfig,
    DistillRecipe,
    ExecutionConfig,
    TeacherConfig,
    TeachRecipe,
)
from snnkd.stage import run_stage
from snnkd.task_checks import check_tasks
from snnkd.teachers import check_teacher, find_teacher, pinned_teacher
from snnkd.training.setup import Stage
from snnkd.training.tracking import check_trackers

Recipe = TypeVar("Recipe", TeachRecipe, DistillRecipe)


@distributed.process_group()
def teach(recipe: TeachRecipe, context: RunContext, fitted: Collection[str] = ()) -> Finished:
    """Train an ANN teacher and measure it; a finished run is returned as it is.

    The keys of `train` in `fitted` follow the number of training images.
    """
    device = _device(recipe.execution)
    data = load_data(recipe.data, context.console, fetch=_fetch_options(context))
    recipe = _fit(recipe, data, fitted, context)
    initial = distributed.on_every_rank(read_initial_weights)(recipe.train.init, recipe.model.name)
    data = _match_initial(data, initial, context)
    return run_stage(
        Stage(recipe=recipe, data=data, teacher=None, initial=initial, device=device, context=context)
    )


@distributed.process_group()
def distill(recipe: DistillRecipe, context: RunContext, fitted: Collection[str] = ()) -> Finished:
    """Train a spiking student, from a teacher where the loss has one, and measure it at every timestep.

    The keys of `train` in `fitted` follow the number of training images.
    """
    device = _device(recipe.execution)
    check_teacher(recipe.teacher)
    data = load_data(recipe.data, context.console, fetch=_fetch_options(context))
    recipe = _fit(recipe, data, fitted, context)
    initial = distributed.on_every_rank(read_initial_weights)(recipe.train.init, recipe.model.name)
    data = _match_initial(data, initial, context)
    teacher, pinned = None, TeacherConfig()
    if recipe.needs_teacher:
        runs = None if context.fresh else context.out or runs_folder()
        init_sha256 = initial.sha256 if initial else None
        teacher = distributed.on_every_rank(find_teacher)(recipe, data, runs, context.console, init_sha256)
        data = match_classes(data, teacher.config, str(teacher.folder), context.console)
        pinned = pinned_teacher(recipe.teacher, teacher)
    recipe = dataclasses.replace(recipe, teacher=pinned)
    return run_stage(
        Stage(recipe=recipe, data=data, teacher=teacher, initial=initial, device=device, context=context)
    )


def _fit(recipe: Recipe, data: ImageSet, keys: Collection[str], context: RunContext) -> Recipe:
    """`recipe` with these keys of `train` for the data's number of images, which is logged."""
    if not keys:
        return recipe
    train = fit_train(recipe.train, keys, recipe.stage, len(data.train))
    context.console.log(
        f"{counted(len(data.train), 'training image')}: batches of {train.batch_size}, "
        f"{counted(train.epochs, 'epoch')}, lr {train.lr:g}; --batch-size, --epochs and --lr change it"
    )
    return dataclasses.replace(recipe, train=train)


def _match_initial(data: ImageSet, initial: WeightFile | None, context: RunContext) -> ImageSet:
    """`data` with its labels in the order of the initial weights' outputs, if their classes are the same."""
    names = initial.class_names if initial else None
    if initial is None or names is None or data.class_names is None or set(names) != set(data.class_names):
        return data
    return match_classes(data, {"class_names": names}, str(initial.path), context.console)


def check(recipe: Pipeline, timed: bool = False) -> list[dict[str, Any]]:
    """Cost of each stage of a recipe, and presence of its data and teacher; trains nothing.

    With `timed`, a few training steps are timed on random images, for `seconds_per_step` and `minutes`.
    """
    stages = preflight.facts(recipe)
    return [_timed(facts, recipe) for facts in stages] if timed else stages


def _timed(facts: dict[str, Any], recipe: Pipeline) -> dict[str, Any]:
    """`facts` with the time that the stage will train; as they are for data of unknown shape."""
    if "shape" not in facts:
        return facts
    from snnkd.bench.estimate import step_seconds

    stage = next(each for each in recipe.stages if each.stage == facts["stage"])
    teacher = recipe.teach.model if recipe.teach else None
    seconds = step_seconds(stage, (facts["classes"], facts["shape"]), teacher, facts["steps"])
    minutes = facts["steps"] * seconds / 60
    return facts | {"seconds_per_step": round(seconds, 4), "minutes": round(minutes, 1)}


def data(config: DataConfig, source: Path | None, mirror: str | None, context: RunContext) -> dict[str, Any]:
    """Fetch a data set, from `source` (the user's copy) or `mirror` if given, and describe it."""
    if not DATA[config.name].source:
        for option, given in (("--from", source), ("--mirror", mirror)):
            if given is not None:
                raise UsageError(f"{option} {given}: {config.name} is never downloaded; omit the option")
    if source is not None and mirror is not None:
        raise UsageError(f"--mirror {mirror}: given together with --from {source}; name one of them")
    if source is not None and not source.exists():
        raise FileError(f"--from {source}: no such file or directory")
    fetch = FetchOptions(source=source, mirror=mirror, stop=context.stop.check)
    check_mirror(mirror)
    return describe(load_data(config, context.console, fetch=fetch), config.name)


def _fetch_options(context: RunContext) -> FetchOptions:
    """Options for downloading missing data; a download stops on a signal or the time limit."""
    return FetchOptions(stop=context.stop.check)


def _device(execution: ExecutionConfig) -> torch.device:
    check_trackers(execution)
    return distributed.on_every_rank(pick_device)(execution.device)


def _device_line(execution: ExecutionConfig) -> str:
    return device_line(_device(execution), execution, torch.get_num_threads())


@distributed.process_group()
def evaluate(
    folder: Path, request: EvalRequest, context: RunContext, execution: ExecutionConfig | None = None
) -> ResultDict:
    """Measure the network of a run or an export at every timestep; never answers from result.json.

    Settings other than a run's own are also written to RUN/eval/<settings>.json.
    """
    execution = execution or ExecutionConfig()
    device = _device(execution)
    request.check()
    return measure_run(folder, request, context, execution, device)


@distributed.process_group()
def evaluate_all(
    folders: Sequence[Path] | None,
    request: EvalRequest,
    execution: ExecutionConfig,
    context: RunContext,
    *,
    latest: bool = False,
    all_runs: bool = False,
    plot: Path | None = None,
) -> tuple[list[ResultDict], list[Path]]:
    """`evaluate` each of `folders` (default: the only finished student), and plot their results to `plot`.

    With `all_runs`, evaluate all finished runs in `folders` (default: the runs folder) without a result for
    this request, and plot all; runs that cannot be measured are logged and returned after the results.
    """
    if latest and (all_runs or folders):
        _refuse_latest("--all" if all_runs else str((folders or [])[0]))
    context.console.log(_device_line(execution))
    request.check()
    if plot:
        check_plot_path(plot)
    if all_runs and request.save_logits:
        raise UsageError(f"--save-logits {request.save_logits}: one file for --all; give one run")
    if all_runs:
        pending = find_pending(folders or (), request, context.console)
    else:
        pending = Pending(list(folders or [_the_student(latest, context.console)]), [], [])
    chosen, left_out = pending.unmeasured, pending.damaged
    if request.save_logits and len(chosen) > 1:
        raise UsageError(
            f"--save-logits {request.save_logits}: one file for {len(chosen)} runs; give one run"
        )
    results = []
    for folder in chosen:
        try:
            results.append(evaluate(folder, request, context, execution))
        except (UsageError, FileError, RunError) as error:
            if not all_runs:
                raise
            context.console.log(f"skipped: {folder}: {str(error).removeprefix(f'{folder}: ')}")
            left_out.append(folder)
    if plot and (pending.stored or results) and distributed.is_rank0():
        plot_curves(group_by_seed([*pending.stored, *results]), plot)
        context.console.log(f"plot written to {plot}")
    return results, left_out


def _refuse_latest(chosen: str) -> None:
    raise UsageError(f"--latest: {chosen} chooses already; give one of the two")


@distributed.on_rank0
def _the_student(latest: bool, console: Console) -> Path:
    return choose_student(latest, console)


def predict(
    run: Path, pictures: Sequence[Path], confidence: float, context: RunContext, execution: ExecutionConfig
) -> dict[str, Any]:
    """Predict the classes of `pictures`, files or folders of them, by the network of a run or an export.

    They are brought to the network's size and channels as those of an image folder; the network normalises
    them as its data. Those that cannot be read are logged and left out.
    """
    device = _device(execution)
    loaded = load_network(run)
    files = list_pictures(pictures)
    context.console.log(_device_line(execution))
    predicted = predict_pictures(loaded, files, confidence, execution.eval_batch_size, device, context)
    for each in predicted["left_out"]:
        context.console.log(f"left out: {each['picture']}: {each['reason']}")
    return predicted


@distributed.on_rank0
def export(
    run: Path | None,
    format: str,
    out: Path | None,
    force: bool,
    context: RunContext,
    latest: bool = False,
    T: int | None = None,
) -> dict[str, Any]:
    """Export the network of `run` (default: the only finished student) in `format`; verify on 256 images.

    `T` timesteps are unrolled, by default the trained number. The report is also stored next to
    RUN/export/<format>, as .json. Raises UsageError for an unknown format, missing packages, an unsupported
    network or an existing `out`; RunError, without leaving files, if the export disagrees.
    """
    if latest and run:
        _refuse_latest(str(run))
    if run is not None and is_address(run) and out is None:
        raise UsageError(f"--out: {run} is no folder to export into; give a path")
    entry = EXPORTS[format]
    check_installed(entry)
    folder = run or _the_student(latest, context.console)
    source = _source(folder, T)
    other = "" if source.T == source.loaded.network.specification.T else f"-T{source.T}"
    target = out or folder / "export" / f"{format}{other}"
    check_supported(entry, source)
    check_target(target, force)
    images = sample_images(data_of(source.loaded, context.console, fetch=_fetch_options(context)).test)
    verification = export_network(entry, source, target, force, images, context.stop.check)
    report = {
        "schema": 1,
        "run": str(folder),
        "format": entry.name,
        "path": str(target),
        "T": source.T,
        **verification,
    }
    if out is None and (folder / RUN).exists():
        write_report(target, report)
    return report


def push(run: Path, repository: str, private: bool, dry_run: bool, context: RunContext) -> dict[str, Any]:
    """Export a finished run to safetensors, verified, and upload the files to `repository` of the hub.

    With `dry_run` nothing is uploaded. Raises UsageError without huggingface_hub, FileError without a login,
    for a repository of other content, and for an upload that fails.
    """
    check_client()
    if not dry_run:
        check_remote(repository, private)
    source = dataclasses.replace(_source(run, None), address=f"{HUB}:{repository}")
    images = sample_images(data_of(source.loaded, context.console, fetch=_fetch_options(context)).test)
    with tempfile.TemporaryDirectory(prefix="snnkd-push-") as temporary:
        folder = Path(temporary) / "export"
        export_network(EXPORTS["safetensors"], source, folder, False, images, context.stop.check)
        files = [{"path": path.name, "bytes": path.stat().st_size} for path in sorted(folder.iterdir())]
        uploaded = {"url": None, "commit": None} if dry_run else upload(folder, repository, private)
    return {"schema": 1, "run": str(run), "repository": repository, **uploaded, "files": files}


def _source(folder: Path, T: int | None) -> Source:
    """The network of `folder`, the timesteps `T` to export, and its result if it is of these weights."""
    loaded = load_network(folder)
    specification = loaded.network.specification
    if T is not None:
        if T < 1:
            raise UsageError(f"--T {T}: a network runs at least 1 timestep")
        if specification.kind == "ann" and T != 1:
            raise UsageError(f"--T {T}: {folder} is a teacher, which has no timesteps")
        check_timesteps(specification.neuron, specification.T, T, f"--T {T}")
        if specification.frames is not None and specification.frames < T:
            raise UsageError(
                f"--T {T}: each timestep takes one event frame; "
                f"use at most {specification.frames} (data.frames)"
            )
    result = read_result(folder) if is_finished(folder) else None
    same = result is not None and result.get("weights_sha256") == loaded.sha256
    return Source(loaded, specification.T if T is None else T, result if same else None)


def bench(
    recipe: DistillRecipe, rounds: int, console: Console, baseline: bool = False, ablations: bool = False
) -> dict[str, Any]:
    """Time the training step of `recipe` by part, against the baseline loop and its ablations."""
    from snnkd.bench import report  # imports torchvision, which doubles the start of every command

    return report.bench(recipe, rounds, console, baseline, ablations)


@distributed.process_group()
def run(tasks: Sequence[Task], context: RunContext) -> list[Finished]:
    """Run the tasks of a recipe in turn, in the same directories as the single commands; skip finished runs.

    All tasks are checked before the first begins. Waits for runs locked by another process, such as a shared
    teacher (execution.wait). Returns each run once.
    """
    context = dataclasses.replace(context, wait=True)
    check_tasks(tasks, context)
    done: dict[Path, Finished] = {}
    seconds: list[float] = []
    for i, task in enumerate(tasks):
        # with a time limit the next task makes one step, as everywhere; with several processes it begins and
        # stops at its first step, so that `snnkd status` shows that something is left to do
        if i > 0 and context.stop.requested and distributed.world_size() == 1:
            raise context.stop.error(f"before {task.name}")
        if task.name:
            of_all = f", {i + 1} of {len(tasks)}" if len(tasks) > 1 else ""
            context.console.log(f"{task.name}{of_all}{_time_left(seconds, len(tasks) - i)}")
        clock = Clock()
        done |= {finished.folder: finished for finished in _run_one(task.pipeline, context)}
        seconds.append(clock.seconds())
    return list(done.values())


def _time_left(seconds: Sequence[float], tasks: int) -> str:
    """An estimate for `tasks` more, from the seconds of those that were not finished already."""
    worked = [each for each in seconds if each > 1]
    return f", about {duration(statistics.fmean(worked) * tasks)} left" if worked else ""


def compare(settings: CompareConfig, runs: Sequence[Finished], complete: bool, context: RunContext) -> None:
    """The compare section of a recipe: log a table of its students if all tasks ran (`complete`)."""
    if not distributed.is_rank0():
        return
    if not complete:
        context.console.log(
            "compare: printed when all tasks run in one command; run `snnkd compare` afterwards"
        )
        return
    report = make_report(
        [finished.folder for finished in runs if finished.result["stage"] == "distill"], settings
    )
    for line in as_table(report).splitlines():
        context.console.log(line)
    if report.left_out:
        context.console.log(left_out_line(report))


def _run_one(pipeline: Pipeline, context: RunContext) -> list[Finished]:
    """The stages of one task."""
    done: list[Finished] = []
    if pipeline.teach:
        done.append(teach(pipeline.teach, context))
    if pipeline.distill:
        student = pipeline.distill
        if pipeline.teach and student.teacher.run is None:
            named = dataclasses.replace(student.teacher, run=str(done[0].folder))
            student = dataclasses.replace(student, teacher=named)
        done.append(distill(student, context))
    _measure_and_export(done[-1], pipeline, context)
    return done


def _measure_and_export(last: Finished, pipeline: Pipeline, context: RunContext) -> None:
    """The eval and export sections for the last stage's run; existing files are not written again."""
    stage = pipeline.stages[-1]

    def work() -> None:
        if _missing(last, pipeline) == (False, []):
            return
        with Lock(last.folder), distributed.peer_failures():  # two tasks may share a student
            measure, formats = _missing(last, pipeline)
            if measure and pipeline.eval:
                request = EvalRequest(settings=pipeline.eval)
                context.console.log(summary_line(evaluate(last.folder, request, context, stage.execution)))
            for format in formats:
                report = export(last.folder, format, None, False, context)
                context.console.log(f"exported to {report['path']} (agreement {report['agreement']:.4f})")

    retry_when_free(work, last.folder, stage.execution.wait, context.stop.check, context.console)


@distributed.on_rank0
def _missing(last: Finished, pipeline: Pipeline) -> tuple[bool, list[str]]:
    """Whether the eval section's file is missing, and the formats of the export section whose files are."""
    name = own_eval_file(pipeline.eval, last.result["trained_T"] or 1) if pipeline.eval else None
    formats = pipeline.export.formats if pipeline.export else ()
    return (
        name is not None and not (last.folder / "eval" / name).exists(),
        [format for format in formats if not (last.folder / "export" / format).exists()],
    )
