"""The training loop, one for teacher and student."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any

import torch

from snnkd import distributed
from snnkd.console import Clock, duration
from snnkd.data.loader import TrainBatches, measure_batches
from snnkd.losses.objective import Objective
from snnkd.measure.curve import accuracy
from snnkd.models import Network
from snnkd.runs.metrics import append_metrics
from snnkd.schema.run import DistillRecipe
from snnkd.seeds import derive
from snnkd.training import firing_rates
from snnkd.training.compiling import Mode, compile_for_training
from snnkd.training.malloc import keep_freed_memory
from snnkd.training.optimizer import clip_gradients, set_learning_rate
from snnkd.training.setup import Stage
from snnkd.training.step import Teacher, TrainStep, data_parallel, gradient_sync, micro_batches
from snnkd.training.train_state import Progress, TrainState

_SAVE, _STOP = 1, 2
"""What a rank wants before a step; the highest of all ranks counts."""


def train(
    stage: Stage,
    network: Network,
    objective: Objective,
    compile: Mode = "off",
    track: Callable[[], None] = lambda: None,
) -> Progress:
    """Train `network` in place, from its newest checkpoint if there is one; return the final progress.

    Writes a checkpoint after every epoch, every `execution.save_every` minutes and on a request to stop;
    calls `track` after every epoch. Raises Preempted or Interrupted after saving, RunError for a non-finite
    loss (the last checkpoint remains), FileError for damaged checkpoints.
    """
    recipe, device, context = stage.recipe, stage.device, stage.context
    epochs, accumulate = recipe.train.epochs, recipe.execution.accumulate
    batches = make_batches(stage)
    teacher = make_teacher(stage, objective)
    state = TrainState(stage, network, objective, batches.steps)
    optimizer, ema = state.optimizer, state.ema
    state.resume()
    progress, start = state.progress, state.progress.epoch * batches.steps + state.progress.step
    warned: dict[str, list[str]] = {}
    if device.type == "cpu" and recipe.execution.keep_memory:
        keep_freed_memory()

    with (
        compile_for_training(network, compile) as compiled,
        context.console.bar("training", epochs * batches.steps, start) as bar,
    ):
        train_step = data_parallel(
            TrainStep(network, objective, recipe, compiled), device, recipe.execution.sync_norm
        )
        for epoch in range(progress.epoch, epochs):
            epoch_clock, images_before = Clock(), state.metrics.images
            train_step.train()
            bar.describe(f"epoch {epoch + 1}/{epochs}")
            for step in range(progress.step, batches.steps):
                global_step = epoch * batches.steps + step
                save_or_stop(state, stepped=global_step > start)
                # random numbers of network and loss depend only on (seed, epoch, step), like the batch
                torch.manual_seed(derive(recipe.seed, "noise", epoch, step))
                batch_images, batch_labels = batches.batch(epoch, step)
                set_learning_rate(optimizer, recipe.train, global_step, batches.steps)
                optimizer.zero_grad(set_to_none=True)
                losses = []
                last_step = step == batches.steps - 1
                with firing_rates.watch(network, on=last_step) as rates:
                    for images, labels, last in micro_batches(batch_images, batch_labels, accumulate):
                        with gradient_sync(train_step, on=last):
                            loss = train_step(images, labels, teacher(images), epoch, hooked=last_step)
                            (loss.total / accumulate).backward()
                        losses.append(loss)
                gradient_norm = clip_gradients(optimizer, recipe.train.clip_grad_norm)
                optimizer.step()
                if ema is not None:
                    ema.update(network, global_step + 1)
                state.metrics.add(losses, gradient_norm)
                if device.type == "cpu":  # on a GPU this would wait for the step
                    state.metrics.check_finite(epoch)
                progress.step += 1
                bar.advance()
                if bar.is_due():
                    images_per_s = (state.metrics.images - images_before) / epoch_clock.seconds()
                    bar.describe(step_line(epoch, epochs, state.metrics.means(), images_per_s))
            state.metrics.check_finite(epoch)
            layer_rates = {name: float(rate) for name, rate in rates.items()}
            warned = firing_rates.warn(layer_rates, warned, epoch, context.console)
            images_per_s = (state.metrics.images - images_before) / epoch_clock.seconds()
            finish_epoch(state, layer_rates, images_per_s)
            track()
    state.load_final_weights()
    state.count_seconds()
    return progress


def make_batches(stage: Stage) -> TrainBatches:
    """The training batches, augmented and in order, on the stage's device."""
    recipe, data = stage.recipe, stage.data
    return TrainBatches(
        data.train, recipe.train.batch_size, recipe.data.augment, recipe.seed, stage.device, data.classes
    )


