"""Random augmentation of batches uint8 `[B, C, H, W]`, independent for each image.

This module applies the operations of `data.augment` in order; they are implemented in geometry.py and
operations.py (pixels), policies.py (random operators), erasing.py and mixing.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from snnkd.data.augment import policies
from snnkd.data.augment.erasing import cutout_boxes, erasing_boxes, paint
from snnkd.data.augment.operations import apply_operators
from snnkd.data.augment.rng import BatchRng
from snnkd.data.split import Split
from snnkd.errors import UsageError
from snnkd.schema.augment import (
    COLOURS,
    FILLING,
    MIXING,
    CutoutConfig,
    EraseConfig,
    FlipConfig,
    Operation,
    Options,
    RandAugmentConfig,
    TrivialAugmentConfig,
    options_of,
)


def crop(images: Tensor, rng: BatchRng) -> Tensor:
    """Zero-pad each side by an eighth of its length (4 at 32x32), then randomly crop to the original size."""
    count, _, height, width = images.shape
    pad_y, pad_x = max(1, height // 8), max(1, width // 8)
    top, left = rng.integers(2 * pad_y + 1, 1, 1), rng.integers(2 * pad_x + 1, 1, 1)
    windows = F.pad(images, (pad_x, pad_x, pad_y, pad_y)).unfold(2, height, 1).unfold(3, width, 1)
    crops = windows[torch.arange(count, device=images.device), :, top.flatten(), left.flatten()]
    # with one channel only the strides determine the convolutions' memory format: channels_last, as uncropped
    return crops if crops.shape[1] > 1 else crops[:, 0, ..., None].movedim(-1, 1)


def flip(images: Tensor, rng: BatchRng) -> Tensor:
    """Flip each image horizontally with probability one half."""
    return torch.where(rng.integers(2, 1, 1, 1).bool(), images.flip(-1), images)


def alternating_flip(images: Tensor, rng: BatchRng) -> Tensor:
    """Flip each image horizontally in every second epoch; a hash of its index decides which."""
    assert rng.images is not None
    flipped = ((rng.images * 2654435761 >> 16) + rng.epoch) % 2  # Knuth's multiplicative hash
    return torch.where(flipped.bool().view(-1, 1, 1, 1), images.flip(-1), images)


def _cutout(images: Tensor, rng: BatchRng, options: CutoutConfig, colour: Tensor) -> Tensor:
    height, width = images.shape[2:]
    return paint(images, cutout_boxes(rng, height, width, options.size or min(height, width) // 2), colour)


def _erase(images: Tensor, rng: BatchRng, options: EraseConfig, colour: Tensor) -> Tensor:
    scale, ratio = (options.scale_low, options.scale_high), (options.ratio_low, options.ratio_high)
    return paint(images, erasing_boxes(rng, *images.shape[2:], p=options.p, scale=scale, ratio=ratio), colour)


def _policy(images: Tensor, rng: BatchRng, options: Options) -> Tensor:
    height, width = images.shape[2:]
    if isinstance(options, RandAugmentConfig):
        steps = policies.randaugment(rng, height, width, options.ops, options.magnitude, options.bins)
    elif isinstance(options, TrivialAugmentConfig):
        steps = policies.trivialaugment(rng, options.bins)
    else:
        steps = policies.autoaugment(rng, height, width)
    for step in steps:
        images = apply_operators(images, step.names, step.magnitudes)
    return images


def augment(
    images: Tensor, operations: Sequence[Operation], rng: BatchRng, colour: Tensor | None = None
) -> Tensor:
    """Apply the operations in order, except those that mix images (see mixing.py).

    cutout and erase fill with `colour`, uint8 `[C]`, by default black. Event frames `[B, T, C, H, W]` keep
    their shape.
    """
    if images.ndim == 5:  # all frames of a sample are transformed equally; black pixels have no events
        return augment(images.flatten(1, 2), operations, rng).unflatten(1, images.shape[1:3])
    colour = images.new_zeros(images.shape[1]) if colour is None else colour
    for operation in operations:
        options = options_of(operation)
        if options.name not in MIXING:
            images = _operation(options, colour)(images, rng)
    return images


def _operation(options: Options, colour: Tensor) -> Callable[[Tensor, BatchRng], Tensor]:
    if options.name == "crop":
        return crop
    if isinstance(options, FlipConfig):
        return alternating_flip if options.alternate else flip
    if isinstance(options, CutoutConfig):
        return partial(_cutout, options=options, colour=colour)
    if isinstance(options, EraseConfig):
        return partial(_erase, options=options, colour=colour)
    return partial(_policy, options=options)


def fill_colour(operations: Sequence[Operation], split: Split) -> Tensor | None:
    """The colour that cutout and erase fill with, uint8 `[C]`: the rounded mean of each channel.

    The papers' code fills with 0 after normalisation, which is this colour before it. None, meaning black,
    for event frames, where black is no events, and if no operation fills.
    """
    if split.images.ndim != 4 or not any(options_of(operation).name in FILLING for operation in operations):
        return None
    total = torch.stack([block.sum((0, 2, 3), dtype=torch.int64) for block in split.blocks()]).sum(0)
    pixels = len(split) * split.images.shape[2] * split.images.shape[3]
    return (total.double() / pixels).round().to(torch.uint8)


def check_shape(operations: Sequence[Operation], shape: tuple[int, int, int]) -> None:
    """Raise UsageError for an operation that does not apply to images of `shape` `(C, H, W)`."""
    channels, height, width = shape
    for options in map(options_of, operations):
        if options.name in COLOURS and channels not in (1, 3):
            raise UsageError(
                f"data.augment: {options.name} needs grey or RGB images, not {channels} channels; remove it"
            )
        if isinstance(options, CutoutConfig) and (options.size or 0) > max(height, width):
            raise UsageError(
                f"data.augment: cutout's size {options.size} is above the image size {height}x{width}"
            )
