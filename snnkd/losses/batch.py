"""Operations over the batch of all processes, for losses that compare samples.

Every process has an equal part of the batch. With one process each function returns its argument.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from snnkd import distributed


def gathered(x: Tensor, dim: int = 0) -> Tensor:
    """All-gather along `dim`, with gradient to this process's part.

    Every process must compute the same function of the result, so that the gradient of its own part is
    complete. It is multiplied by the number of processes, since DDP averages gradients.
    """
    if distributed.world_size() == 1:
        return x
    result: Tensor = _Gather.apply(x, dim)
    return result


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int) -> Tensor:
        ctx.dim, ctx.length = dim, x.shape[dim]
        parts = [
            torch.empty_like(x, memory_format=torch.contiguous_format)
            for _ in range(distributed.world_size())
        ]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts, dim)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        own = gradients[0].narrow(ctx.dim, distributed.rank() * ctx.length, ctx.length)
        return own * distributed.world_size(), None


@torch.no_grad()
def maximum(x: Tensor) -> Tensor:
    """Maximum over all samples, a detached scalar."""
    return _all_reduce(x.detach().amax(), "MAX")


@torch.no_grad()
def minimum(x: Tensor) -> Tensor:
    """Minimum over all samples, a detached scalar."""
    return _all_reduce(x.detach().amin(), "MIN")


def mean(x: Tensor) -> Tensor:
    """Mean over the processes, detached."""
    count, x = distributed.world_size(), x.detach()
    return x if count == 1 else _all_reduce(x, "SUM") / count


def _all_reduce(x: Tensor, operation: str) -> Tensor:
    if distributed.world_size() == 1:
        return x
    x = x.clone()
    dist.all_reduce(x, getattr(dist.ReduceOp, operation))
    return x


def rand(samples: int, *shape: int, device: torch.device) -> Tensor:
    """Uniform numbers `[samples, ...]` of torch's global generator, this process's part of the batch."""
    part = slice(distributed.rank() * samples, (distributed.rank() + 1) * samples)
    return torch.rand(samples * distributed.world_size(), *shape, device=device)[part]
