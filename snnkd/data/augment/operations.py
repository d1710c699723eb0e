"""Image operators of AutoAugment, RandAugment and TrivialAugment on batches uint8 `[B, C, H, W]`, C 1 or 3.

Each gives exactly the pixels of torchvision's (`torchvision.transforms.v2.functional`, for tensors) on a CPU
with fused multiply-add, and the same pixels on every device: lookup tables are computed on the CPU, and sums
that decide a level are rounded once, from float64. Every image has its own magnitude: brightness, color,
contrast and sharpness use the factor 1 + magnitude, posterize keeps that many bits, solarize inverts from
that level on; autocontrast, equalize, invert and identity ignore it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import torch
from torch import Tensor

from snnkd.data.augment.geometry import MATRICES, transform
from snnkd.data.augment.rng import to_device

LEVELS = 256
LUMA: tuple[float, ...] = tuple(torch.tensor([0.2989, 0.587, 0.114]).tolist())
"""Weights of red, green and blue, rounded to float32."""
Operator = Callable[[Tensor, Sequence[float]], Tensor]


def _to_uint8(x: Tensor) -> Tensor:
    """Clamped to 0..255 and truncated."""
    return x.clamp_(0, LEVELS - 1).to(torch.uint8)


def _apply_tables(images: Tensor, tables: Tensor) -> Tensor:
    """Replace each level by its entry in the lookup table `[B, 1 or C, 256]` of its image (and channel)."""
    pixels = images.flatten(2).long()
    return tables.expand(-1, images.shape[1], -1).gather(2, pixels).view(images.shape)


def _by_table(images: Tensor, magnitudes: Sequence[float], name: str) -> Tensor:
    tables = torch.stack([_table(name, magnitude) for magnitude in magnitudes])
    return _apply_tables(images, to_device(tables, images.device)[:, None])


@lru_cache(maxsize=1024)
def _table(name: str, magnitude: float) -> Tensor:
    """The lookup table of an operator, `[256]` on the CPU."""
    level = torch.arange(LEVELS, dtype=torch.uint8)
    if name == "brightness":
        return _to_uint8(level * (1.0 + magnitude))
    if name == "posterize":
        bits = int(magnitude)
        return level & (((1 << bits) - 1) << (8 - bits))
    return torch.where(level >= magnitude, ~level, level)  # solarize


def _invert(images: Tensor, magnitudes: Sequence[float]) -> Tensor:
    return ~images


def _factors(magnitudes: Sequence[float], device: torch.device) -> tuple[Tensor, Tensor]:
    """The factors 1 + magnitude, and 1 minus the factor, each `[B, 1, 1, 1]` in float32."""
    factors = [1.0 + magnitude for magnitude in magnitudes]
    both = to_device(torch.tensor([factors, [1.0 - factor for factor in factors]]), device)
    return both[0].view(-1, 1, 1, 1), both[1].view(-1, 1, 1, 1)


def _fused_multiply_add(x: Tensor, y: Tensor, factor: Tensor) -> Tensor:
    """x + y * factor in float32, rounded once on every device, as torch's CPU kernels compute it."""
    return torch.addcmul(x.double(), y.double(), factor.double()).float()


def _grey(images: Tensor) -> Tensor:
    """Luminance rounded down, `[B, 1, H, W]` in float32, exact on every device."""
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
    return _to_uint8(_fused_multiply_add(images * factor, _grey(images), rest))


def _contrast(images: Tensor, magnitudes: Sequence[float]) -> Tensor:
    factor, rest = _factors(magnitudes, images.device)
    mean = _grey(images).double().mean((1, 2, 3), keepdim=True).float()
    level = torch.arange(LEVELS, device=images.device).view(1, 1, 1, -1)
    return _apply_tables(images, _to_uint8(_fused_multiply_add(level * factor, mean, rest))[:, 0])


def _sharpness(images: Tensor, magnitudes: Sequence[float]) -> Tensor:
    """Away from, or towards, the 3x3 mean with weight 5 in the centre; the border is unchanged."""
    if min(images.shape[2:]) <= 2:
        return images
    _, rest = _factors(magnitudes, images.device)
    x = images.float()
    inner = x[:, :, 1:-1, 1:-1]
    rows = x[:, :, :-2] + x[:, :, 1:-1] + x[:, :, 2:]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * inner
    # a thirteenth is never a tie, so all ways of dividing round equally
    smooth = (total / 13).round_()
    result = images.clone()
    result[:, :, 1:-1, 1:-1] = _to_uint8(_fused_multiply_add(inner, smooth - inner, rest))
    return result


def _autocontrast(images: Tensor, magnitudes: Sequence[float]) -> Tensor:
    """Each channel stretched to 0..255; a constant channel is unchanged."""
    low = images.amin((2, 3)).float()[..., None]
    high = images.amax((2, 3)).float()[..., None]
    flat = low == high
    scale = torch.where(flat, 1.0, (high - low) * (1.0 / (LEVELS - 1)))
    level = torch.arange(LEVELS, device=images.device)
    return _apply_tables(images, _to_uint8((level - low.masked_fill(flat, 0.0)) / scale))


def _equalize(images: Tensor, magnitudes: Sequence[float]) -> Tensor:
    """Each channel's histogram equalized with Pillow's integer arithmetic."""
    pixels = images.flatten(2).long()
    histogram = pixels.new_zeros((*pixels.shape[:2], LEVELS), dtype=torch.int32)
    histogram.scatter_add_(2, pixels, histogram.new_ones(()).expand_as(pixels))
    below = histogram.cumsum(2, dtype=torch.int32)
    highest = images.amax((2, 3)).long()[..., None]
    step = (pixels.shape[2] - histogram.gather(2, highest)) // (LEVELS - 1)
    spread = (below - histogram + step // 2) // step.clamp_min(1)
    identity = torch.arange(LEVELS, device=images.device, dtype=torch.int32)
    tables = torch.where(step == 0, identity, spread.clamp_(0, LEVELS - 1)).to(torch.uint8)
    return tables.gather(2, pixels).view(images.shape)


OPERATORS: dict[str, Operator] = {
    "identity": lambda images, magnitudes: images,
    **{
        name: partial(lambda images, magnitudes, name: transform(images, name, magnitudes), name=name)
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


def apply_operators(images: Tensor, names: Sequence[str], magnitudes: Sequence[float]) -> Tensor:
    """Apply operator `names[i]` with `magnitudes[i]` to image i; an operator runs once for all its images."""
    groups: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        groups.setdefault(name, []).append(i)
    if set(groups) <= {"identity"}:
        return images
    order = torch.tensor([i for group in groups.values() for i in group])
    order_here, inverse = to_device(torch.stack((order, order.argsort())), images.device)
    pieces = images[order_here].split([len(group) for group in groups.values()])
    results = [
        OPERATORS[name](piece, [magnitudes[i] for i in group])
        for (name, group), piece in zip(groups.items(), pieces, strict=True)
    ]
    return torch.cat(results)[inverse]
