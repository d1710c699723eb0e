"""Does an exported network say the same as the one it was made from?

Two builds of the same arithmetic round differently. Where a membrane comes within a rounding error of its threshold, one of
them fires and the other does not, and the logits of that image then differ visibly: no export can avoid it. So a difference is
accepted where it is small, or where rounding errors put into the network itself make differences of that size; see `is_faithful`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from snnkd.data.imageset import Split
from snnkd.data.loader import to_batch

IMAGES = 256
AT_ONCE = 32
"""Images per forward pass: a ResNet-19 at T = 4 takes half a gigabyte a layer for all of them."""
ROUNDING = 1e-6
"""Error put into the output of each layer, relative to its size: about ten times what float32 leaves."""
LEAST_AGREEMENT = 0.99
"""Predictions that have to agree where rounding flips spikes; 1 where it flips none."""


@dataclass(frozen=True)
class Agreement:
    """Over `images` images: share of equal predictions after T timesteps, and the largest difference of any logit at any t."""

    images: int
    agreement: float
    max_difference: float
    median_difference: float = field(default=0.0, compare=False)
    """Over images, of the largest difference in each."""
    largest_logit: float = field(default=0.0, compare=False)


def sample_images(split: Split, count: int = IMAGES) -> Tensor:
    """Up to `count` images as networks take them, taken class by class in turn so that they cover as many classes as possible."""
    order = torch.argsort(split.labels, stable=True)
    labels = split.labels[order]
    starts = torch.searchsorted(labels, labels, right=False)
    rank = torch.arange(len(labels)) - starts  # 0 for the first image of each class, 1 for its second, ...
    turn = torch.argsort(rank, stable=True)[:count]
    return to_batch(split.take(order[turn].sort().values))


@torch.inference_mode()
def compare(
    original: Callable[[Tensor], Tensor], exported: Callable[[Tensor], Tensor], images: Tensor
) -> Agreement:
    """Compare two functions from images `[B, C, H, W]`, or event frames `[T, B, C, H, W]`, to logits `[T, B, classes]`."""
    count = images.shape[-4]
    pairs = [(original(part), exported(part)) for part in images.split(AT_ONCE, -4)]
    if any(ours.shape != theirs.shape for ours, theirs in pairs):
        return Agreement(count, 0.0, math.inf, math.inf)
    ours, theirs = (torch.cat(side, 1) for side in zip(*pairs, strict=True))
    same = (ours.mean(0).argmax(-1) == theirs.mean(0).argmax(-1)).double().mean().item()
    # NaN compares as no difference at all
    differences = (ours - theirs).abs().nan_to_num(nan=torch.inf).amax((0, 2))
    return Agreement(
        count, same, differences.max().item(), differences.median().item(), ours.abs().max().item()
    )


def is_faithful(
    found: Agreement, tolerance: float, network: nn.Module, run: Callable[[Tensor], Tensor], images: Tensor
) -> bool:
    """Whether an export may stand. `run` is the network that it was made from, `network` the module that `run` runs.

    It may where all predictions agree and no logit differs by more than `tolerance` (times the largest logit where that is
    above 1). Otherwise, unless the tolerance is 0, the same network is run with errors of one part in a million in the output
    of each layer: the export may stand if the median image differs by no more than twice what these make, the worst by no
    more than four times, and LEAST_AGREEMENT of the predictions agree. One changed weight moves the median; a flipped spike
    does not, or does so in the network itself.
    """
    limit = tolerance * max(1.0, found.largest_logit)
    if found.agreement == 1 and found.max_difference <= limit:
        return True
    if tolerance == 0 or not math.isfinite(found.max_difference):
        return False
    own = _rounded(network, run, images)
    return (
        own.max_difference > limit  # no spike hangs on rounding: then there is no excuse
        and found.agreement >= LEAST_AGREEMENT
        and found.median_difference <= limit + 2 * own.median_difference
        and found.max_difference <= limit + 4 * own.max_difference
    )


def _rounded(network: nn.Module, run: Callable[[Tensor], Tensor], images: Tensor) -> Agreement:
    """`run` against itself with rounding errors: the largest differences of a few draws, each also with the signs turned, so that
    a membrane right at its threshold is moved to both sides."""
    honest = _remembered(run)
    found = [
        compare(honest, _disturbed(network, run, seed, sign), images) for seed in range(2) for sign in (1, -1)
    ]
    worst = max(found, key=lambda one: one.max_difference)
    return replace(worst, median_difference=max(one.median_difference for one in found))


def _remembered(run: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """`run`, computed once for each part of the same images."""
    answers: dict[int, Tensor] = {}

    def answer(part: Tensor) -> Tensor:
        where = part.data_ptr()  # parts are views of images that stay
        if where not in answers:
            answers[where] = run(part)
        return answers[where]

    return answer


def _disturbed(
    network: nn.Module, run: Callable[[Tensor], Tensor], seed: int, sign: int
) -> Callable[[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def disturb(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        noise = torch.randn(output.shape, generator=generator, dtype=output.dtype)
        return output + sign * ROUNDING * output.square().mean().sqrt() * noise

    def disturbed(part: Tensor) -> Tensor:
        handles = [
            m.register_forward_hook(disturb)
            for m in network.modules()
            if isinstance(m, (nn.Conv2d, nn.Linear))
        ]
        try:
            return run(part)
        finally:
            for handle in handles:
                handle.remove()

    return disturbed
