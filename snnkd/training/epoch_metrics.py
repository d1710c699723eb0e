"""Sums over the steps of an epoch, kept on the device so that no step waits for a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from snnkd.errors import RunError
from snnkd.losses.outputs import Loss


class EpochMetrics:
    """Running sums of the epoch's losses and hits; `state` and `restore` carry them over an interruption."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.images = 0
        self.steps = 0
        self._sums: dict[str, Tensor] = {}
        self.rates: dict[str, float] = {}
        """Of the neuron layers, in the last step of the epoch."""

    @torch.no_grad()
    def add(self, losses: Sequence[Loss], gradient: Tensor) -> None:
        """One step: the losses of its micro-batches, and the norm of its gradient."""
        share = 1 / len(losses)
        for loss in losses:
            # of two mixed images the one with the larger share counts
            labels = loss.labels if loss.labels.ndim == 1 else loss.labels.argmax(-1)
            hits = (loss.answers.argmax(-1) == labels).sum()
            self._add({"loss": loss.value, **loss.watched}, share)
            self._add({"hits": hits}, 1)
            self.images += len(loss.labels)
        self._add({"gradient": gradient}, 1)
        self.steps += 1

    def _add(self, values: Mapping[str, Tensor], share: float) -> None:
        for name, value in values.items():
            wide = value.detach().double() * share
            self._sums[name] = self._sums[name] + wide if name in self._sums else wide

    def check_finite(self, epoch: int) -> None:
        """Raise RunError when a loss of this epoch was not finite (one wait for the device)."""
        for name, value in self._sums.items():
            if not torch.isfinite(value):
                what = "gradient" if name == "gradient" else "loss"
                raise RunError(
                    f"the {what} became {float(value)} in epoch {epoch + 1}, by step {self.steps} ({name}); the last checkpoint is "
                    "intact; lower train.lr or the loss weights"
                )

    def means(self) -> dict[str, float]:
        """Mean loss and watched values of the epoch, and the training accuracy in percent."""
        if not self.steps:
            return {}
        made = {name: float(value) / self.steps for name, value in self._sums.items() if name != "hits"}
        made["train_top1"] = 100 * float(self._sums["hits"]) / self.images
        return made

    def state(self) -> dict[str, Any]:
        return {
            "images": self.images,
            "steps": self.steps,
            "sums": dict(self._sums),
            "rates": dict(self.rates),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.images, self.steps = state["images"], state["steps"]
        self.rates = dict(state.get("rates", {}))
        self._sums = {name: value.to(self._device) for name, value in state["sums"].items()}
