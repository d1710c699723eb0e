"""Penalties on the student's logits `[B, C]` alone, to scalars. UsageError as for divergences."""

from __future__ import annotations

from torch import Tensor

from snnkd.losses.divergences import MAX_SQUARED, at_least_float32, check_pair, log_probabilities


def confidence(student: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Minus the entropy of q = softmax(student / temperature), batch mean.

    From Pereyra et al. 2017 and TSER (arXiv 2503.03144). At least -log C, where all classes are equally
    likely. No factor temperature^2.
    """
    check_pair(student, student, temperature)
    log_q = log_probabilities(student, temperature)
    return (log_q.exp() * log_q).sum(-1).mean()


def threshold(student: Tensor, *, level: float = 1.0) -> Tensor:
    """Mean over batch and classes of (logit - level)^2 (TET, Deng et al. 2022: the firing threshold)."""
    check_pair(student, student)
    wide = at_least_float32(student).clamp(-MAX_SQUARED, MAX_SQUARED)
    return (wide - level).square().mean()
