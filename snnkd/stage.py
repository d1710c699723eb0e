"""One stage of work in one run directory: opened, trained, saved, measured."""

from __future__ import annotations

import inspect
import math
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from snnkd import distributed
from snnkd.catalog.neurons import NOT_CAUSAL, is_causal
from snnkd.context import RunContext
from snnkd.data import ImageSet, check_fit
from snnkd.data.loader import TrainBatches, measure_batches
from snnkd.errors import FileError, RunError, UsageError
from snnkd.files import write_json
from snnkd.losses.objective import NetworkInfo, Objective, make_objective
from snnkd.measure.cost import macs_as_ann
from snnkd.measure.curve import accuracy, measure_curve
from snnkd.measure.logits import save_logits
from snnkd.measure.result import make_result
from snnkd.models import Network, Specification, build_network
from snnkd.models.activation import neuron_parameters
from snnkd.models.blocks import enable_recompute
from snnkd.models.features import feature_shapes
from snnkd.models.files import LoadedNetwork, load_network, save_network
from snnkd.models.libraries import LibraryNetwork, check_image_size
from snnkd.runs.find import Finished
from snnkd.runs.folder import (
    RESULT,
    RUN,
    identity,
    is_finished,
    read_result,
    recipe_hash,
    run_name,
    runs_folder,
)
from snnkd.runs.lock import Lock, check_free, in_turn
from snnkd.runs.open import (
    begin,
    check_folder,
    check_resumable,
    check_same_data,
    recorded_requirements,
    set_aside,
)
from snnkd.schema.fields import to_plain
from snnkd.schema.loss import LossConfig
from snnkd.schema.run import DistillRecipe, EvalConfig, ExecutionConfig, StageRecipe
from snnkd.seeds import derive
from snnkd.teachers import evaluate_teacher, frozen
from snnkd.training.checkpoint import LAST, PREVIOUS, remove_state
from snnkd.training.compiling import Mode, compile_neurons, compiler, decide
from snnkd.training.environment import check_execution, hardware, reproducibility_requirements, versions
from snnkd.training.loop import Job, train


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage with all that it needs at hand; its run directory follows from recipe, data and teacher."""

    recipe: StageRecipe
    data: ImageSet
    teacher: LoadedNetwork | None
    device: torch.device
    context: RunContext

    @property
    def identity(self) -> dict[str, Any]:
        return identity(self.recipe, self.data.sha256, self.teacher.sha256 if self.teacher else None)

    @property
    def folder(self) -> Path:
        return folder_of(self.recipe, self.identity, self.context)


def folder_of(recipe: StageRecipe, same: dict[str, Any], context: RunContext) -> Path:
    """`--out`, else the directory named by what makes the run this run."""
    return context.out or runs_folder() / run_name(recipe, same)


def run_stage(stage: Stage) -> Finished:
    """Carry the stage out; a finished run is returned as it is, an unfinished one continued.

    Raises Held when another process holds the run; with `context.wait` it is waited for, as long as execution.wait says.
    """
    context, seconds = stage.context, stage.recipe.execution.wait
    if not context.wait:
        return _attempt(stage)
    return in_turn(partial(_attempt, stage), stage.folder, seconds, context.stop.check, context.console)


def _attempt(stage: Stage) -> Finished:
    """Carry it out now. Of several processes the first alone looks at the folder and writes there."""
    recipe, context = stage.recipe, stage.context
    check_fit(recipe.train, stage.data, recipe.data.augment)
    check_execution(recipe.train, recipe.execution, stage.device)
    if len(set(distributed.all_gather(recipe_hash(stage.identity)))) > 1:
        raise FileError(
            "the processes of this job have different data, teachers or requests; give all machines the same files and command"
        )
    done = distributed.on_rank0(partial(_look_first, stage))
    if done is not None:
        return done
    judged = (
        evaluate_teacher(stage.teacher, stage.data, recipe.execution, stage.device, context.console)
        if stage.teacher
        else None
    )
    network = first_network(recipe, stage.data, stage.teacher).to(stage.device)
    objective = make_stage_objective(stage, network)
    own_threads = torch.get_num_threads()
    try:
        with ExitStack() as held:
            done = distributed.on_rank0(partial(_take, stage, held))
            with distributed.peer_failures():  # that another process is gone is no failure of the run
                return done or _work(stage, judged, network, objective)
    finally:
        torch.set_num_threads(own_threads)


def _look_first(stage: Stage) -> Finished | None:
    """Whether the run is done already, before any work. Raises what keeps it from being begun or continued."""
    folder, context = stage.folder, stage.context
    check_folder(folder, None if context.fresh else stage.identity)
    if context.out is None and not context.fresh and not (folder / RUN).exists():
        check_same_data(runs_folder(), stage.identity, to_plain(stage.recipe.data))
    if is_finished(folder) and not context.fresh:
        return _already_done(stage)
    check_free(folder)
    return None


def _take(stage: Stage, held: ExitStack) -> Finished | None:
    """Take the run's lock until `held` ends, and look again."""
    if stage.context.fresh:  # last of all that can be refused
        set_aside(stage.folder, stage.context.console)
    held.enter_context(Lock(stage.folder))
    check_folder(stage.folder, stage.identity)  # again: only now is it ours
    return _already_done(stage) if is_finished(stage.folder) else None


