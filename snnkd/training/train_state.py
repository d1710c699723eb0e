"""The training state, which a checkpoint stores completely."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snnkd import distributed
from snnkd.console import Clock
from snnkd.errors import RunError
from snnkd.losses.objective import Objective
from snnkd.models import Network
from snnkd.runs.metrics import rewind_metrics
from snnkd.training.checkpoint import load_state, save_state
from snnkd.training.ema import EMA
from snnkd.training.epoch_metrics import EpochMetrics
from snnkd.training.optimizer import make_optimizer
from snnkd.training.setup import Stage


@dataclass
class Progress:
    """Finished epochs, steps of the current epoch, seconds; for `select: best` the best epoch's weights."""

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    """Wall time."""
    cpu_seconds: float = 0.0
    """Of all threads of all processes."""
    gpu_seconds: float = 0.0
    """Wall time times the number of GPUs."""
    best: dict[str, Tensor] | None = None
    best_top1: float = -1.0
    best_epoch: int = 0


class TrainState:
    """Network, objective, optimizer, EMA, the metrics of the current epoch, and the progress."""

    def __init__(self, stage: Stage, network: Network, objective: Objective, steps: int) -> None:
        """`steps` is the number of steps of an epoch."""
        train = stage.recipe.train
        self.stage, self.network, self.objective = stage, network, objective
        self.optimizer = make_optimizer((network, objective), train)
        self.ema = EMA(network, train.ema) if train.ema else None
        self.metrics = EpochMetrics(stage.device)
        self.progress = Progress()
        self.steps = steps
        self._unsaved = Clock()
        self._start_clocks()

    def _start_clocks(self) -> None:
        self._wall, self._cpu = Clock(), Clock(time.process_time)

    def count_seconds(self) -> None:
        """Add the seconds since the last call to the progress."""
        progress, wall = self.progress, self._wall.seconds()
        progress.seconds += wall
        progress.cpu_seconds += sum(distributed.all_gather(self._cpu.seconds()))
        if self.stage.device.type == "cuda":
            progress.gpu_seconds += wall * distributed.world_size()
        self._start_clocks()

    @property
    def averaged(self) -> Network:
        """The network that is validated and saved: the EMA's if there is one."""
        return self.network if self.ema is None else self.ema.module  # type: ignore[return-value]

    def start_epoch(self, epoch: int) -> None:
        self.progress.epoch, self.progress.step = epoch, 0
        self.metrics = EpochMetrics(self.stage.device)

    def keep_best(self, top1: float) -> None:
        """Keep the current epoch's weights if its validation accuracy is the highest so far."""
        if top1 > self.progress.best_top1:
            self.progress.best, self.progress.best_top1 = copy.deepcopy(self.averaged.state_dict()), top1
            self.progress.best_epoch = self.progress.epoch + 1

    def load_final_weights(self) -> None:
        """Load the final weights into the network: the EMA's, the best epoch's, or its own."""
        if self.ema is not None:
            self.network.load_state_dict(self.ema.module.state_dict())
        if self.progress.best is not None:
            self.network.load_state_dict(self.progress.best)

    def save(self) -> None:
        """Write a checkpoint. Raises RunError, before it, for weights that are not finite."""
        self._check_finite()
        self.count_seconds()
        state = {
            "network": self.network.state_dict(),
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "metrics": self.metrics.state(),
            "progress": dict(vars(self.progress)),
        }
        if self.ema is not None:
            state["ema"] = self.ema.state_dict()
        save_state(self.stage.folder, state)
        self._unsaved = Clock()

    def is_save_due(self) -> bool:
        """Whether the last checkpoint is older than `execution.save_every`."""
        minutes = self.stage.recipe.execution.save_every
        return minutes > 0 and self._unsaved.seconds() >= 60 * minutes

    @distributed.on_rank0
    def _check_finite(self) -> None:
        # the last update may give non-finite weights after a finite loss
        for name, tensor in [*self.network.state_dict().items(), *self.objective.state_dict().items()]:
            if not torch.isfinite(tensor).all():
                epoch = self.progress.epoch + (self.progress.step > 0)
                raise RunError(
                    f"{name} is no longer finite in epoch {epoch}; the checkpoint is intact; "
                    "lower train.lr or the loss weights"
                )

    def resume(self) -> None:
        """Load the newest checkpoint, if there is one: rank 0 reads and broadcasts it."""
        folder, console = self.stage.folder, self.stage.context.console
        state = load_state(folder, console, self._restore)
        if state is not None and not distributed.is_rank0():
            self._restore(state)
        progress, epochs = self.progress, self.stage.recipe.train.epochs
        rewind_metrics(folder, progress.epoch)
        if state is not None and progress.epoch < epochs:
            console.log(
                f"continuing in epoch {progress.epoch + 1} of {epochs}, "
                f"after step {progress.step} of {self.steps}"
            )

    def _restore(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        self.metrics.restore(state["metrics"])
        self.progress = Progress(**state["progress"])
        self._check_progress()
        self._start_clocks()

    def _check_progress(self) -> None:
        """Raise ValueError for values that are impossible in this training."""
        progress = self.progress
        counts = (progress.epoch, progress.step, progress.best_epoch)
        if (
            not all(isinstance(count, int) for count in counts)
            or not 0 <= progress.epoch <= self.stage.recipe.train.epochs
            or not 0 <= progress.step < self.steps
        ):
            raise ValueError(f"epoch {progress.epoch}, step {progress.step}")
        seconds = progress.seconds, progress.cpu_seconds, progress.gpu_seconds
        if not all(map(math.isfinite, seconds)) or not isinstance(progress.best_top1, float):
            raise ValueError(f"seconds {seconds}")
        shapes = {name: tensor.shape for name, tensor in self.network.state_dict().items()}
        best = progress.best
        if best is not None and {name: tensor.shape for name, tensor in best.items()} != shapes:
            raise ValueError("the best epoch's weights are those of another network")
