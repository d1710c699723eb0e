"""The whole batch, where several processes hold a part of it each: what a loss that looks across samples needs.

Every part has the same length. With one process everything here gives its argument back.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed

from snnkd import processes


def gathered(x: Tensor, dim: int = 0) -> Tensor:
    """The parts of all processes joined along `dim`, with gradient to the own part.

    Every process must compute the same function of it: then the gradient of its own part is all there is, and it is
    multiplied by the number of processes, by which averaging the gradients over them will divide.
    """
    if processes.count() == 1:
        return x
    made: Tensor = _Gather.apply(x, dim)
    return made


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int) -> Tensor:
        ctx.dim, ctx.length = dim, x.shape[dim]
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(processes.count())]
        distributed.all_gather(parts, x.contiguous())
        return torch.cat(parts, dim)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        own = gradients[0].narrow(ctx.dim, processes.index() * ctx.length, ctx.length)
        return own * processes.count(), None


@torch.no_grad()
def largest(x: Tensor) -> Tensor:
    """The maximum over all samples, a scalar without gradient."""
    return _reduced(x.detach().amax(), "MAX")


@torch.no_grad()
def smallest(x: Tensor) -> Tensor:
    """The minimum over all samples, a scalar without gradient."""
    return _reduced(x.detach().amin(), "MIN")


def mean(x: Tensor) -> Tensor:
    """The mean over the processes, without gradient."""
    count, x = processes.count(), x.detach()
    return x if count == 1 else _reduced(x, "SUM") / count


def _reduced(x: Tensor, how: str) -> Tensor:
    if processes.count() == 1:
        return x
    x = x.clone()
    distributed.all_reduce(x, getattr(distributed.ReduceOp, how))
    return x


def rand(samples: int, *shape: int, device: torch.device) -> Tensor:
    """Uniform numbers `[samples, ...]` from torch's global generator: this process's part of those for the whole batch."""
    part = slice(processes.index() * samples, (processes.index() + 1) * samples)
    return torch.rand(samples * processes.count(), *shape, device=device)[part]
