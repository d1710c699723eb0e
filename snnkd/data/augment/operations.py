"""The image operators of AutoAugment and its like, on batches: uint8 `[B, C, H, W]` with C 1 or 3, a magnitude for each image.

What each does to an image is what torchvision's does to a tensor (`torchvision.transforms.v2.functional`), to the last
level on a CPU that has fused multiply-add; the same on every device, because tables are made on the CPU and sums that
decide a level are rounded once, from float64. Magnitudes are those of the policies' tables: brightness, color, contrast
and sharpness by the factor 1 + magnitude, posterize to so many bits, solarize from that level on; autocontrast,
equalize, invert and identity have none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import torch
from torch import Tensor

from snnkd.data.augment.geometry import MATRICES, move
from snnkd.data.augment.rng import to_device

LEVELS = 256
LUMA: tuple[float, ...] = tuple(torch.tensor([0.2989, 0.587, 0.114]).tolist())
"""Weights of red, green and blue as float32 holds them."""
Operator = Callable[[Tensor, Sequence[float]], Tensor]


def _levels(x: Tensor) -> Tensor:
    """Back to uint8, cut off at both ends and truncated."""
    return x.clamp_(0, LEVELS - 1).to(torch.uint8)


def _looked_up(images: Tensor, tables: Tensor) -> Tensor:
    """Each level replaced by the entry of its image's (and channel's) table, `[B, 1 or C, 256]`."""
    pixels = images.flatten(2).long()
    return tables.expand(-1, images.shape[1], -1).gather(2, pixels).view(images.shape)


def _by_table(images: Tensor, magnitudes: Sequence[float], name: str) -> Tensor:
    tables = torch.stack([_table(name, magnitude) for magnitude in magnitudes])
    return _looked_up(images, to_device(tables, images.device)[:, None])


@lru_cache(maxsize=1024)
def _table(name: str, magnitude: float) -> Tensor:
    """The new level of each level, `[256]` on the CPU."""
    level = torch.arange(LEVELS, dtype=torch.uint8)
    if name == "brightness":
        return _levels(level * (1.0 + magnitude))
    if name == "posterize":
        bits = int(magnitude)
        return level & (((1 << bits) - 1) << (8 - bits))
    return torch.where(level >= magnitude, ~level, level)  # solarize


def _invert(images: Tensor, magnitudes: Sequence[float]) -> Tensor:
    return ~images


def _factors(magnitudes: Sequence[float], device: torch.device) -> tuple[Tensor, Tensor]:
    """1 + magnitude and what is left to 1, `[B, 1, 1, 1]` in float32."""
    factors = [1.0 + magnitude for magnitude in magnitudes]
    both = to_device(torch.tensor([factors, [1.0 - factor for factor in factors]]), device)
    return both[0].view(-1, 1, 1, 1), both[1].view(-1, 1, 1, 1)


def _plus_product(x: Tensor, y: Tensor, factor: Tensor) -> Tensor:
    """x + y factor in float32, rounded once: a fused multiply-add, as torch's CPU kernels have it, on every device."""
    return torch.addcmul(x.double(), y.double(), factor.double()).float()


def _grey(images: Tensor) -> Tensor:
    """The whole levels of luminance, `[B, 1, H, W]` in float32, exact on every device."""
    if images.shape[1] == 1:
        return images.float()
    red, green, blue = images.unbind(1)
    first = red * LUMA[0]
    second = torch.add(first.double(), green.double(), alpha=LUMA[1]).float()
    return torch.add(second.double(), blue.double(), alpha=LUMA[2]).float().floor_()[:, None]


def _color(images: Tensor, magnitudes: Sequence[float]) -> Tensor:
    if images.shape[1] == 1:
        return images
    factor, rest = _factors(magnitudes, images.device)
    return _levels(_plus_product(images * factor, _grey(images), rest))


def _contrast(images: Tensor, magnitudes: Sequence[float]) -> Tensor:
    factor, rest = _factors(magnitudes, images.device)
    mean = _grey(images).double().mean((1, 2, 3), keepdim=True).float()
    level = torch.arange(LEVELS, device=images.device).view(1, 1, 1, -1)
    return _looked_up(images, _levels(_plus_product(level * factor, mean, rest))[:, 0])


def _sharpness(images: Tensor, magnitudes: Sequence[float]) -> Tensor:
    """Away from, or towards, the mean over 3x3 pixels with five-fold weight in the middle; the border stays."""
    if min(images.shape[2:]) <= 2:
        return images
    _, rest = _factors(magnitudes, images.device)
    x = images.float()
    inner = x[:, :, 1:-1, 1:-1]
    rows = x[:, :, :-2] + x[:, :, 1:-1] + x[:, :, 2:]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * inner
    # thirteenths never lie half way, so that any way of dividing rounds alike
    smooth = (total / 13).round_()
    made = images.clone()
    made[:, :, 1:-1, 1:-1] = _levels(_plus_product(inner, smooth - inner, rest))
    return made


def _autocontrast(images: Tensor, magnitudes: Sequence[float]) -> Tensor:
    """Each channel stretched to 0..255; one of a single level stays."""
    low = images.amin((2, 3)).float()[..., None]
    high = images.amax((2, 3)).float()[..., None]
    flat = low == high
    scale = torch.where(flat, 1.0, (high - low) * (1.0 / (LEVELS - 1)))
    level = torch.arange(LEVELS, device=images.device)
    return _looked_up(images, _levels((level - low.masked_fill(flat, 0.0)) / scale))


def _equalize(images: Tensor, magnitudes: Sequence[float]) -> Tensor:
    """Each channel's levels spread by their cumulative histogram, by Pillow's whole-number rule."""
    pixels = images.flatten(2).long()
    histogram = pixels.new_zeros((*pixels.shape[:2], LEVELS), dtype=torch.int32)
    histogram.scatter_add_(2, pixels, histogram.new_ones(()).expand_as(pixels))
    below = histogram.cumsum(2, dtype=torch.int32)
    highest = images.amax((2, 3)).long()[..., None]
    step = (pixels.shape[2] - histogram.gather(2, highest)) // (LEVELS - 1)
    spread = (below - histogram + step // 2) // step.clamp_min(1)
    own = torch.arange(LEVELS, device=images.device, dtype=torch.int32)
    tables = torch.where(step == 0, own, spread.clamp_(0, LEVELS - 1)).to(torch.uint8)
    return tables.gather(2, pixels).view(images.shape)


OPERATORS: dict[str, Operator] = {
    "identity": lambda images, magnitudes: images,
    **{
        name: partial(lambda images, magnitudes, name: move(images, name, magnitudes), name=name)
        for name in MATRICES
    },
    "brightness": partial(_by_table, name="brightness"),
    "color": _color,
    "contrast": _contrast,
    "sharpness": _sharpness,
    "posterize": partial(_by_table, name="posterize"),
    "solarize": partial(_by_table, name="solarize"),
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "invert": _invert,
}


def operate(images: Tensor, names: Sequence[str], magnitudes: Sequence[float]) -> Tensor:
    """Image i through operator `names[i]` with `magnitudes[i]`; each operator runs once, on the images that it is for."""
    groups: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        groups.setdefault(name, []).append(i)
    if set(groups) <= {"identity"}:
        return images
    order = torch.tensor([i for group in groups.values() for i in group])
    there, back = to_device(torch.stack((order, order.argsort())), images.device)
    pieces = images[there].split([len(group) for group in groups.values()])
    made = [
        OPERATORS[name](piece, [magnitudes[i] for i in group])
        for (name, group), piece in zip(groups.items(), pieces, strict=True)
    ]
    return torch.cat(made)[back]
