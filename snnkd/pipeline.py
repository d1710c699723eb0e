"""The verbs: teach, distill, evaluate, export and run. Each command of the command line is one call of these."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from snnkd.data import ImageSet, load_data
from snnkd.data.loader import TrainBatches, measure_batches
from snnkd.errors import PlaceError, RequestError, WorkError, did_you_mean
from snnkd.export import check as check_export
from snnkd.export import safetensors as safetensors_export
from snnkd.files import reason, write_json
from snnkd.losses.objective import make_objective, needs_teacher
from snnkd.measure.curve import accuracy, measure_curve
from snnkd.measure.plot import check_plot_path, group_by_seed, plot_curves
from snnkd.measure.result import make_result
from snnkd.models import Network, Specification, build_network
from snnkd.models.files import Loaded, load_network, save_network
from snnkd.recipe import DATA, fields
from snnkd.recipe.resolve import Pipeline
from snnkd.recipe.schema import DataConfig, DistillRecipe, EvalConfig, ExecutionConfig, LossConfig, StageRecipe, TeacherConfig, TeachRecipe
from snnkd.recipe.text import to_plain
from snnkd.report import Reporter
from snnkd.runs.find import Finished, choose, finished_runs
from snnkd.runs.folder import RESULT, identity, is_finished, read_result, recipe_hash, run_name, runs_folder
from snnkd.runs.lock import Lock
from snnkd.runs.open import began_with, begin, check_needs, prepare
from snnkd.seeds import derive
from snnkd.teachers import find_teacher, frozen, judge_teacher
from snnkd.training.environment import hardware, pick_device, same_bytes_need, versions
from snnkd.training.loop import Job, train
from snnkd.training.state import LAST, PREVIOUS, remove_state
from snnkd.training.stopping import Stop

FORMATS = ("safetensors",)


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a verb is carried out: where to, who hears of it, when to stop, and the command that results name."""

    out: Path | None = None
    fresh: bool = False
    command: str = ""
    report: Reporter = field(default_factory=Reporter)
    stop: Stop = field(default_factory=Stop)


def teach(recipe: TeachRecipe, options: Options) -> Finished:
    """Train an ANN teacher and measure it; a finished run is returned as it is."""
    device = pick_device(recipe.execution.device)
    return _run_stage(recipe, options, device, load_data(recipe.data, options.report), None)


def distill(recipe: DistillRecipe, options: Options) -> Finished:
    """Train a spiking student, from a teacher where the loss has one, and measure it at every timestep."""
    device = pick_device(recipe.execution.device)
    data = load_data(recipe.data, options.report)
    if not needs_teacher(recipe.loss):
        return _run_stage(dataclasses.replace(recipe, teacher=TeacherConfig()), options, device, data, None)
    teacher = find_teacher(recipe, data, options.report)
    fixed = TeacherConfig(run=str(teacher.folder), sha256=teacher.sha256)
    return _run_stage(dataclasses.replace(recipe, teacher=fixed), options, device, data, teacher)


def _run_stage(recipe: StageRecipe, options: Options, device: torch.device, data: ImageSet, teacher: Loaded | None) -> Finished:
    """Open the run directory, train there, save the network, measure it; result.json comes last."""
    report, execution = options.report, recipe.execution
    _check_request(recipe, data)
    same = identity(recipe, data.sha256, teacher.sha256 if teacher else None)
    folder = options.out or runs_folder() / run_name(recipe, same)
    prepare(folder, same, options.fresh, report)
    if is_finished(folder):
        report.note(f"already done: {folder}")
        return Finished(folder, read_result(folder))
    judged = judge_teacher(teacher, data, execution, device, report) if teacher else None
    with Lock(folder):
        needs = same_bytes_need(execution, device)
        if (folder / LAST).exists() or (folder / PREVIOUS).exists():
            began = began_with(folder)
            check_needs(folder, began, needs)
            needs = began
        else:
            begin(folder, recipe, same, needs, options.command)
        torch.set_num_threads(int(needs["threads"]))
        report.note(f"run: {folder}")
        network = _fresh_network(recipe, data).to(device)
        position = train(_job(recipe, network, data, teacher, device, folder, options))
        about = {
            "stage": recipe.stage,
            "seed": recipe.seed,
            "recipe_hash": recipe_hash(same),
            "loss": to_plain(recipe.loss) if isinstance(recipe, DistillRecipe) else None,
            "selection": {"rule": recipe.train.select, "epoch": position.best_epoch or recipe.train.epochs},
            "data": to_plain(recipe.data),
            "data_sha256": data.sha256,
            "teacher": judged,
            "seconds": round(position.seconds, 2),
        }
        save_network(folder, network, about)
        result = _measure(load_network(folder), folder, data, EvalConfig(), execution, device, options)
        write_json(folder / RESULT, result)
        if not execution.keep_state:
            remove_state(folder)
    report.note(_last_line(result))
    return Finished(folder, result)


