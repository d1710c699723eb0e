"""Divergences that use the label or compare samples of the batch: dkd, dist, wsld.

Signature, shapes, the factor temperature^2 and the errors raised are those of `snnkd.losses.divergences`; dkd
and wsld raise UsageError without labels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from snnkd.errors import UsageError
from snnkd.losses.divergences import forward_sum, log_pair

FLAT = 1e-3
"""Deviation over mean below which a row or column counts as constant: its correlation and gradient go to 0.

Otherwise, for the equal logits of a student without spikes, scale invariance makes the gradient unbounded."""
CERTAIN = 1e-7
"""Keeps wsld's quotient finite for a teacher with zero loss; from the source."""


def _labels(labels: Tensor | None, student: Tensor, name: str) -> Tensor:
    if labels is None:
        raise UsageError(f"{name} needs labels [B]; none were given")
    if labels.shape != student.shape[:1] or labels.dtype != torch.int64:
        raise UsageError(
            f"{name}: labels of shape {list(labels.shape)}, {labels.dtype}; expected int64 [{len(student)}]"
        )
    return labels


def dkd(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 1.0,
    labels: Tensor | None = None,
    alpha: float = 1.0,
    beta: float = 8.0,
) -> Tensor:
    """Decoupled KD: alpha KL(true class or not) + beta KL(among the others, renormalized).

    Zhao et al. 2022, CVPR. alpha 1 and beta = 1 - p_true of each sample would be `kl`. With two classes the
    second part is 0.
    """
    log_q, log_p = log_pair(student, teacher, temperature)
    true = _labels(labels, student, "dkd")[:, None]
    others = torch.arange(log_p.shape[-1] - 1, device=log_p.device)
    others = others + (others >= true)  # every class but the true one
    pair = []
    for log in (log_q, log_p):
        rest = log.gather(-1, others)
        all_others = torch.logsumexp(rest, -1, keepdim=True)
        pair.append((torch.cat((log.gather(-1, true), all_others), -1), torch.log_softmax(rest, -1)))
    (binary_q, rest_q), (binary_p, rest_p) = pair
    return (
        temperature**2 * (alpha * forward_sum(binary_q, binary_p) + beta * forward_sum(rest_q, rest_p)).mean()
    )


def dist(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 1.0,
    labels: Tensor | None = None,
    beta: float = 1.0,
    gamma: float = 1.0,
) -> Tensor:
    """beta (1 - mean correlation over classes) + gamma (1 - mean correlation over the batch) of p and q.

    Huang et al. 2022, NeurIPS; Pearson's correlation of each sample's row, and of each class's column. A
    constant row or column (FLAT) has correlation 0; with one sample the batch term is gamma.
    """
    log_q, log_p = log_pair(student, teacher, temperature)
    rows, columns = 1 - _correlation(log_p, log_q).mean(), 1 - _correlation(log_p.T, log_q.T).mean()
    return temperature**2 * (beta * rows + gamma * columns)


def _correlation(log_x: Tensor, log_y: Tensor) -> Tensor:
    return (_direction(log_x) * _direction(log_y)).sum(-1)


def _direction(log_x: Tensor) -> Tensor:
    """The deviation of x from its mean, of norm 1; shorter where x is nearly constant."""
    # relative to the largest, which changes no correlation: the squares of a class that nobody expects vanish
    x = (log_x - log_x.amax(-1, keepdim=True).detach()).exp()
    mean = x.mean(-1, keepdim=True)
    deviation = x - mean
    flat = FLAT * x.shape[-1] ** 0.5 * mean.detach()
    return deviation / torch.maximum(torch.linalg.vector_norm(deviation, dim=-1, keepdim=True), flat)


def wsld(
    student: Tensor, teacher: Tensor, *, temperature: float = 1.0, labels: Tensor | None = None
) -> Tensor:
    """Weighted soft labels: (1 - exp(-CE_S / CE_T)) x cross-entropy -sum p log q.

    Zhou et al. 2021, ICLR, as in BKDSNN's code. CE_S and CE_T are the losses of student and teacher on the
    label at temperature 1, detached: samples that the student classifies better than the teacher weigh less.
    Not 0 if student and teacher agree.
    """
    plain_q, plain_p = log_pair(student.detach(), teacher, 1.0)
    true = _labels(labels, student, "wsld")
    loss_s, loss_t = (-log.gather(-1, true[:, None]).squeeze(-1) for log in (plain_q, plain_p))
    weight = 1 - torch.exp(-loss_s / (loss_t + CERTAIN))
    log_q, log_p = log_pair(student, teacher, temperature)
    return -(temperature**2) * (weight * (log_p.exp() * log_q).sum(-1)).mean()
