"""HTA-KL, the head-tail aware KL divergence (Zhang, Zhu, Yu, Wang 2025, arXiv 2504.20445).

Known from a source: the sorting, the cumulative mask, delta, forward KL for the head and reverse KL for the tail,
weights from the two distances. Reconstructed from AKL (arXiv 2404.02657), on which it builds: the L1 distance, KLs
over all classes (not masked), detached weights, cross-entropy on the time mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from snnkd.errors import RequestError
from snnkd.losses.divergences import check_pair, log_probabilities

Head = Literal["top1", "strict", "cover"]


BLOCK = 2**16
"""Probabilities handled at a time on a CPU."""


@dataclass(frozen=True)
class Split:
    """The head-tail split of a batch: `weight` of the head `[B]` and `size` of the head in classes `[B]`."""

    weight: Tensor
    size: Tensor


def head_size(sorted_p: Tensor, delta: float, head: Head) -> Tensor:
    """How many classes of `sorted_p` `[B, C]` (descending) are the head, `[B]`; S is their cumulative sum.

    top1: those with S_i <= delta, and i = 1 (the AKL reference code; never empty). strict: S_i < delta (the paper as
    quoted; empty once max p >= delta). cover: S_i - p_i < delta, that is one more (the smallest set that reaches delta).
    """
    if head not in ("top1", "strict", "cover"):
        raise RequestError(f"head {head!r} is not one of top1, strict, cover")
    total = sorted_p.cumsum(-1)
    bound = total.new_full((len(total), 1), delta)
    size = torch.searchsorted(total, bound, right=head == "top1").squeeze(-1)
    if head == "top1":
        return size.clamp_min_(1)
    return size if head == "strict" else size.add_(1).clamp_max_(total.shape[-1])


@torch.no_grad()
def split(p: Tensor, q: Tensor, delta: float = 0.5, head: Head = "top1") -> Split:
    """Head weight d_head / (d_head + d_tail) from the L1 distances of p and q `[B, C]` within head and tail.

    Ties of p are broken by class order (stable sort). Where both distances are 0 the weight is 0, and so is the loss.
    """
    if not 0 < delta <= 1:
        raise RequestError(f"delta {delta} is not in (0, 1]")
    return _split(p.clone(), (p - q).abs(), delta, head)


def _split(p: Tensor, distance: Tensor, delta: float, head: Head) -> Split:
    """`split` of p and |p - q|; p is used up."""
    tail, size = _tail(p, delta, head)
    whole = distance.sum(-1)
    in_tail = tail.mul_(distance).sum(-1)
    return Split((whole - in_tail).div_(whole.clamp_min_(torch.finfo(whole.dtype).tiny)), size)


def _tail(p: Tensor, delta: float, head: Head) -> tuple[Tensor, Tensor]:
    """The tail as 0 or 1 in place of `p`, and the size of the head `[B]`."""
    if p.device.type == "cpu":
        return _tail_by_threshold(p, delta, head)
    sorted_p, order = p.sort(dim=-1, descending=True, stable=True)
    size = head_size(sorted_p, delta, head)
    return p.scatter_(-1, order, _places_from(size, p)), size


def _places_from(size: Tensor, p: Tensor) -> Tensor:
    """1 where a place is not among the first `size` of its row, else 0, as `p`."""
    return (torch.arange(p.shape[-1], device=p.device) >= size[:, None]).to(p.dtype)


def _tail_by_threshold(p: Tensor, delta: float, head: Head) -> tuple[Tensor, Tensor]:
    """The same from sorted values alone, whose sort numpy vectorises: torch's with indices takes 30 times as long."""
    values = p.neg().numpy()
    values.sort(axis=-1)
    size = head_size(torch.from_numpy(values).neg_(), delta, head)
    rows, inside = np.arange(len(values)), size.numpy()
    smallest = values[rows, np.maximum(inside, 1) - 1]  # of the head
    tied = smallest == values[rows, np.minimum(inside, values.shape[-1] - 1)]  # with the largest of the tail
    if head == "strict":
        smallest[inside == 0] = np.inf
    if tied.any():
        tied &= (inside > 0) & (inside < values.shape[-1])
    if not tied.any():
        return p.lt_(torch.from_numpy(smallest)[:, None]), size
    # only the order of classes tells head and tail apart
    chosen = torch.from_numpy(tied)
    order = p[chosen].argsort(dim=-1, descending=True, stable=True)
    parted = torch.empty_like(p[chosen]).scatter_(-1, order, _places_from(size[chosen], p))
    p.lt_(torch.from_numpy(smallest)[:, None])
    p[chosen] = parted
    return p, size


