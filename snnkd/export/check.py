"""Does an exported network say the same as the one it was made from?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from snnkd.data.imageset import Split
from snnkd.data.loader import to_float

IMAGES = 256


@dataclass(frozen=True)
class Agreement:
    """Over `images` images: share of equal predictions after T timesteps, and the largest difference of any logit at any t."""

    images: int
    agreement: float
    max_difference: float


def sample(split: Split, count: int = IMAGES) -> Tensor:
    """Up to `count` images float 0..1, taken class by class in turn so that they cover as many classes as possible."""
    order = torch.argsort(split.labels, stable=True)
    labels = split.labels[order]
    starts = torch.searchsorted(labels, labels, right=False)
    rank = torch.arange(len(labels)) - starts  # 0 for the first image of each class, 1 for its second, ...
    turn = torch.argsort(rank, stable=True)[:count]
    return to_float(split.images[order[turn].sort().values])


@torch.inference_mode()
def compare(original: Callable[[Tensor], Tensor], exported: Callable[[Tensor], Tensor], images: Tensor) -> Agreement:
    """Compare two functions from images `[B, C, H, W]` to logits `[T, B, classes]`."""
    ours, theirs = original(images), exported(images)
    if ours.shape != theirs.shape:
        return Agreement(len(images), 0.0, math.inf)
    same = (ours.mean(0).argmax(-1) == theirs.mean(0).argmax(-1)).double().mean().item()
    # NaN compares as no difference at all
    return Agreement(len(images), same, (ours - theirs).abs().nan_to_num(nan=torch.inf).max().item())
