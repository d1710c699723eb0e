"""What every topology does alike: repeat over timesteps, run a block, answer in full precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from snnkd.errors import UsageError


def repeat_over_time(x: Tensor, T: int) -> Tensor:
    """`[B, ...]` as `[T*B, ...]`, the same at every timestep, in the memory layout of `x` (expand and flatten would lose channels_last)."""
    return torch.cat([x] * T) if T > 1 else x


def encode_images(stem: Callable[[Tensor], Tensor], images: Tensor, T: int) -> Tensor:
    """`stem(images)` at every timestep, `[T*B, ...]`: computed once for a still image `[B, C, H, W]`, which is the same at each.

    Of event frames `[T, B, C, H, W]` each timestep has its own.
    """
    if images.ndim == 5:
        return stem(images.flatten(0, 1))
    return repeat_over_time(stem(images), T)


def init_weights(network: nn.Module) -> None:
    """Convolutions as for ReLU (He et al. 2015), by the channels they give; all else as torch does."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def check_size(name: str, shape: tuple[int, int, int], least: int) -> None:
    """Raises UsageError where nothing would be left of images of `shape` after the poolings of `name`."""
    if min(shape[1:]) < least:
        raise UsageError(
            f"model.name: {name} pools images to nothing below {least}x{least}, these are {shape[1]}x{shape[2]}; use resnet8"
        )


class Pointwise(nn.Conv2d):
    """A 1x1 convolution that, where torch's own is not safe, takes the pixels of its stride first: the same numbers up to rounding.

    torch 2.14 and 2.15 on a CPU write beyond their memory going backward through a strided one in channels_last that has fewer
    channels than a vector instruction takes numbers: 8 with AVX2 (at any size), 16 with AVX-512 (from 56 pixels on). Found
    with a malloc that checks itself; with as many channels or more, and in other layouts, it found nothing.
    """

    SAFE_CHANNELS = 16

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        across, down = self.stride
        safe = self.in_channels >= self.SAFE_CHANNELS or x.device.type != "cpu"
        if safe or (across, down) == (1, 1):
            return super().forward(x)
        taken = x[..., ::across, ::down].contiguous(memory_format=torch.channels_last)
        return nn.functional.conv2d(taken, self.weight)


def full_precision(head: nn.Module, x: Tensor) -> Tensor:
    """`head(x)` in the type of its weights also under autocast: bf16 logits would have steps of 1/16 above 8."""
    if not torch.is_autocast_enabled(x.device.type if x.device.type != "meta" else "cpu"):
        made: Tensor = head(x)
        return made
    with torch.autocast(x.device.type, enabled=False):
        full: Tensor = head(x.to(next(head.parameters()).dtype))
    return full


def run_block(block: nn.Module, x: Tensor, T: int) -> Tensor:
    """`block(x, T)`; with `block.recompute` only `x` is kept for the backward pass, which computes the rest again.

    Activation checkpointing (Chen et al. 2016, arXiv 1604.06174).
    """
    if not (getattr(block, "recompute", False) and torch.is_grad_enabled()):
        made: Tensor = block(x, T)
        return made
    again: Tensor = checkpoint(
        block, x, T, use_reentrant=False, context_fn=lambda: (nullcontext(), _statistics_kept(block))
    )
    return again


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """The running statistics of norms saw this batch in the forward pass already."""
    norms = [m for m in block.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [
        (norm.momentum, None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone())
        for norm in norms
    ]
    for norm in norms:
        norm.momentum = 0.0  # the same tensors have to be saved as in the forward pass, so statistics stay on
    try:
        yield
    finally:
        for norm, (momentum, seen) in zip(norms, before, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None and seen is not None:
                norm.num_batches_tracked.copy_(seen)


def enable_recompute(network: nn.Module) -> int:
    """Switch it on in every block of `network`; returns how many there are."""
    blocks = [module for module in network.modules() if hasattr(module, "recompute")]
    for block in blocks:
        block.recompute = True  # type: ignore[assignment]
    return len(blocks)
