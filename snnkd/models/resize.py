"""Resize images to the input size and channels of a network."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from snnkd.errors import UsageError

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in luma (ITU-R BT.601), as in Pillow and torchvision."""


def resize_images(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Resize images in 0..1 `[B, C, H, W]` to the channels and size of `shape`, antialiased bilinear.

    One channel is repeated, RGB becomes luma for a one-channel network; other channel counts raise
    UsageError.
    """
    channels, height, width = shape
    if images.shape[1] != channels:
        if images.shape[1] == 1:
            images = images.expand(-1, channels, -1, -1)
        elif (images.shape[1], channels) == (3, 1):
            # per channel: a tensor of weights would need a synchronising copy to the device
            images = sum(weight * images[:, i : i + 1] for i, weight in enumerate(LUMA))  # type: ignore[assignment]
        else:
            raise UsageError(f"images have {images.shape[1]} channels; the network expects {channels}")
    if images.shape[2:] == (height, width):
        return images
    return F.interpolate(images, (height, width), mode="bilinear", antialias=True)
