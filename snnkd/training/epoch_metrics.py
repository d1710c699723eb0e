"""Sums over the steps of an epoch, kept on the device so that no step waits for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from snnkd.errors import RunError
from snnkd.losses.outputs import Loss


class EpochMetrics:
    """Running sums of an epoch's losses, correct predictions and gradient norms; a checkpoint has `state`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.images = 0
        self.steps = 0
        self._sums: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, losses: Sequence[Loss], gradient_norm: Tensor) -> None:
        """Add a step: the losses of its micro-batches and its gradient norm."""
        share = 1 / len(losses)
        for loss in losses:
            # for mixed images, the label with the larger share
            labels = loss.labels if loss.labels.ndim == 1 else loss.labels.argmax(-1)
            hits = (loss.logits.argmax(-1) == labels).sum()
            self._add({"loss": loss.value, **loss.scalars}, share)
            self._add({"hits": hits}, 1)
            self.images += len(loss.labels)
        self._add({"gradient": gradient_norm}, 1)
        self.steps += 1

    def _add(self, values: Mapping[str, Tensor], share: float) -> None:
        for name, value in values.items():
            summand = value.detach().double() * share
            self._sums[name] = self._sums[name] + summand if name in self._sums else summand

    def check_finite(self, epoch: int) -> None:
        """Raise RunError if a loss or gradient of this epoch was not finite; waits for the device."""
        for name, value in self._sums.items():
            if not torch.isfinite(value):
                kind = "gradient" if name == "gradient" else "loss"
                raise RunError(
                    f"the {kind} became {float(value)} in epoch {epoch + 1}, by step {self.steps} ({name}); "
                    "the checkpoint is intact; lower train.lr or loss weights"
                )

    def means(self) -> dict[str, float]:
        """Means over the steps, training accuracy `train_top1` in percent; empty before the first step."""
        if not self.steps:
            return {}
        means = {name: float(value) / self.steps for name, value in self._sums.items() if name != "hits"}
        means["train_top1"] = 100 * float(self._sums["hits"]) / self.images
        return means

    def state(self) -> dict[str, Any]:
        return {"images": self.images, "steps": self.steps, "sums": dict(self._sums)}

    def restore(self, state: dict[str, Any]) -> None:
        self.images, self.steps = state["images"], state["steps"]
        self._sums = {name: value.to(self._device) for name, value in state["sums"].items()}
