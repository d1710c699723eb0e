"""Intermediate features of a network, recorded by name during the forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


class Features:
    """Records the requested features of a forward pass in `kept`, by name, `[T*B, ...]`.

    Built-in networks offer stage1, stage2, ... (the output of each stage), output (the input of the
    classifier) and class_map (the classifier's logits at every position of the last stage).
    """

    def __init__(self, wanted: Iterable[str] | None = None) -> None:
        """Record the features named in `wanted`; None records all."""
        self.wanted = None if wanted is None else frozenset(wanted)
        self.kept: dict[str, Tensor] = {}

    def offer(self, name: str, value: Callable[[], Tensor]) -> None:
        """Record `value()` under `name` if requested; otherwise it is not computed."""
        if self.wanted is None or name in self.wanted:
            self.kept[name] = value()


@torch.no_grad()
def feature_shapes(
    network: nn.Module, shape: tuple[int, int, int], frames: int | None = None
) -> dict[str, tuple[int, ...]]:
    """Shapes, without the batch, of the features that `network` offers for images of `shape` `(C, H, W)`.

    `frames` is the number of event frames per sample, None for still images.
    """
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    features, training = Features(), network.training
    network.eval()
    network(
        torch.zeros((1, *shape) if frames is None else (frames, 1, *shape), device=device), None, features
    )
    network.train(training)
    return {name: tuple(value.shape[1:]) for name, value in features.kept.items()}