def _already_done(stage: Stage) -> Finished:
    stage.context.console.log(f"already done: {stage.folder}")
    if not stage.recipe.execution.keep_state:
        remove_state(stage.folder)  # a kill between the result and their removal leaves them
    return Finished(stage.folder, read_result(stage.folder))


def _work(stage: Stage, judged: dict[str, Any] | None, network: Network, objective: Objective) -> Finished:
    """Train, save the network, measure it; result.json comes last and says that the run is finished."""
    recipe, data, folder, context = stage.recipe, stage.data, stage.folder, stage.context
    needs = distributed.on_rank0(partial(_open, stage, network))
    torch.set_num_threads(int(needs["threads"]))
    context.console.log(f"run: {folder}")
    position = train(make_job(stage, network, objective, needs["compile"]))
    compile_neurons(network, False)  # all processes measure alike
    about = {
        "stage": recipe.stage,
        "seed": recipe.seed,
        "recipe_hash": recipe_hash(stage.identity),
        "loss": to_plain(recipe.loss) if isinstance(recipe, DistillRecipe) else None,
        "selection": {"rule": recipe.train.select, "epoch": position.best_epoch or recipe.train.epochs},
        "data": to_plain(recipe.data),
        **({"part": data.subset} if data.subset else {}),
        "data_sha256": data.sha256,
        "teacher": judged,
        "seconds": round(position.seconds, 2),
        "precision": "bf16" if needs["bf16"] else "float32",
    }
    written: list[LoadedNetwork] = []
    distributed.on_rank0(lambda: written.append(_saved(folder, network, about)))
    # the other processes measure the same weights without looking for a file that another machine has just written
    loaded = written[0] if written else LoadedNetwork(network, {}, "", folder)
    distributed.broadcast_state(loaded.network.to(stage.device).state_dict())
    result = measure_network(loaded, data, EvalConfig(), recipe.execution, stage.device, context)
    distributed.on_rank0(partial(_finish, stage, result))
    context.console.log(last_line(result))
    return Finished(folder, result)


def _saved(folder: Path, network: Network, about: dict[str, Any]) -> LoadedNetwork:
    save_network(folder, network, about)
    return load_network(folder)


def _finish(stage: Stage, result: dict[str, Any]) -> None:
    write_json(stage.folder / RESULT, result)
    if not stage.recipe.execution.keep_state:
        remove_state(stage.folder)


