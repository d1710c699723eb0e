"""The logits that a divergence compares: functions for the values of a term's `target` and `against`.

Each takes the outputs of a batch and the term's temperature, and returns logits `[R, B, C]` in at least
float32 with R = 1 or T. As `against` they are evaluated without gradient.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from snnkd.losses.divergences import at_least_float32
from snnkd.losses.outputs import BatchOutputs


def repeat_labels(labels: Tensor, times: int) -> Tensor:
    """Labels `[B]` or class probabilities `[B, C]` for every timestep: `[times * B]` or `[times * B, C]`."""
    return labels if times == 1 else labels.repeat(times, *[1] * (labels.ndim - 1))


def mean(outputs: BatchOutputs, temperature: float) -> Tensor:
    """The time mean, `[1, B, C]`."""
    return outputs.mean[None]


def step(outputs: BatchOutputs, temperature: float) -> Tensor:
    """Every timestep, `[T, B, C]`."""
    return at_least_float32(outputs.student)


def strong(outputs: BatchOutputs, temperature: float) -> Tensor:
    """The timestep of highest batch-mean largest probability, `[1, B, C]` (Ding et al. 2025)."""
    logits = at_least_float32(outputs.student)
    return logits.index_select(0, _confidence(logits).argmax(0)[None])


def weak(outputs: BatchOutputs, temperature: float) -> Tensor:
    """The timestep of lowest batch-mean largest probability, `[1, B, C]`."""
    logits = at_least_float32(outputs.student)
    return logits.index_select(0, _confidence(logits).argmin(0)[None])


def _confidence(logits: Tensor) -> Tensor:
    return logits.detach().softmax(-1).amax(-1).mean(1)


def teacher(outputs: BatchOutputs, temperature: float) -> Tensor:
    """The teacher's logits, `[1, B, C]`."""
    assert outputs.teacher is not None, "a loss that needs a teacher is only evaluated with one"
    return outputs.teacher[None]


def correct_sum(outputs: BatchOutputs, temperature: float) -> Tensor:
    """Sum of the timesteps that predict the label, `[1, B, C]` (TKS, Dong et al. 2024).

    Zeros, hence equal probabilities, if no timestep does.
    """
    logits, correct = _correct(outputs)
    return (logits * correct).sum(0, keepdim=True)


def correct_mean(outputs: BatchOutputs, temperature: float) -> Tensor:
    """Mean of the timesteps that predict the label, `[1, B, C]`, else zeros (TWSNN, Yu et al. 2025)."""
    logits, correct = _correct(outputs)
    return (logits * correct).sum(0, keepdim=True) / correct.sum(0, keepdim=True).clamp_min(1)


def _correct(outputs: BatchOutputs) -> tuple[Tensor, Tensor]:
    """The logits, and 1 for each timestep and sample that predicts the label `[T, B, 1]`, else 0."""
    logits = at_least_float32(outputs.student)
    return logits, (logits.argmax(-1) == outputs.labels).to(logits.dtype)[..., None]


def other_steps(outputs: BatchOutputs, temperature: float) -> Tensor:
    """For each timestep t, the mixture of softmax(z_s / temperature) over the others s, `[T, B, C]`.

    SEAL (arXiv 2605.14252). Its weights are softmax over s of confidence x similarity; confidence is 1 -
    entropy / log C of timestep s, similarity the cosine of the probabilities at t and s (temperature 1).
    """
    logits = at_least_float32(outputs.student)
    plain = logits.softmax(-1)
    entropy = -(plain * logits.log_softmax(-1)).sum(-1)
    confidence = 1 - entropy / math.log(logits.shape[-1])
    direction = plain / plain.norm(dim=-1, keepdim=True)
    score = torch.einsum("tbc,sbc->tsb", direction, direction) * confidence
    itself = torch.eye(len(logits), dtype=torch.bool, device=logits.device)[..., None]
    weights = score.masked_fill(itself, -torch.inf).softmax(1)
    mixed = torch.einsum("tsb,sbc->tbc", weights, (logits / temperature).softmax(-1))
    return temperature * mixed.clamp_min(torch.finfo(mixed.dtype).tiny).log()
