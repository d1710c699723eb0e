"""HTA-KL, the head-tail aware KL divergence (Zhang, Zhu, Yu, Wang 2025, arXiv 2504.20445).

Known from a source: the sorting, the cumulative mask, delta, forward KL for the head and reverse KL for the
tail, weights from the two distances. Reconstructed from AKL (arXiv 2404.02657), on which it builds: the L1
distance, KLs over all classes (not masked), detached weights, cross-entropy on the time mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from snnkd.errors import UsageError
from snnkd.losses.divergences import forward_sum, log_pair
from snnkd.schema.loss import DELTA, Head

TINY = 1.2e-38
"""The smallest normal float32: a smaller distance counts as 0."""


@dataclass(frozen=True)
class HeadTailSplit:
    """The head-tail split of a batch: `weight` of the head `[B]` and `size` of the head in classes `[B]`."""

    weight: Tensor
    size: Tensor


def check_split(delta: float, head: str) -> None:
    """Raise UsageError for a delta that is not in (0, 1] and for an unknown head."""
    if not 0 < delta <= 1:
        raise UsageError(f"delta {delta} is not in (0, 1]")
    if head not in get_args(Head):
        raise UsageError(f"head {head!r} is not one of {', '.join(get_args(Head))}")


def head_mask(sorted_p: Tensor, delta: float, head: Head) -> Tensor:
    """Mask of the classes in the head, `[B, C]`, for descending probabilities `sorted_p` `[B, C]`.

    With cumulative sums S_i = p_1 + ... + p_i: top1: S_i <= delta, or i = 1 (the AKL reference code; never
    empty). strict: S_i < delta (the paper as quoted; empty once max p >= delta). cover: S_i - p_i < delta
    (the smallest set whose sum reaches delta).
    """
    total = sorted_p.cumsum(-1)
    mask = total <= delta if head == "top1" else total < delta
    if head == "cover":
        mask[:, 1:] = total[:, :-1] < delta
    if head != "strict":
        mask[:, 0] = True
    return mask


@torch.no_grad()
def split(p: Tensor, q: Tensor, delta: float, head: Head) -> HeadTailSplit:
    """Head weight d_head / (d_head + d_tail) from the L1 distances of p and q `[B, C]` within head and tail.

    Ties of p are broken by class order (stable sort). If both distances are 0, so are weight and loss.
    """
    sorted_p, order = p.sort(dim=-1, descending=True, stable=True)
    mask = head_mask(sorted_p, delta, head)
    distance = (sorted_p - q.gather(-1, order)).abs()
    d_head, d_all = (distance * mask).sum(-1), distance.sum(-1)
    return HeadTailSplit(d_head / d_all.clamp_min(TINY), mask.sum(-1))


def hta_kl_with_stats(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 1.0,
    labels: Tensor | None = None,
    delta: float = DELTA,
    head: Head = "top1",
) -> tuple[Tensor, dict[str, Tensor]]:
    """`hta_kl` with mean head weight and fractions of empty and of single-class heads (no gradient)."""
    check_split(delta, head)
    log_q, log_p = log_pair(student, teacher, temperature)
    parts = split(log_p.exp(), log_q.exp(), delta, head)
    fkl, rkl = forward_sum(log_q, log_p), forward_sum(log_p, log_q)
    loss = temperature**2 * (parts.weight * fkl + (1 - parts.weight) * rkl).mean()
    return loss, {
        "w_head": parts.weight.mean(),
        "head_empty": (parts.size == 0).float().mean(),
        "head_single": (parts.size == 1).float().mean(),
    }


def hta_kl(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 1.0,
    labels: Tensor | None = None,
    delta: float = DELTA,
    head: Head = "top1",
) -> Tensor:
    """temperature^2 x mean over the batch of w_head KL(p || q) + (1 - w_head) KL(q || p).

    student, teacher: logits `[B, C]`; returns a scalar. w_head is of each sample and carries no gradient.
    Invariant under a constant added to the logits, and under permuting classes when all p differ. Plain `rkl`
    and half of `jeffreys` are its nearest neighbours: compare with them. Raises UsageError for shapes, delta,
    head or a temperature out of range. Source: module docstring.
    """
    return hta_kl_with_stats(student, teacher, temperature=temperature, delta=delta, head=head)[0]
