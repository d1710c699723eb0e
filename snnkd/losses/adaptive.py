"""Divergences that weigh forward and reverse KL, or powers of both distributions: akl, todi, abkd.

Signature, shapes, the factor temperature^2 and the errors raised are those of `snnkd.losses.divergences`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from snnkd.losses.divergences import log_pair
from snnkd.losses.hta_kl import hta_kl_with_stats
from snnkd.schema.loss import DELTA

NEARLY_ZERO = 1e-4
"""Powers closer to 0 count as 0."""
SMALL = 0.1
"""With powers closer to 0 the quotient loses float32's digits, and float64 is used."""
MAX_EXPONENT = 60.0
"""exp(60) and sums of a million of them are finite in float32."""


def akl_with_stats(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 1.0,
    labels: Tensor | None = None,
    delta: float = DELTA,
) -> tuple[Tensor, dict[str, Tensor]]:
    """`akl` with the statistics of `hta_kl_with_stats`."""
    return hta_kl_with_stats(
        student, teacher, temperature=temperature, labels=labels, delta=delta, head="top1"
    )


def akl(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 1.0,
    labels: Tensor | None = None,
    delta: float = DELTA,
) -> Tensor:
    """Adaptive KL (Wu et al. 2025, arXiv 2404.02657, from its code): hta-kl with head top1, temperature 1."""
    return akl_with_stats(student, teacher, temperature=temperature, labels=labels, delta=delta)[0]


def todi(
    student: Tensor, teacher: Tensor, *, temperature: float = 1.0, labels: Tensor | None = None
) -> Tensor:
    """sum over classes of w p log(p/q) + (1 - w) q log(q/p), w = sigmoid(log(p/q)) detached.

    ToDi (arXiv 2505.16297), from memory. Forward KL raises probabilities that are too low, reverse KL lowers
    those that are too high. Since w = p / (p + q), its value is that of `jeffreys`; only the gradient
    differs, w being constant.
    """
    log_q, log_p = log_pair(student, teacher, temperature)
    ratio = log_p - log_q
    weight = ratio.detach().sigmoid()
    return temperature**2 * (weight * log_p.exp() * ratio - (1 - weight) * log_q.exp() * ratio).sum(-1).mean()


def abkd(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 1.0,
    labels: Tensor | None = None,
    alpha: float = 0.8,
    beta: float = 0.3,
) -> Tensor:
    """Alpha-beta divergence -1/(ab) sum [p^a q^b - a/(a+b) p^(a+b) - b/(a+b) q^(a+b)].

    From arXiv 2505.04560 and Cichocki et al. 2011. With its limits where a, b or a + b is 0 (closer than
    1e-4); (1, 0) is forward KL, (0, 1) reverse KL, (0, 0) half the squared difference of logarithms.
    Log-probabilities are clamped at -60 / max(1, |a| + |b|).
    """
    log_q, log_p = log_pair(student, teacher, temperature)
    floor = -MAX_EXPONENT / max(1.0, abs(alpha) + abs(beta))
    log_p, log_q = log_p.clamp_min(floor), log_q.clamp_min(floor)
    if min(abs(alpha), abs(beta), abs(alpha + beta)) < SMALL:
        return temperature**2 * _alpha_beta(log_p.double(), log_q.double(), alpha, beta).sum(-1).mean().to(
            log_q.dtype
        )
    return temperature**2 * _alpha_beta(log_p, log_q, alpha, beta).sum(-1).mean()


def _alpha_beta(log_p: Tensor, log_q: Tensor, a: float, b: float) -> Tensor:
    """The summand of each class."""
    ratio, zero = log_p - log_q, (abs(a) < NEARLY_ZERO, abs(b) < NEARLY_ZERO)
    if all(zero):
        return 0.5 * ratio.square()
    if zero[1]:
        return ((a * log_p).exp() * (a * ratio - 1) + (a * log_q).exp()) / a**2
    if zero[0]:
        return ((b * log_q).exp() * (-b * ratio - 1) + (b * log_p).exp()) / b**2
    if abs(a + b) < NEARLY_ZERO:
        return (-a * ratio + torch.expm1(a * ratio)) / a**2
    total = a + b
    return -(
        (a * log_p + b * log_q).exp() - a / total * (total * log_p).exp() - b / total * (total * log_q).exp()
    ) / (a * b)