def _open(stage: Stage, network: Network) -> dict[str, Any]:
    """Begin the run, or check that continuing it here gives the same bytes; returns what they need."""
    folder, context, execution = stage.folder, stage.context, stage.recipe.execution
    began = (
        recorded_requirements(folder) if (folder / LAST).exists() or (folder / PREVIOUS).exists() else None
    )
    if began and execution.compile == "auto":
        execution = replace(execution, compile=began["compile"])
        if stage.device.type == "cpu" and execution.compile != "off" and compiler() is None:
            raise UsageError(
                f"{folder}: began compiled ({execution.compile}), and no C++ compiler is here; continue where there is one, or --fresh"
            )
    train, images = stage.recipe.train, len(stage.data.train)
    seen = train.epochs * (images // train.batch_size) * train.batch_size
    now = reproducibility_requirements(
        replace(execution, compile=decide(execution, network, seen, stage.device)), stage.device
    )
    if began is None:
        begin(folder, stage.recipe, stage.identity, now, context.command)
        return now
    check_resumable(folder, began, now)
    if began["processes"] != now["processes"]:
        context.console.log(
            f"began with processes: {began['processes']}, continuing with {now['processes']}: the last digits will differ"
        )
        return {**began, "threads": now["threads"]}
    return began


def fresh_network(recipe: StageRecipe, data: ImageSet) -> Network:
    """The recipe's network, initialised from the run's own stream, normalising by the training images."""
    neuron = recipe.neuron if isinstance(recipe, DistillRecipe) else None
    specification = Specification(
        model=recipe.model, neuron=neuron, classes=data.classes, shape=data.shape, frames=data.frames
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(recipe.seed, "initialisation"))
        network = build_network(specification)
    mean, std = data.channel_statistics()
    network.mean.copy_(torch.tensor(mean))
    network.std.copy_(torch.tensor(std))
    return network


def first_network(recipe: StageRecipe, data: ImageSet, teacher: LoadedNetwork | None) -> Network:
    """`fresh_network`, or with `train.init: teacher` one with the teacher's weights. Raises UsageError for another architecture."""
    network = fresh_network(recipe, data)
    if isinstance(network.body, LibraryNetwork):
        check_image_size(network, network.specification.batch_shape(2), f"data.size: {recipe.model.name}")
    if recipe.train.init == "teacher":
        assert teacher is not None
        ours, theirs = network.body.state_dict(), teacher.network.body.state_dict()
        theirs |= {key: ours[key] for key in neuron_parameters(network.body)}  # an ANN has none
        if {key: value.shape for key, value in ours.items()} != {
            key: value.shape for key, value in theirs.items()
        }:
            name = teacher.network.specification.model.name
            raise UsageError(
                f"train.init: teacher: the teacher is a {name}, the student a {recipe.model.name} with other weights; "
                f"use --model {name} with the teacher's width"
            )
        network.body.load_state_dict(theirs)
    if recipe.execution.activation_checkpointing and not enable_recompute(network):
        raise UsageError(
            f"execution.activation_checkpointing: {recipe.model.name} has no blocks to compute again; set it to false"
        )
    return network


def make_stage_objective(stage: Stage, network: Network) -> Objective:
    """The objective of the stage's loss; aligners draw their first weights from a stream of their own."""
    recipe, teacher = stage.recipe, stage.teacher.network if stage.teacher else None
    loss = recipe.loss if isinstance(recipe, DistillRecipe) else LossConfig()
    features = any(hasattr(term, "feature") for term in loss.terms)
    surroundings = NetworkInfo(
        classes=stage.data.classes,
        student=_features_of(network) if features else {},
        teacher=_features_of(teacher.to(stage.device)) if features and teacher else {},
        teacher_head=getattr(teacher.body, "head", None) if teacher else None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(recipe.seed, "aligner"))
        return make_objective(loss, recipe.train.label_smoothing, surroundings).to(stage.device)


def _features_of(network: Network) -> dict[str, tuple[int, ...]]:
    """By name, with shapes; nothing where the network is the user's own and its forward takes no `features`."""
    offers = "features" in inspect.signature(network.body.forward).parameters
    return (
        feature_shapes(network, network.specification.shape, network.specification.frames) if offers else {}
    )


def make_job(stage: Stage, network: Network, objective: Objective, compile: Mode = "off") -> Job:
    """Everything that training this stage needs; `compile` is what of the network is compiled."""
    recipe, device, val = stage.recipe, stage.device, stage.data.val
    execution = replace(recipe.execution, compile=compile)

    def validate(network: Network) -> float:
        assert val is not None
        return accuracy(
            network, measure_batches(val, execution.eval_batch_size, device), network.specification.T
        )

    return Job(
        network=network,
        teacher=frozen(stage.teacher, device)
        if stage.teacher and isinstance(recipe, DistillRecipe) and recipe.loss.needs_teacher
        else None,
        objective=objective,
        batches=TrainBatches(
            stage.data.train,
            recipe.train.batch_size,
            recipe.data.augment,
            recipe.seed,
            device,
            stage.data.classes,
        ),
        train=recipe.train,
        execution=execution,
        seed=recipe.seed,
        device=device,
        folder=stage.folder,
        validate=validate if val is not None else None,
        stop=stage.context.stop,
        console=stage.context.console,
    )


def measure_network(
    loaded: LoadedNetwork,
    data: ImageSet,
    settings: EvalConfig,
    execution: ExecutionConfig,
    device: torch.device,
    context: RunContext,
    logits: Path | None = None,
) -> dict[str, Any]:
    """The result object of a network on a split of `data`, whose logits are also written to `logits`.

    Raises Preempted or Interrupted between batches when asked.
    """
    network, about = loaded.network.to(device), loaded.config
    spiking, trained_T = network.specification.kind == "snn", network.specification.T
    if data.frames and spiking and (settings.T or 0) > data.frames:
        raise UsageError(
            f"--T {settings.T}: every timestep sees a frame of its own, and {data.name} has {data.frames} (data.frames)"
        )
    batches = measure_batches(data.split(settings.split), execution.eval_batch_size, device)
    context.stop.check_together("before measuring")
    start = time.monotonic()
    neuron = network.specification.neuron
    if not is_causal(neuron):
        context.console.log(f"{NOT_CAUSAL}: t = {trained_T} alone is measured")
    curve = measure_curve(
        network, batches, settings.T or trained_T, partial(context.stop.check, "while measuring")
    )
    if not all(
        math.isfinite(entry["nll"] or 0.0) for entry in curve.entries
    ):  # weights may be finite and yet too large
        raise RunError(
            f"{loaded.folder}: the network's answers are not finite; lower train.lr or the loss weights"
        )
    measured = f"{loaded.sha256}{'+recalibrated' if settings.recalibrate_bn else ''}"
    if logits:
        distributed.on_rank0(lambda: save_logits(logits, curve, measured, data.sha256, settings.split))
    return make_result(
        curve,
        {
            "run": str(loaded.folder),
            **{key: about.get(key) for key in ("stage", "seed", "recipe_hash")},
            "data": data.name,
            **({"part": data.subset} if data.subset else {}),
            "split": settings.split,
            **({"data_split": data.split_rule} if data.split_rule else {}),
            "trained_T": trained_T if spiking else None,
            "model": to_plain(network.specification.model),
            "neuron": None if neuron is None else to_plain(neuron),
            **(
                {}
                if is_causal(neuron)
                else {"curve_note": f"{NOT_CAUSAL}; the curve has its last entry alone"}
            ),
            **{key: about.get(key) for key in ("loss", "selection", "teacher", "precision")},
            "weights_sha256": loaded.sha256,
            "data_sha256": data.sha256,
            "parameters": sum(p.numel() for p in network.parameters()),
            "command": context.command,
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "versions": versions(),
            "hardware": hardware(device),
            "seconds": {"train": about.get("seconds"), "eval": round(time.monotonic() - start, 2)},
        },
        macs_as_ann(network.specification) if spiking else None,
    )


def last_line(result: dict[str, Any]) -> str:
    """A result in one line: the accuracy after the last timestep, and the rate."""
    end = result["curve"][-1]
    rate = "" if result["rate"] is None else f", rate {result['rate']:.3f}"
    return f"{result['split']} accuracy {end['top1']:.2f} % at t = {end['t']}{rate}"
