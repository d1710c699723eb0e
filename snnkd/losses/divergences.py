"""Divergences between the class distributions of teacher and student, as pure functions of logits.

Each takes student and teacher logits `[B, C]` and returns a scalar: temperature^2 x the batch mean of the sum
over classes, with p = softmax(teacher / temperature) and q = softmax(student / temperature). The teacher is
detached. Computed from log-softmax in at least float32 (half and bfloat16 are converted, float64 is kept),
hence finite with finite gradients for any finite logits. `labels` `[B]` belong to the common signature; only
divergences that compare with the true class use them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from snnkd.errors import UsageError

MAX_LOGIT = 1e30
MAX_SQUARED = 1e15
"""The largest logit that is squared: sums of squares stay finite in float32."""
MAX_TEMPERATURE = 1e6
"""Its square times a divergence is finite in float32; all distributions are flat far below it."""


def at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def log_probabilities(logits: Tensor, temperature: float) -> Tensor:
    """log softmax(logits / temperature) over the last dimension, in float32 or float64."""
    # near the limit of float32 differences of logits overflow, and 0 x inf is nan; clamped they stay one-hot
    scaled = at_least_float32(logits) / temperature
    return torch.log_softmax(scaled.clamp_(-MAX_LOGIT, MAX_LOGIT), dim=-1)


def check_pair(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> None:
    """Raise UsageError unless both are `[B, C]` with B > 0 and C > 1, and temperature is in (0, 1e6]."""
    if student.ndim != 2 or student.shape != teacher.shape:
        raise UsageError(
            f"logits of shape {list(student.shape)} and {list(teacher.shape)}; expected [B, C] for both"
        )
    if student.shape[0] == 0 or student.shape[1] < 2:
        raise UsageError(
            f"logits of shape {list(student.shape)}; expected at least one sample and two classes"
        )
    if not 0 < temperature <= MAX_TEMPERATURE:
        raise UsageError(f"temperature {temperature} is not in (0, {MAX_TEMPERATURE:g}]")


def log_pair(student: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """(log q, log p) of student and detached teacher, both `[B, C]`. Raises UsageError as `check_pair`."""
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
    """Forward KL, sum p log(p / q) (Hinton et al. 2015, arXiv 1503.02531): covers the teacher's modes."""
    log_q, log_p = log_pair(student, teacher, temperature)
    return temperature**2 * forward_sum(log_q, log_p).mean()


def rkl(
    student: Tensor, teacher: Tensor, *, temperature: float = 1.0, labels: Tensor | None = None
) -> Tensor:
    """Reverse KL, sum q log(q / p): seeks a mode of the teacher, penalizes mass where it has none."""
    log_q, log_p = log_pair(student, teacher, temperature)
    return temperature**2 * forward_sum(log_p, log_q).mean()


def jeffreys(
    student: Tensor, teacher: Tensor, *, temperature: float = 1.0, labels: Tensor | None = None
) -> Tensor:
    """Forward plus reverse KL, sum (p - q) log(p / q) (Jeffreys 1946); twice hta-kl at equal weights."""
    log_q, log_p = log_pair(student, teacher, temperature)
    return temperature**2 * ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1).mean()


def mix(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 1.0,
    labels: Tensor | None = None,
    forward: float = 0.2,
    reverse: float = 0.7,
) -> Tensor:
    """forward x KL(p || q) + reverse x KL(q || p) (arXiv 2601.21503, "SBDS"; 0.2 and 0.7 are best there)."""
    log_q, log_p = log_pair(student, teacher, temperature)
    both = forward * forward_sum(log_q, log_p) + reverse * forward_sum(log_p, log_q)
    return temperature**2 * both.mean()


def js(student: Tensor, teacher: Tensor, *, temperature: float = 1.0, labels: Tensor | None = None) -> Tensor:
    """Jensen-Shannon divergence (KL(p || m) + KL(q || m)) / 2 with m = (p + q) / 2 (Lin 1991).

    At most log 2 (x temperature^2): far from the teacher its gradient vanishes.
    """
    log_q, log_p = log_pair(student, teacher, temperature)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return temperature**2 * 0.5 * (forward_sum(log_m, log_p) + forward_sum(log_m, log_q)).mean()


def ce(student: Tensor, teacher: Tensor, *, temperature: float = 1.0, labels: Tensor | None = None) -> Tensor:
    """Cross-entropy -sum p log q: forward KL plus the teacher's entropy, with the gradient of `kl`."""
    log_q, log_p = log_pair(student, teacher, temperature)
    return -(temperature**2) * (log_p.exp() * log_q).sum(-1).mean()


def mse(student: Tensor, teacher: Tensor, *, labels: Tensor | None = None) -> Tensor:
    """Mean over batch and classes of the squared difference of raw logits, without temperature.

    Depends on a constant added to all logits, unlike class distributions. Logits are clamped to 1e15.
    """
    check_pair(student, teacher)
    wide, other = (at_least_float32(x).clamp(-MAX_SQUARED, MAX_SQUARED) for x in (student, teacher.detach()))
    return (wide - other).square().mean()
