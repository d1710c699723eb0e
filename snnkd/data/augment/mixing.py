"""Mixup and CutMix: each image is mixed with a partner of the batch, and so are their labels.

The partner is the previous image of the batch (of the first, the last): batches are shuffled already, and
each process needs only one image more than its own. The mixing weight and the rectangle are drawn for each
image, where the papers draw one for a whole batch (mixup: Zhang et al. 2018, ICLR, arXiv 1710.09412; CutMix:
Yun et al. 2019, ICCV, arXiv 1905.04899).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from snnkd.data.augment.erasing import box_mask
from snnkd.data.augment.rng import BatchRng, to_device
from snnkd.schema.augment import CutMixConfig, MixupConfig, Operation, options_of

Mixing = MixupConfig | CutMixConfig


def mixing_of(operations: Sequence[Operation]) -> tuple[Mixing, ...]:
    """The operations that mix images."""
    return tuple(options for options in map(options_of, operations) if isinstance(options, Mixing))


def with_partner(batch_size: int, part: slice) -> Tensor:
    """Batch indices of the image before `part`, then those of `part`."""
    start, stop, _ = part.indices(batch_size)
    return torch.arange(start - 1, stop) % batch_size


def mix(
    images: Tensor, labels: Tensor, operations: Sequence[Mixing], classes: int, rng: BatchRng
) -> tuple[Tensor, Tensor]:
    """Mix the images and labels that `with_partner` chose.

    Float images `[B + 1, ..., H, W]` become `[B, ..., H, W]`, labels `[B + 1]` soft labels `[B, classes]`. Of
    several operations each image goes through one, chosen uniformly. Cross-entropy with the soft labels is w
    CE(own label) + (1 - w) CE(partner's label), also with label smoothing.
    """
    height, width = images.shape[-2:]
    weight, boxes = mixing_draws(operations, rng, height, width)
    weight, boxes = weight[1:], boxes[1:]
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    share = to_device(weight * (1 - area / (height * width)), images.device)[:, None]
    own = to_device(weight, images.device).view(-1, 1, 1, 1)
    if any(isinstance(operation, CutMixConfig) for operation in operations):
        own = own * ~box_mask(to_device(boxes, images.device), height, width)
    flat = images.flatten(1, -3)
    mixed = (flat[1:] * own + flat[:-1] * (1 - own)).reshape(images[1:].shape)
    pairs, shares = torch.stack((labels[1:], labels[:-1]), 1), torch.cat((share, 1 - share), 1)
    return mixed, shares.new_zeros(len(shares), classes).scatter_add_(1, pairs, shares)


def mixing_draws(
    operations: Sequence[Mixing], rng: BatchRng, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Each image's weight in mixup `[B]` (1: not mixed) and its CutMix rectangle `[B, 4]` (or an empty one).

    On the CPU; rectangles are top, left, bottom, right.
    """
    choice = rng.choices(len(operations))
    weight, boxes = torch.ones(len(choice)), torch.zeros(len(choice), 4, dtype=torch.int64)
    for i, operation in enumerate(operations):
        share, applied = rng.beta(operation.alpha), (rng.fractions() < operation.p) & (choice == i)
        if isinstance(operation, MixupConfig):
            weight = torch.where(applied, share, weight)
        else:
            boxes = torch.where(applied[:, None], _boxes(share, rng, height, width), boxes)
    return weight, boxes


def _boxes(share: Tensor, rng: BatchRng, height: int, width: int) -> Tensor:
    """Rectangles `[B, 4]` of the image's aspect ratio, 1 - share of its area, a random centre; clipped."""
    y, x, half = rng.choices(height), rng.choices(width), 0.5 * (1 - share).sqrt()
    high, wide = (half * height).long(), (half * width).long()
    ends = torch.stack((y - high, x - wide, y + high, x + wide), 1)
    return ends.clamp_min(0).minimum(torch.tensor([height, width, height, width]))
