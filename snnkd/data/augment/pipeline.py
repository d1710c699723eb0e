"""Random augmentation as batched tensor operations on uint8 images `[B, C, H, W]`, independent for each image.

Here are the order and what each name does; the work is in geometry.py and operations.py (what happens to pixels),
policies.py (which of it), erasing.py and mixing.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from snnkd.data.augment import policies
from snnkd.data.augment.erasing import cutout_boxes, erasing_boxes, paint
from snnkd.data.augment.operations import operate
from snnkd.data.augment.rng import BatchRng
from snnkd.data.imageset import Split
from snnkd.errors import UsageError
from snnkd.schema.augment import (
    COLOURS,
    MIXING,
    PAINTING,
    CutoutConfig,
    EraseConfig,
    Operation,
    Options,
    RandAugmentConfig,
    TrivialAugmentConfig,
    options_of,
)


def crop(images: Tensor, draws: BatchRng) -> Tensor:
    """Zero-pad each side by an eighth of the size (4 at 32x32) and cut out a window of the old size, anywhere."""
    count, _, height, width = images.shape
    pad_y, pad_x = max(1, height // 8), max(1, width // 8)
    top, left = draws.integers(2 * pad_y + 1, 1, 1), draws.integers(2 * pad_x + 1, 1, 1)
    windows = F.pad(images, (pad_x, pad_x, pad_y, pad_y)).unfold(2, height, 1).unfold(3, width, 1)
    made = windows[torch.arange(count, device=images.device), :, top.flatten(), left.flatten()]
    # grey images count as NHWC or NCHW by their strides alone: they stay what they were in runs begun before
    return made if made.shape[1] > 1 else made[:, 0, ..., None].movedim(-1, 1)


def flip(images: Tensor, draws: BatchRng) -> Tensor:
    """Mirror each image left to right with probability one half."""
    return torch.where(draws.integers(2, 1, 1, 1).bool(), images.flip(-1), images)


def _cutout(images: Tensor, draws: BatchRng, options: CutoutConfig, colour: Tensor) -> Tensor:
    height, width = images.shape[2:]
    return paint(images, cutout_boxes(draws, height, width, options.size or min(height, width) // 2), colour)


def _erase(images: Tensor, draws: BatchRng, options: EraseConfig, colour: Tensor) -> Tensor:
    scale, ratio = (options.scale_low, options.scale_high), (options.ratio_low, options.ratio_high)
    return paint(
        images, erasing_boxes(draws, *images.shape[2:], p=options.p, scale=scale, ratio=ratio), colour
    )


def _policy(images: Tensor, draws: BatchRng, options: Options) -> Tensor:
    height, width = images.shape[2:]
    if isinstance(options, RandAugmentConfig):
        steps = policies.randaugment(draws, height, width, options.ops, options.magnitude, options.bins)
    elif isinstance(options, TrivialAugmentConfig):
        steps = policies.trivialaugment(draws, options.bins)
    else:
        steps = policies.autoaugment(draws, height, width)
    for step in steps:
        images = operate(images, step.names, step.magnitudes)
    return images


def augment(
    images: Tensor, operations: Sequence[Operation], draws: BatchRng, colour: Tensor | None = None
) -> Tensor:
    """Images through the operations in order, but for those that mix them (mixing.py).

    `colour` `[C]` is what cutout and erase paint with, uint8; without it black. Event frames `[B, T, C, H, W]` stay so.
    """
    if (
        images.ndim == 5
    ):  # the event frames of a sample move together, and are empty where something is cut out
        return augment(images.flatten(1, 2), operations, draws).unflatten(1, images.shape[1:3])
    colour = images.new_zeros(images.shape[1]) if colour is None else colour
    for operation in operations:
        options = options_of(operation)
        if options.name not in MIXING:
            images = _work(options, colour)(images, draws)
    return images


def _work(options: Options, colour: Tensor) -> Callable[[Tensor, BatchRng], Tensor]:
    if options.name == "crop":
        return crop
    if options.name == "flip":
        return flip
    if isinstance(options, CutoutConfig):
        return partial(_cutout, options=options, colour=colour)
    if isinstance(options, EraseConfig):
        return partial(_erase, options=options, colour=colour)
    return partial(_policy, options=options)


def colour_for(operations: Sequence[Operation], split: Split) -> Tensor | None:
    """What cutout and erase paint with: the mean level of each channel of the images, rounded, uint8 `[C]`.

    The publications' code paints 0 after normalisation, which is this colour before it. None, that is black, for event
    frames, in which it means no events, and where nothing paints.
    """
    if split.images.ndim != 4 or not any(options_of(operation).name in PAINTING for operation in operations):
        return None
    total = torch.stack([block.sum((0, 2, 3), dtype=torch.int64) for block in split.blocks()]).sum(0)
    pixels = len(split) * split.images.shape[2] * split.images.shape[3]
    return (total.double() / pixels).round().to(torch.uint8)


def check_shape(operations: Sequence[Operation], shape: tuple[int, int, int]) -> None:
    """Raise UsageError for an operation that images of these channels, height and width cannot go through."""
    channels, height, width = shape
    for options in map(options_of, operations):
        if options.name in COLOURS and channels not in (1, 3):
            raise UsageError(
                f"data.augment: {options.name} is for grey or RGB images; these have {channels} channels; leave it out"
            )
        if isinstance(options, CutoutConfig) and (options.size or 0) > max(height, width):
            raise UsageError(
                f"data.augment: cutout's size {options.size} is above that of the images, {height}x{width}"
            )
