"""HTA-KL, the head-tail aware KL divergence (Zhang, Zhu, Yu, Wang 2025, arXiv 2504.20445).

Known from a source: the sorting, the cumulative mask, delta, forward KL for the head and reverse KL for the tail,
weights from the two distances. Reconstructed from AKL (arXiv 2404.02657), on which it builds: the L1 distance, KLs
over all classes (not masked), detached weights, cross-entropy on the time mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snnkd.losses import hta_kl_cpu
from snnkd.losses.divergences import check_pair, log_pair
from snnkd.losses.head import TINY, Head, check_split, in_head


@dataclass(frozen=True)
class Split:
    """The head-tail split of a batch: `weight` of the head `[B]` and `size` of the head in classes `[B]`."""

    weight: Tensor
    size: Tensor


@torch.no_grad()
def split(p: Tensor, q: Tensor, delta: float = 0.5, head: Head = "top1") -> Split:
    """Head weight d_head / (d_head + d_tail) from the L1 distances of p and q `[B, C]` within head and tail.

    Ties of p are broken by class order (stable sort). Where both distances are 0 the weight is 0, and so is the loss.
    """
    check_split(delta, head)
    distance = (p - q).abs()
    sorted_p, order = p.sort(dim=-1, descending=True, stable=True)
    inside = in_head(sorted_p.cumsum(-1), delta, head)
    in_tail = torch.empty_like(p).scatter_(-1, order, (~inside).to(p.dtype)).mul_(distance).sum(-1)
    whole = distance.sum(-1)
    return Split((whole - in_tail).div_(whole.clamp_min_(TINY)), inside.sum(-1))


def evaluate(student: Tensor, teacher: Tensor, temperature: float, delta: float, head: Head) -> tuple[Tensor, ...]:
    """The loss, mean head weight, shares of empty and of single-class heads, and the gradient for the student `[B, C]`.

    With the weights detached the gradient is temperature / B x [w_head (q - p) + (1 - w_head) q (log(q / p) - KL(q || p))].
    """
    log_q, log_p = log_pair(student, teacher, temperature)
    p, q, ratio = log_p.exp(), log_q.exp(), log_p - log_q
    parts = split(p, q, delta, head)
    forward, reverse = (p * ratio).sum(-1), -(q * ratio).sum(-1)
    loss = temperature**2 * torch.lerp(reverse, forward, parts.weight).mean()
    upward = torch.lerp(q * (ratio + reverse[:, None]), p - q, parts.weight[:, None])
    empty, single = ((parts.size == size).float().mean() for size in (0, 1))
    return loss, parts.weight.mean(), empty, single, upward.mul_(-temperature / len(student))


class _HtaKl(torch.autograd.Function):
    """Value and gradient in one pass, since the parts of the gradient are at hand in the forward pass."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, options: tuple[float, float, Head], watched: dict[str, Tensor]) -> Tensor:
        """The loss; what to watch is put into `watched`: as outputs it would cost autograd's handling."""
        found = (hta_kl_cpu.evaluate if student.device.type == "cpu" else evaluate)(student, teacher, *options)
        loss, watched["w_head"], watched["head_empty"], watched["head_single"], gradient = found
        ctx.save_for_backward(gradient)
        ctx.dtype = student.dtype
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return (gradient * outer).to(ctx.dtype), None, None, None


def measured_hta_kl(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 1.0,
    labels: Tensor | None = None,
    delta: float = 0.5,
    head: Head = "top1",
) -> tuple[Tensor, dict[str, Tensor]]:
    """`hta_kl` and what to watch: mean head weight, shares of empty and of single-class heads (0..1, no gradient)."""
    check_pair(student, teacher, temperature)
    check_split(delta, head)
    watched: dict[str, Tensor] = {}
    loss: Tensor = _HtaKl.apply(student, teacher, (temperature, delta, head), watched)
    return loss, watched


def hta_kl(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 1.0,
    labels: Tensor | None = None,
    delta: float = 0.5,
    head: Head = "top1",
) -> Tensor:
    """temperature^2 x mean over the batch of w_head KL(p || q) + (1 - w_head) KL(q || p).

    student, teacher: logits `[B, C]`; returns a scalar. w_head is of each sample and carries no gradient. Invariant
    under a constant added to the logits, and under permuting classes when all p differ. Plain `rkl` and half of
    `jeffreys` are its nearest neighbours: compare with them. Can be differentiated once. Raises RequestError for
    shapes, delta, head or a temperature out of range. Source: module docstring.
    """
    return measured_hta_kl(student, teacher, temperature=temperature, delta=delta, head=head)[0]
