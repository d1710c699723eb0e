"""The training loop, one for teacher and student."""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snnkd import distributed
from snnkd.console import Clock, Console, duration
from snnkd.data.loader import TrainBatches
from snnkd.errors import RunError
from snnkd.losses.objective import Objective
from snnkd.models import Network
from snnkd.models.features import Features
from snnkd.schema.run import ExecutionConfig, TrainConfig
from snnkd.seeds import derive
from snnkd.stopping import Stop
from snnkd.training.checkpoint import load_state, save_state
from snnkd.training.ema import Average, follow, make_average
from snnkd.training.epoch_metrics import EpochMetrics
from snnkd.training.firing_rates import LayerRates, silent_or_saturated, warning
from snnkd.training.metrics import append_metrics, rewind_metrics
from snnkd.training.optimizer import learning_rate, make_optimizer
from snnkd.training.step import backward, make_learner
from snnkd.training.tensorboard import tracking


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything one training needs. `teacher` gives logits `[B, C]`, and fills in features; `validate` a percentage."""

    network: Network
    teacher: Callable[[Tensor, Features | None], Tensor] | None
    objective: Objective
    batches: TrainBatches
    train: TrainConfig
    execution: ExecutionConfig
    seed: int
    device: torch.device
    folder: Path
    validate: Callable[[Network], float] | None
    stop: Stop
    console: Console


@dataclass
class Position:
    """How far training is: epochs finished, steps into the next, seconds worked, and the best epoch's weights."""

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    best: dict[str, Tensor] | None = None
    best_top1: float = -1.0
    best_epoch: int = 0


def train(job: Job) -> Position:
    """Train `job.network` in place, from its newest checkpoint if there is one; returns where it ended.

    A checkpoint is written after every epoch and when asked to stop. Raises Preempted or Interrupted after saving,
    RunError when the loss is not finite (the last checkpoint then stays as it was), FileError for bad checkpoints.
    """
    batches, epochs = job.batches, job.train.epochs
    optimizer = make_optimizer((job.network, job.objective), job.train)
    average = make_average(job.network, job.train.ema)
    tally = EpochMetrics(job.device)
    position = _resume(job, optimizer, average, tally)
    learner = make_learner(job)
    clock, made = Clock(position.seconds), 0
    trouble: dict[str, list[str]] = {}

    bar_of = job.console.bar(
        "training", epochs * batches.steps, position.epoch * batches.steps + position.step
    )
    with bar_of as bar, tracking(job.execution.track, job.folder) as track:
        while position.epoch < epochs:
            epoch, lap, images_before = position.epoch, Clock(), tally.images
            learner.train()
            bar.describe(f"epoch {epoch + 1}/{epochs}")
            while position.step < batches.steps:
                # a time limit lets one step pass, so that a loop around a limit that is too short still comes to its end
                if distributed.any_rank(bool(job.stop.asked and (job.stop.signalled or made))):
                    tally.check_finite(epoch)
                    _save(job, optimizer, average, tally, position, clock)
                    raise job.stop.error(
                        f"in epoch {epoch + 1} of {epochs}, after step {position.step} of {batches.steps}"
                    )
                step = position.step
                # anything random inside the network or the loss is a function of (seed, epoch, step) too
                torch.manual_seed(derive(job.seed, "noise", epoch, step))
                images, labels = batches.batch(epoch, step)
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(job.train, epoch * batches.steps + step, batches.steps)
                optimizer.zero_grad(set_to_none=True)
                # the last step of an epoch is watched, which hooks do only where the network is not compiled as a whole
                watched = LayerRates(job.network) if step == batches.steps - 1 else nullcontext()
                with watched:
                    losses = backward(
                        job, learner, images, labels, epoch, plain=isinstance(watched, LayerRates)
                    )
                optimizer.step()
                if average is not None:
                    follow(average, job.network, job.train.ema, epoch * batches.steps + step + 1)
                tally.add(losses, _gradient_norm(optimizer))
                if isinstance(watched, LayerRates):
                    tally.rates = {name: float(rate) for name, rate in watched.found.items()}
                if job.device.type == "cpu":  # nothing to wait for there
                    tally.check_finite(epoch)
                position.step, made = position.step + 1, made + 1
                bar.advance()
            tally.check_finite(epoch)
            trouble = _report_layers(job, tally.rates, trouble, epoch)
            track(
                _finish_epoch(
                    job,
                    optimizer,
                    average,
                    tally,
                    position,
                    clock,
                    (tally.images - images_before) / lap.seconds(),
                )
            )
            tally = EpochMetrics(job.device)
    if average is not None:
        job.network.load_state_dict(average.module.state_dict())
    if position.best is not None:
        job.network.load_state_dict(position.best)
    position.seconds = clock.seconds()
    return position


