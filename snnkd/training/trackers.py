"""Trackers that can show a run beside its own files: TensorBoard, Weights & Biases, MLflow.

Each is made when training begins or is resumed, and keeps one record of a run over all of its commands. Any
of the calls may raise any error: `snnkd.training.tracking` turns it into a warning.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

Values = Mapping[str, float]
PROJECT = "snnkd"
MAX_PARAMETER = 500
"""Characters of a parameter that MLflow takes on every store."""


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of a run: `id` stays the same over all commands of the run."""

    folder: Path
    id: str
    config: Mapping[str, Any]
    """Recipe keys by dotted path."""


class Tracker(Protocol):
    """A class of this module, made with a TrackedRun."""

    logged: int
    """Epochs that the tracker has already."""

    def log(self, epoch: int, values: Values) -> None:
        """Record the metrics of a finished epoch."""

    def finish(self, epoch: int, values: Values, picture: Path) -> None:
        """Record the result after the last epoch, and its plot, a PNG file."""

    def close(self, done: bool) -> None:
        """Write what is left; the run is `done`, or will be resumed."""


class TensorBoard:
    """Event files, written anew by every command: resumed runs show each epoch once."""

    def __init__(self, run: TrackedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.logged = 0
        # purge_step=1 discards older event files of this folder
        self._writer = SummaryWriter(str(run.folder / "tensorboard"), purge_step=1)
        rows = [f"{key}: {value}" for key, value in run.config.items()]
        self._writer.add_text("recipe", "\n\n".join(rows), 0)

    def log(self, epoch: int, values: Values) -> None:
        for key, value in values.items():
            self._writer.add_scalar(key, value, epoch)
        self._writer.flush()

    def finish(self, epoch: int, values: Values, picture: Path) -> None:
        for key, value in values.items():
            self._writer.add_scalar(f"result/{key}", value, epoch)
        with Image.open(picture) as plot:
            pixels = np.asarray(plot.convert("RGB"))
        self._writer.add_image("result", pixels, epoch, dataformats="HWC")

    def close(self, done: bool) -> None:
        self._writer.close()


class WandB:
    """A run of WANDB_PROJECT, by default snnkd; its files are in RUN/wandb."""

    def __init__(self, run: TrackedRun) -> None:
        import wandb

        # neither questions nor lines of its own between those of the run
        if wandb.setup().settings.mode == "online" and not wandb.login(prompt=False):
            raise PermissionError("no login; run `wandb login`, or set WANDB_MODE=offline")
        settings = wandb.Settings(console="off", silent=True)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=run.id,
            name=run.folder.name,
            dir=str(run.folder),
            config=dict(run.config),
            resume="allow",
            settings=settings,
        )
        self._image = wandb.Image
        self.logged = self._run.step

    def log(self, epoch: int, values: Values) -> None:
        self._run.log(dict(values), step=epoch)

    def finish(self, epoch: int, values: Values, picture: Path) -> None:
        self._run.log({"result/plot": self._image(str(picture))}, step=epoch + 1)
        self._run.summary.update({f"result/{key}": value for key, value in values.items()})

    def close(self, done: bool) -> None:
        self._run.finish(exit_code=0 if done else 1)


class MLflow:
    """A run of MLFLOW_EXPERIMENT_NAME, by default snnkd, at MLFLOW_TRACKING_URI, by default MLflow's own."""

    def __init__(self, run: TrackedRun) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self._client.get_experiment_by_name(name)
        place = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        earlier = self._client.search_runs([place], f"tags.\"snnkd.id\" = '{run.id}'")
        if earlier:
            self._id = earlier[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
            losses = self._client.get_metric_history(self._id, "loss")
            self.logged = max((entry.step for entry in losses), default=0)
            return
        tags = {"snnkd.id": run.id, "snnkd.run": str(run.folder.absolute())}
        self._id = self._client.create_run(place, run_name=run.folder.name, tags=tags).info.run_id
        self.logged = 0
        for key, value in run.config.items():
            self._client.log_param(self._id, key, str(value)[:MAX_PARAMETER])

    def log(self, epoch: int, values: Values) -> None:
        for key, value in values.items():
            self._client.log_metric(self._id, key, value, step=epoch)

    def finish(self, epoch: int, values: Values, picture: Path) -> None:
        self.log(epoch, {f"result/{key}": value for key, value in values.items()})
        self._client.log_artifact(self._id, str(picture))

    def close(self, done: bool) -> None:
        self._client.set_terminated(self._id, "FINISHED" if done else "KILLED")
