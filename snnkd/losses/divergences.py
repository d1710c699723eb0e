"""Divergences between the class distributions of teacher and student, as pure functions of logits.

Each takes student and teacher logits `[B, C]` and returns a scalar: temperature^2 x the batch mean of the sum over
classes, with p = softmax(teacher / temperature) and q = softmax(student / temperature). The teacher is detached.
Computed from log-softmax in at least float32 (half and bfloat16 are raised, float64 is kept), hence finite with
finite gradients for any finite logits. `labels` `[B]` belong to the common signature; divergences that compare with
the true class read them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from snnkd.errors import RequestError

LARGEST_LOGIT = 1e30


def log_probabilities(logits: Tensor, temperature: float) -> Tensor:
    """log softmax(logits / temperature) over the last dimension, in float32 or float64."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    # near the limit of float32 differences of logits overflow, and 0 x inf is no number; this far out all is one-hot
    scaled = wide / temperature
    return torch.log_softmax(scaled.clamp_(-LARGEST_LOGIT, LARGEST_LOGIT), dim=-1)


def check_pair(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> None:
    """Raise RequestError for shapes other than twice `[B, C]` and for a temperature that is not above 0."""
    if student.ndim != 2 or student.shape != teacher.shape:
        raise RequestError(f"logits of shape {list(student.shape)} and {list(teacher.shape)}; a divergence takes two of shape [B, C]")
    if not temperature > 0:
        raise RequestError(f"temperature {temperature} is not above 0")


def log_pair(student: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """(log q, log p) of student and detached teacher, both `[B, C]`. Raises RequestError as `check_pair` does."""
    check_pair(student, teacher, temperature)
    log_q = log_probabilities(student, temperature)
    log_p = log_probabilities(teacher.detach(), temperature)
    if log_p.dtype != log_q.dtype:
        log_p, log_q = log_p.double(), log_q.double()
    return log_q, log_p


def forward_sum(log_q: Tensor, log_p: Tensor) -> Tensor:
    """KL(p || q) of each sample, `[B]`, from log-probabilities."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def kl(student: Tensor, teacher: Tensor, *, temperature: float = 1.0, labels: Tensor | None = None) -> Tensor:
    """Forward divergence sum p log(p / q) (Hinton, Vinyals, Dean 2015, arXiv 1503.02531): covers the teacher's modes."""
    log_q, log_p = log_pair(student, teacher, temperature)
    return temperature**2 * forward_sum(log_q, log_p).mean()


def rkl(student: Tensor, teacher: Tensor, *, temperature: float = 1.0, labels: Tensor | None = None) -> Tensor:
    """Reverse divergence sum q log(q / p): seeks one of the teacher's modes, punishes mass where the teacher has none."""
    log_q, log_p = log_pair(student, teacher, temperature)
    return temperature**2 * forward_sum(log_p, log_q).mean()


def jeffreys(student: Tensor, teacher: Tensor, *, temperature: float = 1.0, labels: Tensor | None = None) -> Tensor:
    """Forward plus reverse divergence, sum (p - q) log(p / q) (Jeffreys 1946); half of it is hta-kl with equal weights."""
    log_q, log_p = log_pair(student, teacher, temperature)
    return temperature**2 * ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1).mean()
