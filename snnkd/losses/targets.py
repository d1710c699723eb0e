"""Which student logits are taught, and what the student teaches itself.

Student logits are `[T, B, C]`; a target is `[R, B, C]` with R = 1 or T, a self target the same, detached.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from snnkd.losses.divergences import at_least_float32


def repeated(labels: Tensor, times: int) -> Tensor:
    """Labels `[B]`, or class shares `[B, C]`, once for each timestep: `[times * B]` or `[times * B, C]`."""
    return labels if times == 1 else labels.repeat(times, *[1] * (labels.ndim - 1))


def time_mean(logits: Tensor) -> Tensor:
    """`[B, C]` in at least float32 from `[T, B, C]`; the mean over timesteps is the student's answer."""
    wide = logits if logits.element_size() >= 4 else logits.float()
    return wide.squeeze(0) if len(wide) == 1 else wide.mean(0)  # of few logits every operation counts


def chosen(logits: Tensor, target: str) -> Tensor:
    """The student logits of a target, `[R, B, C]` in at least float32, with gradient."""
    if target == "mean":
        return time_mean(logits)[None]
    wide = at_least_float32(logits)
    return wide if target == "step" else wide.index_select(0, _by_confidence(wide, target))


def _by_confidence(logits: Tensor, which: str) -> Tensor:
    """The timestep `[1]` whose largest probability, averaged over the batch, is highest (strong) or lowest (weak)."""
    confidence = logits.detach().softmax(-1).amax(-1).mean(1)
    return (confidence.argmax(0) if which == "strong" else confidence.argmin(0))[None]


@torch.no_grad()
def self_target(logits: Tensor, labels: Tensor, against: str, temperature: float) -> Tensor:
    """What the student's own timesteps teach, `[R, B, C]` logits."""
    wide = at_least_float32(logits)
    if against in ("strong", "weak"):
        return wide.index_select(0, _by_confidence(wide, against))
    if against == "other-steps":
        return _other_steps(wide, temperature)
    right = (wide.argmax(-1) == labels).to(wide.dtype)[..., None]
    total = (wide * right).sum(0, keepdim=True)
    # zeros, that is equal probabilities, where no timestep is right
    return total if against == "correct-sum" else total / right.sum(0, keepdim=True).clamp_min(1)


def _other_steps(logits: Tensor, temperature: float) -> Tensor:
    """SEAL (arXiv 2605.14252): for timestep t the mixture of softmax(z_s / temperature) over the others s.

    Its weights are softmax over s of confidence x likeness; confidence is 1 - entropy / log C of timestep s, likeness
    the cosine of the probabilities at t and s (temperature 1).
    """
    plain = logits.softmax(-1)
    entropy = -(plain * logits.log_softmax(-1)).sum(-1)
    confidence = 1 - entropy / math.log(logits.shape[-1])
    direction = plain / plain.norm(dim=-1, keepdim=True)
    score = torch.einsum("tbc,sbc->tsb", direction, direction) * confidence
    itself = torch.eye(len(logits), dtype=torch.bool, device=logits.device)[..., None]
    weights = score.masked_fill(itself, -torch.inf).softmax(1)
    mixed = torch.einsum("tsb,sbc->tbc", weights, (logits / temperature).softmax(-1))
    return temperature * mixed.clamp_min(torch.finfo(mixed.dtype).tiny).log()
