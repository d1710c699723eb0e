"""Data augmentation of the baseline loop: torchvision's transforms, per PIL image, for `data.augment`."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torchvision import transforms

from snnkd.errors import UsageError
from snnkd.schema.augment import (
    CutoutConfig,
    EraseConfig,
    Operation,
    Options,
    RandAugmentConfig,
    TrivialAugmentConfig,
    mixing_names,
    options_of,
)


def check_augment(operations: Sequence[Operation]) -> None:
    """Raise UsageError for an operation that the baseline loop does not have."""
    mixing = mixing_names(operations)
    if mixing:
        raise UsageError(
            f"data.augment: the baseline loop has no {mixing[0]}; omit --baseline and --ablations"
        )


def make_transform(
    operations: Sequence[Operation], height: int, width: int, mean: Sequence[float], std: Sequence[float]
) -> Any:
    """Compose PIL image to normalised float tensor `[C, H, W]`; cutout and erase last, as published."""
    on_image: list[Any] = []
    on_tensor: list[Any] = []
    for options in map(options_of, operations):
        last = isinstance(options, (CutoutConfig, EraseConfig))
        (on_tensor if last else on_image).append(_transform(options, height, width))
    return transforms.Compose([*on_image, transforms.ToTensor(), transforms.Normalize(mean, std), *on_tensor])


def _transform(options: Options, height: int, width: int) -> Any:
    if isinstance(options, RandAugmentConfig):
        return transforms.RandAugment(options.ops, options.magnitude, options.bins)
    if isinstance(options, TrivialAugmentConfig):
        return transforms.TrivialAugmentWide(options.bins)
    if isinstance(options, CutoutConfig):
        return _Cutout(options.size or min(height, width) // 2)
    if isinstance(options, EraseConfig):
        return transforms.RandomErasing(
            options.p, (options.scale_low, options.scale_high), (options.ratio_low, options.ratio_high)
        )
    return {
        "crop": transforms.RandomCrop((height, width), padding=(max(1, width // 8), max(1, height // 8))),
        "flip": transforms.RandomHorizontalFlip(),
        "autoaugment": transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10),
    }[options.name]


class _Cutout:
    """A square of zeros centred on a random pixel, clipped at the border."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __call__(self, image: Tensor) -> Tensor:
        _, height, width = image.shape
        top, left = random.randrange(height) - self._size // 2, random.randrange(width) - self._size // 2
        image[:, max(0, top) : top + self._size, max(0, left) : left + self._size] = 0
        return image