def _exp_(x: Tensor) -> Tensor:
    """exp in place; on a CPU numpy's, which takes half the time of torch's."""
    if x.device.type != "cpu":
        return x.exp_()
    values = x.numpy()
    np.exp(values, out=values)
    return x


def _rows(student: Tensor, teacher: Tensor, temperature: float, delta: float, head: Head) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of each sample: loss / temperature^2, head weight, size of the head, and minus the gradient / temperature `[B, C]`."""
    log_q, log_p = log_probabilities(student, temperature), log_probabilities(teacher, temperature)
    if log_p.dtype != log_q.dtype:
        log_p, log_q = log_p.double(), log_q.double()
    ratio = log_p - log_q
    p, q = _exp_(log_p), _exp_(log_q)
    gap = p - q
    forward = (p * ratio).sum(-1)
    parts = _split(p, gap.abs(), delta, head)
    ratio *= q
    reverse = -ratio.sum(-1)
    gradient = ratio.addcmul_(q, reverse[:, None]).lerp_(gap, parts.weight[:, None])
    return torch.lerp(reverse, forward, parts.weight), parts.weight, parts.size, gradient


def _in_blocks(student: Tensor, teacher: Tensor, *options: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`_rows`, on a CPU in blocks that stay in its cache: with 1000 classes that halves the time."""
    rows = max(1, BLOCK // student.shape[-1])
    if student.device.type != "cpu" or len(student) <= rows:
        return _rows(student, teacher, *options)
    blocks = [_rows(*block, *options) for block in zip(student.split(rows), teacher.split(rows), strict=True)]
    loss, weight, size, gradient = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    return loss, weight, size, gradient


class _HtaKl(torch.autograd.Function):
    """Value and gradient in one pass: with the weights detached the gradient is

    temperature / B x [w_head (q - p) + (1 - w_head) q (log(q / p) - KL(q || p))]; its parts are at hand in the forward pass.
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, options: tuple[float, float, Head], seen: list[Tensor]) -> Tensor:
        """The loss; head weight and size of each sample are appended to `seen`: as outputs they would cost autograd's handling."""
        loss, weight, size, gradient = _in_blocks(student, teacher, *options)
        seen += weight, size
        temperature = options[0]
        ctx.save_for_backward(gradient.mul_(-temperature / len(student)))
        ctx.dtype = student.dtype
        return temperature**2 * loss.mean()

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
    loss, weight, size = _evaluate(student, teacher, temperature, delta, head)
    watched = {
        "w_head": weight.mean(),
        "head_empty": (size == 0).float().mean(),
        "head_single": (size == 1).float().mean(),
    }
    return loss, watched


def _evaluate(student: Tensor, teacher: Tensor, temperature: float, delta: float, head: Head) -> tuple[Tensor, Tensor, Tensor]:
    check_pair(student, teacher, temperature)
    if not 0 < delta <= 1:
        raise RequestError(f"delta {delta} is not in (0, 1]")
    seen: list[Tensor] = []
    loss: Tensor = _HtaKl.apply(student, teacher, (temperature, delta, head), seen)
    weight, size = seen
    return loss, weight, size


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
    return _evaluate(student, teacher, temperature, delta, head)[0]