def _check_request(recipe: StageRecipe, data: ImageSet) -> None:
    """What can only be checked with the data in hand."""
    if recipe.train.select == "best" and data.val is None:
        raise RequestError("train.select: best needs validation images; set data.val_fraction above 0")
    if recipe.train.batch_size > len(data.train):
        raise RequestError(f"train.batch_size: {recipe.train.batch_size} is above the number of training images, {len(data.train)}")


def _fresh_network(recipe: StageRecipe, data: ImageSet) -> Network:
    """The recipe's network, initialised from the run's own stream, normalising by the training images."""
    neuron = recipe.neuron if isinstance(recipe, DistillRecipe) else None
    specification = Specification(model=recipe.model, neuron=neuron, classes=data.classes, shape=data.shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(recipe.seed, "initialisation"))
        network = build_network(specification)
    mean, std = data.channel_statistics()
    network.mean.copy_(torch.tensor(mean))
    network.std.copy_(torch.tensor(std))
    return network


def _job(
    recipe: StageRecipe,
    network: Network,
    data: ImageSet,
    teacher: Loaded | None,
    device: torch.device,
    folder: Path,
    options: Options,
) -> Job:
    train_config, execution = recipe.train, recipe.execution
    loss = recipe.loss if isinstance(recipe, DistillRecipe) else LossConfig()
    val = data.val

    def validate() -> float:
        assert val is not None
        return accuracy(network, measure_batches(val, execution.eval_batch_size, device), network.specification.T)

    return Job(
        network=network,
        teacher=frozen(teacher, device) if teacher else None,
        objective=make_objective(loss, train_config.label_smoothing),
        batches=TrainBatches(data.train, train_config.batch_size, recipe.data.augment, recipe.seed, device),
        train=train_config,
        execution=execution,
        seed=recipe.seed,
        device=device,
        folder=folder,
        validate=validate if val is not None else None,
        stop=options.stop,
        report=options.report,
    )


def _last_line(result: dict[str, Any]) -> str:
    end = result["curve"][-1]
    rate = "" if result["rate"] is None else f", rate {result['rate']:.3f}"
    return f"{result['split']} accuracy {end['top1']:.2f} % at t = {end['t']}{rate}"


def _eval_file(settings: EvalConfig, trained_T: int) -> str | None:
    """The name under RUN/eval for settings other than the run's own; None for those."""
    T = settings.T or trained_T
    return None if settings.split == "test" and trained_T == T else f"{settings.split}-T{T}.json"


def evaluate(folder: Path, settings: EvalConfig, options: Options, execution: ExecutionConfig | None = None) -> dict[str, Any]:
    """Measure the network of a run or an export at every timestep; never answers from result.json.

    Settings other than the run's own are also written to RUN/eval/<settings>.json.
    """
    execution = execution or ExecutionConfig()
    device = pick_device(execution.device)
    loaded = load_network(folder)
    trained_T = loaded.network.specification.T
    if settings.T is not None and loaded.network.specification.kind == "ann" and settings.T != 1:
        raise RequestError(f"--T {settings.T}: {folder} is a teacher, which has no timesteps")
    result = _measure(loaded, folder, _data_of(loaded, options.report), settings, execution, device, options)
    name = _eval_file(settings, trained_T)
    if name:
        try:
            (folder / "eval").mkdir(exist_ok=True)
            write_json(folder / "eval" / name, result)
        except OSError as error:
            raise PlaceError(f"{folder / 'eval' / name}: {reason(error)}") from error
    return result


def evaluate_all(
    folders: Sequence[Path] | None,
    latest: bool,
    settings: EvalConfig,
    execution: ExecutionConfig,
    options: Options,
    plot: Path | None = None,
) -> list[dict[str, Any]]:
    """`evaluate` each of `folders` (without any, the one finished student), and draw them into `plot`."""
    pick_device(execution.device)
    if plot:
        check_plot_path(plot)
    chosen = list(folders or [_the_student(latest)])
    results = [evaluate(folder, settings, options, execution) for folder in chosen]
    if plot:
        plot_curves(group_by_seed(results), plot)
        options.report.note(f"drawn: {plot}")
    return results