def make_teacher(stage: Stage, objective: Objective) -> Teacher:
    """The frozen teacher with the features that the objective compares; empty if the loss needs none."""
    network = None
    if stage.teacher and isinstance(stage.recipe, DistillRecipe) and stage.recipe.loss.needs_teacher:
        network = stage.teacher.network.to(stage.device)
    return Teacher(network, objective.teacher_features, stage.recipe.execution)


def save_or_stop(state: TrainState, stepped: bool) -> None:
    """Save if a checkpoint is due; save and raise Preempted or Interrupted if any rank is to stop.

    A rank stops for a signal, and for the time limit once this command has `stepped`, so that even with a
    short limit each repetition makes progress.
    """
    stop, progress = state.stage.context.stop, state.progress
    stops = bool(stop.reason and (stop.requested or stepped))
    wanted = distributed.highest(_STOP if stops else _SAVE if stepped and state.is_save_due() else 0)
    if wanted:
        state.metrics.check_finite(progress.epoch)
        state.save()
    if wanted == _STOP:
        epochs = state.stage.recipe.train.epochs
        raise stop.error_together(
            f"in epoch {progress.epoch + 1} of {epochs}, after step {progress.step} of {state.steps}"
        )


def finish_epoch(state: TrainState, rates: dict[str, float], images_per_s: float) -> dict[str, Any]:
    """Validate, append the epoch's row to metrics.jsonl, save a checkpoint; return the row."""
    stage, train, progress = state.stage, state.stage.recipe.train, state.progress
    row: dict[str, Any] = {
        "epoch": progress.epoch + 1,
        **state.metrics.means(),
        "lr": state.optimizer.param_groups[0]["lr"],
    }
    if rates:
        row |= {"rate": statistics.fmean(rates.values()), **firing_rates.silent_or_saturated(rates)}
    if stage.data.val is not None:
        row["val_top1"] = validate(state)
        if train.select == "best":
            state.keep_best(row["val_top1"])
    weights = state.objective.weights(progress.epoch, train.epochs)
    state.count_seconds()
    row |= {"images_per_s": round(images_per_s, 1), "seconds": round(progress.seconds, 2)}
    row["cpu_seconds"] = round(progress.cpu_seconds, 2)
    state.start_epoch(progress.epoch + 1)
    # metrics first: if killed here, resuming drops the extra line; a missing line could not be restored
    append_metrics(stage.folder, row)
    state.save()
    remaining = (train.epochs - progress.epoch) * state.steps * train.batch_size / images_per_s
    stage.context.console.log(epoch_line(row, train.epochs, remaining, weights))
    return row


def validate(state: TrainState) -> float:
    """Top-1 in percent on the validation images; every rank measures rank 0's weights."""
    stage, network = state.stage, state.averaged
    assert stage.data.val is not None
    distributed.broadcast_state(network.state_dict())  # running statistics differ between ranks
    batches = measure_batches(stage.data.val, stage.recipe.execution.eval_batch_size, stage.device)
    return accuracy(network, batches, network.specification.T)


def step_line(epoch: int, epochs: int, means: dict[str, float], images_per_s: float) -> str:
    """The description of the bar within an epoch: means over its steps so far."""
    return (
        f"epoch {epoch + 1}/{epochs}  loss {means['loss']:.3f}  {means['train_top1']:.1f} %  "
        f"{images_per_s:.0f} images/s"
    )


def epoch_line(row: dict[str, Any], epochs: int, remaining: float, weights: Mapping[str, float]) -> str:
    """The log line of an epoch: at most about 150 characters, so that 300 epochs stay under 100 KB.

    The parts of a loss with terms are shown with their `weights` in this epoch, and sum to it.
    """
    val = f"  val {row['val_top1']:.2f} %" if "val_top1" in row else ""
    head = f"  w_head {row['w_head']:.3f}" if "w_head" in row else ""
    parts = [
        f"{'' if weight == 1 else f'{weight:.3g} x '}{name} {row[name]:.4f}"
        for name, weight in weights.items()
    ]
    loss = f"{row['loss']:.4f}" + (f" = {' + '.join(parts)}" if len(parts) > 1 else "")
    return (
        f"epoch {row['epoch']}/{epochs}  loss {loss}  train {row['train_top1']:.2f} %{val}{head}  "
        f"{row['images_per_s']:.0f} images/s  {duration(remaining)} left"
    )
