"""Operations shared by all topologies: timesteps, initialisation, checkpointing, full-precision heads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from snnkd.errors import UsageError


def repeat_over_time(x: Tensor, T: int) -> Tensor:
    """Repeat `[B, ...]` to `[T*B, ...]`, keeping memory layout (expand and flatten lose channels_last)."""
    return torch.cat([x] * T) if T > 1 else x


def encode_images(stem: Callable[[Tensor], Tensor], images: Tensor, T: int) -> Tensor:
    """`stem(images)` at every timestep, `[T*B, ...]`.

    Computed once for still images `[B, C, H, W]`, and per timestep for event frames `[T, B, C, H, W]`.
    """
    if images.ndim == 5:
        return stem(images.flatten(0, 1))
    return repeat_over_time(stem(images), T)


def init_weights(network: nn.Module) -> None:
    """Initialise convolutions by Kaiming normal, fan-out (He et al. 2015); others keep torch's."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def check_size(name: str, shape: tuple[int, int, int], minimum: int) -> None:
    """Raise UsageError if the poolings of network `name` would reduce images `(C, H, W)` below one pixel."""
    if min(shape[1:]) < minimum:
        raise UsageError(
            f"model.name: {name} needs images of at least {minimum}x{minimum}, "
            f"these are {shape[1]}x{shape[2]}; use resnet8"
        )


class Pointwise(nn.Conv2d):
    """A 1x1 convolution that subsamples its input before convolving where torch's strided kernel is unsafe.

    On a CPU, torch 2.14 and 2.15 write out of bounds in the backward pass of a strided 1x1 convolution in
    channels_last with fewer input channels than a vector register holds: 8 with AVX2 (any image size), 16
    with AVX-512 (from 56 pixels). A checking malloc reports no error with more channels or in other layouts.
    Outputs agree with nn.Conv2d up to rounding.
    """

    SAFE_CHANNELS = 16

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        stride_h, stride_w = self.stride
        safe = self.in_channels >= self.SAFE_CHANNELS or x.device.type != "cpu"
        if safe or (stride_h, stride_w) == (1, 1):
            return super().forward(x)
        subsampled = x[..., ::stride_h, ::stride_w].contiguous(memory_format=torch.channels_last)
        return nn.functional.conv2d(subsampled, self.weight)


def full_precision(head: nn.Module, x: Tensor) -> Tensor:
    """`head(x)` in the dtype of its weights even under autocast: above 8, bf16 logits have steps of 1/16."""
    if not torch.is_autocast_enabled(x.device.type if x.device.type != "meta" else "cpu"):
        logits: Tensor = head(x)
        return logits
    with torch.autocast(x.device.type, enabled=False):
        logits = head(x.to(next(head.parameters()).dtype))
    return logits


def run_block(block: nn.Module, x: Tensor, T: int) -> Tensor:
    """`block(x, T)`; if `block.recompute`, activation checkpointing (Chen et al. 2016; arXiv 1604.06174)."""
    if not (getattr(block, "recompute", False) and torch.is_grad_enabled()):
        output: Tensor = block(x, T)
        return output
    output = checkpoint(
        block, x, T, use_reentrant=False, context_fn=lambda: (nullcontext(), _frozen_statistics(block))
    )
    return output


@contextmanager
def _frozen_statistics(block: nn.Module) -> Iterator[None]:
    """Leave the running statistics of norms unchanged: the forward pass has already updated them."""
    norms = [m for m in block.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [
        (norm.momentum, None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone())
        for norm in norms
    ]
    for norm in norms:
        norm.momentum = 0.0  # not eval(): checkpointing requires the same saved tensors as the forward pass
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None and batches is not None:
                norm.num_batches_tracked.copy_(batches)


def enable_recompute(network: nn.Module) -> int:
    """Enable activation checkpointing in every block of `network`; returns the number of blocks."""
    blocks = [module for module in network.modules() if hasattr(module, "recompute")]
    for block in blocks:
        block.recompute = True  # type: ignore[assignment]
    return len(blocks)
