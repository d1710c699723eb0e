"""Agreement of an exported network with its original.

Two implementations of the same arithmetic round differently. Where a membrane is within a rounding error of
its threshold, one fires and the other does not, and that image's logits differ visibly, which no export can
avoid. A difference is therefore accepted if it is small, or if rounding errors injected into the original
cause one as large: `is_faithful`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from snnkd.data.loader import to_batch
from snnkd.data.split import Split

IMAGES = 256
BATCH = 32
"""Images per forward pass; all 256 would take half a gigabyte per layer of a ResNet-19 at T = 4."""
ROUNDING = 1e-6
"""Injected error of each layer's output, relative to its RMS: about ten times float32's rounding."""
MIN_AGREEMENT = 0.99
"""Fraction of equal predictions after T timesteps that flipped spikes may leave."""


@dataclass(frozen=True)
class Agreement:
    """Fraction of equal predictions after T timesteps, and largest difference of any logit, over `images`."""

    images: int
    agreement: float
    max_difference: float
    median_difference: float = field(default=0.0, compare=False)
    """Median over images of the largest difference in each."""
    largest_logit: float = field(default=0.0, compare=False)


def sample_images(split: Split, count: int = IMAGES) -> Tensor:
    """Up to `count` images as floats `[B, C, H, W]`, cycling through the classes to cover all of them."""
    order = torch.argsort(split.labels, stable=True)
    labels = split.labels[order]
    starts = torch.searchsorted(labels, labels, right=False)
    rank = torch.arange(len(labels)) - starts  # 0 for the first image of each class, 1 for its second, ...
    by_rank = torch.argsort(rank, stable=True)[:count]
    return to_batch(split.take(order[by_rank].sort().values))


@torch.inference_mode()
def compare(
    original: Callable[[Tensor], Tensor], exported: Callable[[Tensor], Tensor], images: Tensor
) -> Agreement:
    """Compare two functions from images or event frames to logits `[T, B, classes]`."""
    count = images.shape[-4]
    pairs = [(original(batch), exported(batch)) for batch in images.split(BATCH, -4)]
    if any(ours.shape != theirs.shape for ours, theirs in pairs):
        return Agreement(count, 0.0, math.inf, math.inf)
    ours, theirs = (torch.cat(side, 1) for side in zip(*pairs, strict=True))
    same = (ours.mean(0).argmax(-1) == theirs.mean(0).argmax(-1)).double().mean().item()
    # comparisons with NaN are False, so count NaN as infinite
    differences = (ours - theirs).abs().nan_to_num(nan=torch.inf).amax((0, 2))
    return Agreement(
        count, same, differences.max().item(), differences.median().item(), ours.abs().max().item()
    )


def is_faithful(
    agreement: Agreement,
    tolerance: float,
    network: nn.Module,
    run: Callable[[Tensor], Tensor],
    images: Tensor,
) -> bool:
    """Whether differences between export and original are due to rounding only.

    `run` computes the original's logits and `network` is the module behind it. An export is faithful if all
    predictions agree and no logit differs by more than `tolerance` (times the largest logit if above 1).
    Otherwise, unless the tolerance is 0, the original is run with errors of one part in a million in each
    layer's output. The export is faithful if the median image differs by at most twice as much as under these
    errors, the worst by at most four times, and MIN_AGREEMENT of the predictions agree. A changed weight
    moves the median; a flipped spike does not, or does so in the original as well.
    """
    limit = tolerance * max(1.0, agreement.largest_logit)
    if agreement.agreement == 1 and agreement.max_difference <= limit:
        return True
    if tolerance == 0 or not math.isfinite(agreement.max_difference):
        return False
    noise = _rounding_effect(network, run, images)
    return (
        noise.max_difference > limit  # otherwise rounding flips no spikes
        and agreement.agreement >= MIN_AGREEMENT
        and agreement.median_difference <= limit + 2 * noise.median_difference
        and agreement.max_difference <= limit + 4 * noise.max_difference
    )


def _rounding_effect(network: nn.Module, run: Callable[[Tensor], Tensor], images: Tensor) -> Agreement:
    """Largest differences of `run` from itself with injected errors, over two draws with both signs.

    Both signs move a membrane at its threshold to either side.
    """
    exact = _cached(run)
    draws = [
        compare(exact, _with_noise(network, run, seed, sign), images) for seed in range(2) for sign in (1, -1)
    ]
    worst = max(draws, key=lambda draw: draw.max_difference)
    return replace(worst, median_difference=max(draw.median_difference for draw in draws))


def _cached(run: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """`run`, computed once for each batch of the same images."""
    cache: dict[int, Tensor] = {}

    def forward(batch: Tensor) -> Tensor:
        key = batch.data_ptr()  # batches are views of images that stay alive
        if key not in cache:
            cache[key] = run(batch)
        return cache[key]

    return forward


def _with_noise(
    network: nn.Module, run: Callable[[Tensor], Tensor], seed: int, sign: int
) -> Callable[[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def add_noise(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        noise = torch.randn(output.shape, generator=generator, dtype=output.dtype)
        return output + sign * ROUNDING * output.square().mean().sqrt() * noise

    def forward(batch: Tensor) -> Tensor:
        handles = [
            m.register_forward_hook(add_noise)
            for m in network.modules()
            if isinstance(m, (nn.Conv2d, nn.Linear))
        ]
        try:
            return run(batch)
        finally:
            for handle in handles:
                handle.remove()

    return forward