def _gradient_norm(optimizer: torch.optim.Optimizer) -> Tensor:
    """Of all parameters together, before this step's update."""
    return nn.utils.get_total_norm(
        [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    )


def _report_layers(
    job: Job, rates: dict[str, float], before: dict[str, list[str]], epoch: int
) -> dict[str, list[str]]:
    """Say which layers are silent or saturated where that is news; returns them."""
    found = silent_or_saturated(rates)
    if found != before:
        job.console.log(warning(epoch + 1, found))
    return found


def _finish_epoch(
    job: Job,
    optimizer: torch.optim.Optimizer,
    average: Average | None,
    tally: EpochMetrics,
    position: Position,
    clock: Clock,
    rate: float,
) -> dict[str, Any]:
    """Validate, log, save; returns the epoch's row of metrics."""
    row: dict[str, Any] = {
        "epoch": position.epoch + 1,
        **tally.means(),
        "lr": optimizer.param_groups[0]["lr"],
    }
    if tally.rates:
        row |= {"rate": statistics.fmean(tally.rates.values()), **silent_or_saturated(tally.rates)}
    if job.validate is not None:
        result: Network = job.network if average is None else average.module  # type: ignore[assignment]
        distributed.broadcast_state(result.state_dict())  # norms saw other images in other processes
        row["val_top1"] = job.validate(result)
        if job.train.select == "best" and row["val_top1"] > position.best_top1:
            position.best, position.best_top1 = copy.deepcopy(result.state_dict()), row["val_top1"]
            position.best_epoch = position.epoch + 1
    row |= {"images_per_s": round(rate, 1), "seconds": round(clock.seconds(), 2)}
    position.epoch, position.step = position.epoch + 1, 0
    # the line first: a kill in between leaves a line too many, which continuing takes back, never one too few
    distributed.on_rank0(lambda: append_metrics(job.folder, row))
    _save(job, optimizer, average, EpochMetrics(job.device), position, clock)
    left = (job.train.epochs - position.epoch) * job.batches.steps * job.train.batch_size / rate
    job.console.log(_epoch_line(row, job.train.epochs, left))
    return row


def _epoch_line(row: dict[str, Any], epochs: int, left: float) -> str:
    """At most about 150 characters, so that the log of 300 epochs stays under 100 KB."""
    val = f"  val {row['val_top1']:.2f} %" if "val_top1" in row else ""
    head = f"  w_head {row['w_head']:.3f}" if "w_head" in row else ""
    return (
        f"epoch {row['epoch']}/{epochs}  loss {row['loss']:.4f}  train {row['train_top1']:.2f} %{val}{head}  "
        f"{row['images_per_s']:.0f} images/s  {duration(left)} left"
    )


def _save(
    job: Job,
    optimizer: torch.optim.Optimizer,
    average: Average | None,
    tally: EpochMetrics,
    position: Position,
    clock: Clock,
) -> None:
    state = {
        "network": job.network.state_dict(),
        "objective": job.objective.state_dict(),
        "optimizer": optimizer.state_dict(),
        "tally": tally.state(),
        "position": {**vars(position), "seconds": clock.seconds()},
    }
    if average is not None:
        state["average"] = average.state_dict()

    def save() -> None:
        _check_finite(job, position)
        save_state(job.folder, state)

    distributed.on_rank0(save)


def _check_finite(job: Job, position: Position) -> None:
    for name, tensor in [*job.network.state_dict().items(), *job.objective.state_dict().items()]:
        if not torch.isfinite(
            tensor
        ).all():  # the last step may have spoilt them after a loss that was still finite
            raise RunError(
                f"{name} is no longer finite in epoch {position.epoch + (position.step > 0)}; the last checkpoint is intact; "
                "lower train.lr or the loss weights"
            )


def _check_position(position: Position, job: Job) -> None:
    """Raise ValueError for a place that this training never comes to."""
    whole = all(isinstance(number, int) for number in (position.epoch, position.step, position.best_epoch))
    if (
        not whole
        or not 0 <= position.epoch <= job.train.epochs
        or not 0 <= position.step <= job.batches.steps
    ):
        raise ValueError(f"epoch {position.epoch}, step {position.step}")
    if not math.isfinite(position.seconds) or not isinstance(position.best_top1, float):
        raise ValueError(f"seconds {position.seconds}")
    shapes = {name: tensor.shape for name, tensor in job.network.state_dict().items()}
    if position.best is not None and {name: tensor.shape for name, tensor in position.best.items()} != shapes:
        raise ValueError("the best epoch's weights are those of another network")


def _resume(
    job: Job, optimizer: torch.optim.Optimizer, average: Average | None, tally: EpochMetrics
) -> Position:
    """Take up the newest checkpoint; the first process reads it, the others get it from there."""
    position = Position()

    def restore(state: dict[str, Any]) -> None:
        nonlocal position
        job.network.load_state_dict(state["network"])
        job.objective.load_state_dict(state["objective"])
        optimizer.load_state_dict(state["optimizer"])
        if average is not None:
            average.load_state_dict(state["average"])
        tally.restore(state["tally"])
        position = Position(**state["position"])
        _check_position(position, job)

    state = distributed.on_rank0(lambda: load_state(job.folder, job.console, restore))
    if state is None:
        distributed.on_rank0(lambda: rewind_metrics(job.folder, 0))
        return Position()
    if not distributed.is_rank0():
        restore(state)
    distributed.on_rank0(lambda: rewind_metrics(job.folder, position.epoch))
    if position.epoch < job.train.epochs:
        job.console.log(
            f"continuing in epoch {position.epoch + 1} of {job.train.epochs}, after step {position.step} of {job.batches.steps}"
        )
    return position
