"""The trackers of `--track`, one entry each, with the package that each needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from snnkd.catalog.registry import Entry, Registry
from snnkd.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class TrackerEntry(Entry):
    """A class of `snnkd.training.trackers`, which imports `package` on use."""

    package: str


TRACKERS = Registry("tracker", [
    TrackerEntry("tensorboard", "event files in RUN/tensorboard",
                 "snnkd.training.trackers:TensorBoard", package="tensorboard"),
    TrackerEntry("wandb", "Weights & Biases, with its own login; WANDB_MODE=offline writes RUN/wandb",
                 "snnkd.training.trackers:WandB", package="wandb"),
    TrackerEntry("mlflow", "MLflow, at MLFLOW_TRACKING_URI",
                 "snnkd.training.trackers:MLflow", package="mlflow"),
])  # fmt: skip


def check_names(names: Sequence[str], where: str) -> None:
    """Raise UsageError for a tracker that does not exist, or one that is given twice."""
    for i, name in enumerate(names):
        if name not in TRACKERS:
            known = ", ".join(entry.name for entry in TRACKERS)
            raise UsageError(f"{where}.{i}: {name!r} is not one of {known}")
        if name in names[:i]:
            raise UsageError(f"{where}.{i}: {name} is given twice; remove one")
