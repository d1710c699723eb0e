"""One image as several networks were trained to see it."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from snnkd.errors import UsageError

GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in luma (ITU-R BT.601), as Pillow and torchvision take them."""


def resize_images(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Images float 0..1 `[B, C, H, W]` at the size and channels of `shape`: bilinear with antialiasing, grey shown on all three, or luma.

    Raises UsageError for channels that are neither.
    """
    channels, height, width = shape
    if images.shape[1] != channels:
        if images.shape[1] == 1:
            images = images.expand(-1, channels, -1, -1)
        elif (images.shape[1], channels) == (3, 1):
            # channel by channel: a tensor of the weights would have to be brought to the device, which waits
            images = sum(weight * images[:, i : i + 1] for i, weight in enumerate(GREY))  # type: ignore[assignment]
        else:
            raise UsageError(
                f"images of {images.shape[1]} channels cannot be shown to a network that takes {channels}"
            )
    if images.shape[2:] == (height, width):
        return images
    return F.interpolate(images, (height, width), mode="bilinear", antialias=True)
