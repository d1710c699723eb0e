"""Transforms of logits `[..., C]` before a divergence."""

from __future__ import annotations

import torch
from torch import Tensor

from snnkd.losses.divergences import MAX_SQUARED, at_least_float32, log_probabilities


def standardize(logits: Tensor) -> Tensor:
    """(z - mean) / (std + 1e-7) over the classes (Sun et al. 2024, CVPR; std with C - 1).

    A std below 1e-3 is raised to 1e-3: a student without spikes has equal logits and would get gradients of
    1e7. Equal logits become zeros.
    """
    wide = at_least_float32(logits).clamp(-MAX_SQUARED, MAX_SQUARED)
    centred = wide - wide.mean(-1, keepdim=True)
    variance = centred.square().sum(-1, keepdim=True) / max(1, wide.shape[-1] - 1)
    return centred / (variance.clamp_min(1e-6).sqrt() + 1e-7)


def add_noise(teacher: Tensor, share: float, temperature: float) -> Tensor:
    """Logits of (1 - share) softmax(z / temperature) + share softmax(n / temperature), with Gaussian n.

    n has the mean and std of z. CKDSNN (arXiv 2511.06902) mixes probabilities, with share 0.1. Draws from
    torch's global generator.
    """
    wide = at_least_float32(teacher).clamp(-MAX_SQUARED, MAX_SQUARED)
    random = wide.mean(-1, keepdim=True) + wide.std(-1, keepdim=True) * torch.randn_like(wide)
    mixed = torch.lerp(
        log_probabilities(wide, temperature).exp(), log_probabilities(random, temperature).exp(), share
    )
    return temperature * mixed.clamp_min(torch.finfo(wide.dtype).tiny).log()


def correct_errors(student: Tensor, teacher: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """SEAL's error correction (arXiv 2605.14252) of student and teacher `[..., B, C]` by labels `[B]`.

    Where the student's prediction is wrong, its logit is set to that of the true class, and the teacher's
    logits of both classes to the lower one: neither separates the two classes. Otherwise nothing changes.
    """
    teacher = teacher.expand_as(student)
    predicted, true = student.detach().argmax(-1, keepdim=True), labels.expand(student.shape[:-1])[..., None]
    lower = torch.minimum(teacher.gather(-1, predicted), teacher.gather(-1, true))
    # where the prediction is right both indices are the same, and so are all values
    teacher = teacher.scatter(-1, predicted, lower).scatter(-1, true, lower)
    return student.scatter(-1, predicted, student.gather(-1, true)), teacher
