"""What an objective gets to see of one training step, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One batch: student logits `[T, B, C]`, labels `[B]`, teacher logits `[B, C]` where there is a teacher.

    Features by name: of the student `[T*B, ...]`, of the teacher `[B, ...]`. `epoch` counts from 0.
    """

    student: Tensor
    labels: Tensor
    teacher: Tensor | None = None
    student_features: Mapping[str, Tensor] = field(default_factory=dict)
    teacher_features: Mapping[str, Tensor] = field(default_factory=dict)
    epoch: int = 0
    epochs: int = 1


@dataclass(frozen=True)
class Loss:
    """One evaluation: the scalar to minimise, and named scalars to watch (without gradient)."""

    total: Tensor
    watched: Mapping[str, Tensor]
