"""Penalties on the student's logits `[B, C]` alone; each returns a scalar and raises UsageError as the divergences do."""

from __future__ import annotations

from torch import Tensor

from snnkd.losses.divergences import LARGEST_SQUARED, at_least_float32, check_pair, log_probabilities


def confidence(student: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Minus the entropy of q = softmax(student / temperature), batch mean (Pereyra et al. 2017; TSER, arXiv 2503.03144).

    Least, -log C, where all classes are equally likely. Carries no factor temperature^2.
    """
    check_pair(student, student, temperature)
    log_q = log_probabilities(student, temperature)
    return (log_q.exp() * log_q).sum(-1).mean()


def threshold(student: Tensor, *, level: float = 1.0) -> Tensor:
    """Mean over batch and classes of (logit - level)^2 (TET, Deng et al. 2022, ICLR: level is the firing threshold)."""
    check_pair(student, student)
    wide = at_least_float32(student).clamp(-LARGEST_SQUARED, LARGEST_SQUARED)
    return (wide - level).square().mean()
