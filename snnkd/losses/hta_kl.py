"""HTA-KL, the head-tail aware KL divergence (Zhang, Zhu, Yu, Wang 2025, arXiv 2504.20445).

Known from a source: the sorting, the cumulative mask, delta, forward KL for the head and reverse KL for the tail,
weights from the two distances. Reconstructed from AKL (arXiv 2404.02657), on which it builds: the L1 distance, KLs
over all classes (not masked), detached weights, cross-entropy on the time mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from snnkd.errors import RequestError
from snnkd.losses.divergences import forward_sum, log_pair

Head = Literal["top1", "strict", "cover"]


@dataclass(frozen=True)
class Split:
    """The head-tail split of a batch: `weight` of the head `[B]` and `size` of the head in classes `[B]`."""

    weight: Tensor
    size: Tensor


def head_mask(sorted_p: Tensor, delta: float, head: Head) -> Tensor:
    """Which classes of `sorted_p` `[B, C]` (descending) are the head, as bool `[B, C]`; S is their cumulative sum.

    top1: S_i <= delta or i = 1 (the AKL reference code; never empty). strict: S_i < delta (the paper as quoted; empty
    once max p >= delta). cover: S_i - p_i < delta (the smallest set that reaches delta).
    """
    total = sorted_p.cumsum(-1)
    if head == "strict":
        return total < delta
    if head == "cover":
        return total - sorted_p < delta
    if head == "top1":
        mask = total <= delta
        mask[..., 0] = True
        return mask
    raise RequestError(f"head {head!r} is not one of top1, strict, cover")


@torch.no_grad()
def split(p: Tensor, q: Tensor, delta: float = 0.5, head: Head = "top1") -> Split:
    """Head weight d_head / (d_head + d_tail) from the L1 distances of p and q `[B, C]` within head and tail.

    Ties of p are broken by class order (stable sort). Where both distances are 0 the weight is 0, and so is the loss.
    """
    if not 0 < delta <= 1:
        raise RequestError(f"delta {delta} is not in (0, 1]")
    sorted_p, order = p.sort(dim=-1, descending=True, stable=True)
    mask = head_mask(sorted_p, delta, head)
    distance = (sorted_p - q.gather(-1, order)).abs()
    in_head = (distance * mask).sum(-1)
    in_tail = (distance * ~mask).sum(-1)
    return Split(in_head / (in_head + in_tail).clamp_min(torch.finfo(p.dtype).tiny), mask.sum(-1))


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
    log_q, log_p = log_pair(student, teacher, temperature)
    parts = split(log_p.exp(), log_q.detach().exp(), delta, head)
    forward, reverse = forward_sum(log_q, log_p), forward_sum(log_p, log_q)
    loss = temperature**2 * (parts.weight * forward + (1 - parts.weight) * reverse).mean()
    watched = {
        "w_head": parts.weight.mean(),
        "head_empty": (parts.size == 0).float().mean(),
        "head_single": (parts.size == 1).float().mean(),
    }
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
    `jeffreys` are its nearest neighbours: compare with them. Raises RequestError for shapes, delta, head or a
    temperature out of range. Source: module docstring.
    """
    return measured_hta_kl(student, teacher, temperature=temperature, labels=labels, delta=delta, head=head)[0]