def _the_student(latest: bool) -> Path:
    absent = f"no finished student under {runs_folder()}; run `snnkd distill` first, or name a run"
    return choose(finished_runs("distill"), "student", latest, "--latest", absent).folder


def _measure(
    loaded: Loaded, folder: Path, data: ImageSet, settings: EvalConfig, execution: ExecutionConfig, device: torch.device, options: Options
) -> dict[str, Any]:
    network, about = loaded.network.to(device), loaded.config
    split, trained_T = data.split(settings.split), network.specification.T
    batches = measure_batches(split, execution.eval_batch_size, device)
    start = time.monotonic()
    curve = measure_curve(network, batches, settings.T or trained_T, partial(options.stop.check, "while measuring"))
    return make_result(
        curve,
        {
            "run": str(folder),
            "stage": about.get("stage"),
            "seed": about.get("seed"),
            "recipe_hash": about.get("recipe_hash"),
            "data": data.name,
            "split": settings.split,
            "selection": about.get("selection"),
            "trained_T": trained_T if network.specification.kind == "snn" else None,
            "model": to_plain(network.specification.model),
            "loss": about.get("loss"),
            "teacher": about.get("teacher"),
            "weights_sha256": loaded.sha256,
            "data_sha256": data.sha256,
            "parameters": sum(p.numel() for p in network.parameters()),
            "command": options.command,
            "versions": versions(),
            "hardware": hardware(device),
            "seconds": {"train": about.get("seconds"), "eval": round(time.monotonic() - start, 2)},
        },
    )


def _data_of(loaded: Loaded, report: Reporter) -> ImageSet:
    """The data that a network was trained on, as its config.json names it."""
    section = loaded.config.get("data")
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
    _check_target(target, force)
    images = check_export.sample(_data_of(loaded, options.report).test)
    draft = target.with_name(f".{target.name}.draft")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        about = {
            k: loaded.config.get(k)
            for k in ("stage", "seed", "recipe_hash", "loss", "selection", "data", "data_sha256", "teacher", "seconds")
        }
        safetensors_export.write(draft, loaded, about)
        found = check_export.compare(loaded.network, safetensors_export.read_back(draft), images)
        if found.max_difference > safetensors_export.TOLERANCE:
            raise WorkError(f"{target}: the export differs from {folder} by {found.max_difference:.3g}; it was removed")
        shutil.rmtree(target, ignore_errors=True)
        draft.rename(target)
    except OSError as error:
        raise PlaceError(f"{target}: cannot be written: {reason(error)}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    T = loaded.network.specification.T
    return {"schema": 1, "run": str(folder), "format": format, "path": str(target), "T": T, **dataclasses.asdict(found)}


def _check_target(target: Path, force: bool) -> None:
    if not target.exists():
        return
    if not force:
        raise RequestError(f"--out {target}: exists; choose another place, or --force to replace it")
    held = {path.name for path in target.iterdir()} if target.is_dir() else {"a file"}
    if held - {"model.safetensors", "config.json"}:
        raise RequestError(f"--out {target}: holds other things than an export; --force replaces only an export")


def run(pipeline: Pipeline, options: Options) -> list[Finished]:
    """The stages that a recipe names, in the same directories as the single commands; finished ones are not repeated."""
    done: list[Finished] = []
    for stage in (pipeline.teach, pipeline.distill):
        if stage:
            pick_device(stage.execution.device)
    if pipeline.teach:
        done.append(teach(pipeline.teach, options))
    if pipeline.distill:
        student = pipeline.distill
        if pipeline.teach and student.teacher.run is None:
            student = dataclasses.replace(student, teacher=TeacherConfig(run=str(done[0].folder)))
        done.append(distill(student, options))
    if not done:
        raise RequestError("the recipe names no stage; it needs a section teach or distill")
    _measure_and_export(done[-1], pipeline, options)
    return done


def _measure_and_export(last: Finished, pipeline: Pipeline, options: Options) -> None:
    """The eval and export sections for the last stage's run; what stands there already is not made again."""
    stage = pipeline.distill or pipeline.teach
    if pipeline.eval and stage:
        name = _eval_file(pipeline.eval, last.result["trained_T"] or 1)
        if name and not (last.folder / "eval" / name).exists():
            options.report.note(_last_line(evaluate(last.folder, pipeline.eval, options, stage.execution)))
    for format in pipeline.export.formats if pipeline.export else ():
        if not (last.folder / "export" / format).exists():
            found = export(last.folder, format, None, False, options)
            options.report.note(f"exported to {found['path']} (agreement {found['agreement']:.4f})")
