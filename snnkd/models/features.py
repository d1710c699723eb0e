"""Features of a network by name, kept while it runs forward."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


class Features:
    """Keeps those of the features that a network offers which are wanted; `kept` holds them by name, `[T*B, ...]`.

    The project's networks offer stage1, stage2, ... (the output of each stage), output (what the last linear layer
    takes) and class_map (the answer at every position of the last stage).
    """

    def __init__(self, wanted: Iterable[str] | None = None) -> None:
        """`wanted` None keeps every feature."""
        self.wanted = None if wanted is None else frozenset(wanted)
        self.kept: dict[str, Tensor] = {}

    def offer(self, name: str, value: Callable[[], Tensor]) -> None:
        """Keep `value()` under `name` if it is wanted; it is only computed then."""
        if self.wanted is None or name in self.wanted:
            self.kept[name] = value()


@torch.no_grad()
def feature_shapes(
    network: nn.Module, shape: tuple[int, int, int], frames: int | None = None
) -> dict[str, tuple[int, ...]]:
    """The features that `network` (images, T, features) offers for images of `shape`, with their shapes without batch.

    `frames` is the number of event frames of a sample, None for still images.
    """
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    features, training = Features(), network.training
    network.eval()
    network(
        torch.zeros((1, *shape) if frames is None else (frames, 1, *shape), device=device), None, features
    )
    network.train(training)
    return {name: tuple(value.shape[1:]) for name, value in features.kept.items()}
