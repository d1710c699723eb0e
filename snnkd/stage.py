"""One run in its directory: checked, locked, trained, saved, measured, finished."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from snnkd import distributed
from snnkd.data import check_fit
from snnkd.environment import device_line
from snnkd.errors import FileError, UsageError, counted
from snnkd.files import RUN, write_json
from snnkd.limits import check_threads
from snnkd.losses.objective import Objective
from snnkd.measure.network import measure_network, summary_line
from snnkd.measure.plot import group_by_seed, plot_curves
from snnkd.measure.result import ResultDict
from snnkd.models import Network
from snnkd.models.files import LoadedNetwork, load_network, save_network
from snnkd.runs.find import Finished
from snnkd.runs.folder import RESULT, is_finished, read_result, recipe_hash, runs_folder
from snnkd.runs.lock import Lock, check_free, record_done, retry_when_free, warn_of_local_locks
from snnkd.runs.metrics import read_metrics
from snnkd.runs.open import (
    begin,
    check_folder,
    check_same_data,
    read_resumed,
    record_resumed,
    set_aside,
    sweep_run,
)
from snnkd.runs.reproducibility import (
    Reproducibility,
    check_resumable,
    recorded_reproducibility,
    reproducibility,
)
from snnkd.schema.fields import to_plain
from snnkd.schema.run import DistillRecipe, EvalConfig
from snnkd.teachers import evaluate_teacher
from snnkd.training.checkpoint import has_state, remove_state
from snnkd.training.compiling import decide
from snnkd.training.loop import train
from snnkd.training.setup import Stage, check_execution, initial_network, initial_objective
from snnkd.training.tracking import tracking
from snnkd.training.train_state import Progress

PLOT = "plot.png"
"""Picture of a finished run in its directory."""
_training = threading.RLock()
"""Random numbers and CPU threads of torch belong to the process, which trains one run at a time."""
FEW_STEPS = 300
"""Fewer steps are warned of."""


def run_stage(stage: Stage) -> Finished:
    """Train and measure; an unfinished run is resumed, a finished one returned.

    If another process has locked the run, raises RunLocked, or with `context.wait` waits for it and raises
    Preempted after `execution.wait` seconds. Raises UsageError while another thread trains.
    """
    context, seconds = stage.context, stage.recipe.execution.wait
    if not _training.acquire(blocking=False):
        raise UsageError("another thread of this process is training; start a process for each run")
    try:
        if not context.wait:
            return _run_now(stage)
        return retry_when_free(
            partial(_run_now, stage), stage.folder, seconds, context.stop.check, context.console
        )
    finally:
        _training.release()


def _run_now(stage: Stage) -> Finished:
    recipe, context = stage.recipe, stage.context
    check_fit(recipe.train, stage.data, recipe.data.augment)
    check_execution(recipe.train, recipe.execution, stage.device)
    if len(set(distributed.all_gather(recipe_hash(stage.identity)))) > 1:
        raise FileError(
            "the processes of this job have different data, teachers or requests; "
            "give all machines the same files and command"
        )
    finished = _check_run(stage)
    if finished is not None:
        record_done(stage.folder)
        return finished
    teacher_result = None
    if stage.teacher is not None:
        teacher_result = evaluate_teacher(
            stage.teacher, stage.data, recipe.execution, stage.device, context.console
        )
    network = initial_network(stage).to(stage.device)
    objective = initial_objective(stage, network)
    if context.fresh:  # after everything that may refuse the request
        set_aside(stage.folder, context.console)
    threads = torch.get_num_threads()
    try:
        with Lock(stage.folder), distributed.peer_failures():  # an exited rank is no failure of the run
            return _find_finished(stage) or _train_and_measure(stage, teacher_result, network, objective)
    finally:
        torch.set_num_threads(threads)


@distributed.on_rank0
def _check_run(stage: Stage) -> Finished | None:
    """The run if it is finished. Raises the error that prevents starting or resuming it, before any work."""
    folder, context = stage.folder, stage.context
    check_folder(folder, None if context.fresh else stage.identity)
    if not context.fresh:
        if context.out is None and not (folder / RUN).exists():
            check_same_data(runs_folder(), stage.identity, to_plain(stage.recipe.data), context.console)
        if is_finished(folder):
            return _already_done(stage)
    check_free(folder)
    return None


@distributed.on_rank0
def _find_finished(stage: Stage) -> Finished | None:
    """The run if another process finished it before this one got the lock."""
    check_folder(stage.folder, stage.identity)
    return _already_done(stage) if is_finished(stage.folder) else None


def _already_done(stage: Stage) -> Finished:
    stage.context.console.log(f"already done: {stage.folder}")
    _clean(stage)  # a kill after writing the result leaves something
    return Finished(stage.folder, read_result(stage.folder))


def _train_and_measure(
    stage: Stage, teacher_result: dict[str, Any] | None, network: Network, objective: Objective
) -> Finished:
    """Train, save the network, measure it; result.json comes last and marks the run as finished."""
    recipe, context = stage.recipe, stage.context
    setup = _begin_or_resume(stage, network)
    check_threads(setup.threads, torch.get_num_threads())
    torch.set_num_threads(setup.threads)
    logged = context.console.log_into(stage.folder) if distributed.is_rank0() else nullcontext()
    with logged, tracking(stage) as trackers:
        context.console.log(f"run: {stage.folder}")
        warn_of_local_locks(stage.folder, context.console)
        context.console.log(device_line(stage.device, recipe.execution, setup.threads))
        timeout = recipe.execution.timeout  # of training: measuring has long work of rank 0
        watched = distributed.watch_launcher(timeout, context.stop.request)
        with distributed.collective_timeout(timeout), watched:
            progress = train(stage, network, objective, setup.compile, trackers.log)
        loaded = _save_network(stage, network, _network_config(stage, progress, teacher_result, setup))
        distributed.broadcast_state(loaded.network.to(stage.device).state_dict())
        result = measure_network(loaded, stage.data, EvalConfig(), recipe.execution, stage.device, context)
        _draw(stage, result)
        _finish(stage, result)
        context.console.log(summary_line(result))
        trackers.finish(result, stage.folder / PLOT)
    return Finished(stage.folder, result)


@distributed.on_rank0
def _begin_or_resume(stage: Stage, network: Network) -> Reproducibility:
    """Begin the run, or check that it can be resumed bitwise; return the setup it was started with."""
    folder, context, execution = stage.folder, stage.context, stage.recipe.execution
    sweep_run(folder)
    recorded = recorded_reproducibility(folder) if has_state(folder) else None
    if recorded and execution.compile == "auto":
        execution = replace(execution, compile=recorded.compile)
    train, images = stage.recipe.train, len(stage.data.train)
    steps = train.epochs * (images // train.batch_size)
    compile = decide(execution, network, steps * train.batch_size, stage.device)
    current = reproducibility(execution, compile, stage.device)
    if recorded is None:
        if steps < FEW_STEPS:
            context.console.log(
                f"warning: {counted(steps, 'step')} in all "
                f"({counted(train.epochs, 'epoch')} of {images // train.batch_size}): "
                "perhaps too few; raise --epochs or lower --batch-size"
            )
        begin(folder, stage.recipe, stage.identity, current, context.command)
        return current
    change = check_resumable(folder, recorded, current, stage.recipe.execution.continue_anyway)
    if change is None:
        return recorded
    context.console.log(f"warning: resumed on another setup ({change}): the last digits will differ")
    record_resumed(folder, current, change)
    return current


def _network_config(
    stage: Stage, progress: Progress, teacher_result: dict[str, Any] | None, setup: Reproducibility
) -> dict[str, Any]:
    """The provenance of a network in config.json."""
    recipe, data = stage.recipe, stage.data
    resumed = read_resumed(stage.folder) if distributed.is_rank0() else []
    return {
        "stage": recipe.stage,
        "seed": recipe.seed,
        "recipe_hash": recipe_hash(stage.identity),
        "loss": to_plain(recipe.loss) if isinstance(recipe, DistillRecipe) else None,
        "selection": {"rule": recipe.train.select, "epoch": progress.best_epoch or recipe.train.epochs},
        "data": to_plain(recipe.data),
        **({"part": data.subset} if data.subset else {}),
        "data_sha256": data.sha256,
        **({} if data.class_names is None else {"class_names": list(data.class_names)}),
        "teacher": teacher_result,
        "seconds": round(progress.seconds, 2),
        "cpu_seconds": round(progress.cpu_seconds, 2),
        "gpu_seconds": round(progress.gpu_seconds, 2) if stage.device.type == "cuda" else None,
        "precision": "bf16" if setup.bf16 else "float32",
        **({"resumed": resumed} if resumed else {}),
    }


@distributed.on_every_rank
def _save_network(stage: Stage, network: Network, config: dict[str, Any]) -> LoadedNetwork:
    """Save the network on rank 0 and read it back; other ranks, which may not see the file yet, do not."""
    if not distributed.is_rank0():
        return LoadedNetwork(network, {}, "", stage.folder)
    save_network(stage.folder, network, config)
    return load_network(stage.folder)


@distributed.on_rank0
def _draw(stage: Stage, result: ResultDict) -> None:
    """Draw the picture of the run. The result does not depend on it: any error is a warning."""
    try:
        plot_curves(group_by_seed([result]), stage.folder / PLOT, read_metrics(stage.folder))
    except Exception as error:  # matplotlib has errors of its own
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        stage.context.console.log(f"warning: {PLOT} was not drawn ({reason})")


@distributed.on_rank0
def _finish(stage: Stage, result: ResultDict) -> None:
    write_json(stage.folder / RESULT, result)
    _clean(stage)


def _clean(stage: Stage) -> None:
    """Remove what a finished run does not need."""
    sweep_run(stage.folder)
    if not stage.recipe.execution.keep_state:
        remove_state(stage.folder)
