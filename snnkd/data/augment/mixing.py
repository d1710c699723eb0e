"""Mixup and CutMix: each image mixed with another one of the batch, and its label with that one's.

The other one is the image before it in the batch (the last, for the first): the order is random already, and so each
process needs one image more than its part. Share and rectangle are drawn for each image on its own, where the
publications have one for a whole batch (mixup: Zhang et al. 2018, ICLR, arXiv 1710.09412; CutMix: Yun et al. 2019,
ICCV, arXiv 1905.04899).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from snnkd.data.augment.erasing import inside
from snnkd.data.augment.rng import BatchRng, to_device
from snnkd.schema.augment import CutMixConfig, MixupConfig, Operation, options_of

Mixing = MixupConfig | CutMixConfig


def mixing_of(operations: Sequence[Operation]) -> tuple[Mixing, ...]:
    """Those of the operations that mix images."""
    return tuple(options for options in map(options_of, operations) if isinstance(options, Mixing))


def with_partner(batch_size: int, part: slice) -> Tensor:
    """The numbers in the batch of the image before a part, and of the part's own."""
    start, stop, _ = part.indices(batch_size)
    return torch.arange(start - 1, stop) % batch_size


def mix(
    images: Tensor, labels: Tensor, operations: Sequence[Mixing], classes: int, draws: BatchRng
) -> tuple[Tensor, Tensor]:
    """Float images `[B + 1, ..., H, W]` and labels `[B + 1]` of `with_partner` as mixed ones `[B, ..., H, W]` and shares `[B, classes]`.

    Of several operations each image gets one, all alike likely. The shares are those of the two labels: cross-entropy
    with them is share CE(own) + (1 - share) CE(partner's), also with label smoothing.
    """
    height, width = images.shape[-2:]
    kept, boxes = mixing_draws(operations, draws, height, width)
    kept, boxes = kept[1:], boxes[1:]
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    share = to_device(kept * (1 - area / (height * width)), images.device)[:, None]
    own = to_device(kept, images.device).view(-1, 1, 1, 1)
    if any(isinstance(operation, CutMixConfig) for operation in operations):
        own = own * ~inside(to_device(boxes, images.device), height, width)
    flat = images.flatten(1, -3)
    mixed = (flat[1:] * own + flat[:-1] * (1 - own)).reshape(images[1:].shape)
    both, shares = torch.stack((labels[1:], labels[:-1]), 1), torch.cat((share, 1 - share), 1)
    return mixed, shares.new_zeros(len(shares), classes).scatter_add_(1, both, shares)


def mixing_draws(
    operations: Sequence[Mixing], draws: BatchRng, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Of each image how much it keeps in mixup `[B]` (1: all), and the rectangle that CutMix takes from it `[B, 4]` (or an empty one).

    On the CPU; rectangles as top, left, bottom, right.
    """
    which = draws.choices(len(operations))
    kept, boxes = torch.ones(len(which)), torch.zeros(len(which), 4, dtype=torch.int64)
    for i, operation in enumerate(operations):
        share, happens = draws.beta(operation.alpha), (draws.fractions() < operation.p) & (which == i)
        if isinstance(operation, MixupConfig):
            kept = torch.where(happens, share, kept)
        else:
            boxes = torch.where(happens[:, None], _boxes(share, draws, height, width), boxes)
    return kept, boxes


def _boxes(share: Tensor, draws: BatchRng, height: int, width: int) -> Tensor:
    """Rectangles of the image's ratio and 1 - share of its area around any pixel, cut off at the border, `[B, 4]`."""
    y, x, half = draws.choices(height), draws.choices(width), 0.5 * (1 - share).sqrt()
    high, wide = (half * height).long(), (half * width).long()
    ends = torch.stack((y - high, x - wide, y + high, x + wide), 1)
    return ends.clamp_min(0).minimum(torch.tensor([height, width, height, width]))
