"""What an objective gets to see of one training step, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from torch import Tensor

from snnkd import distributed
from snnkd.losses import batch
from snnkd.losses.targets import time_mean


@dataclass(frozen=True, kw_only=True)
class BatchOutputs:
    """One batch: student logits `[T, B, C]`, labels `[B]`, teacher logits `[B, C]` where there is a teacher.

    Labels of mixed images are class shares `[B, C]`.

    Features by name: of the student `[T*B, ...]`, of the teacher `[B, ...]`. `epoch` counts from 0.
    """

    student: Tensor
    labels: Tensor
    teacher: Tensor | None = None
    student_features: Mapping[str, Tensor] = field(default_factory=dict)
    teacher_features: Mapping[str, Tensor] = field(default_factory=dict)
    epoch: int = 0
    epochs: int = 1

    @cached_property
    def mean(self) -> Tensor:
        """Time means of the student's logits, `[B, C]` in at least float32: one node of the graph for all who look at them."""
        return time_mean(self.student)

    def gathered(self) -> BatchOutputs:
        """The logits and labels of the whole batch, where several processes hold a part each; features stay the own part's."""
        if distributed.world_size() == 1:
            return self
        teacher = None if self.teacher is None else batch.gathered(self.teacher)
        return replace(
            self, student=batch.gathered(self.student, 1), labels=batch.gathered(self.labels), teacher=teacher
        )


@dataclass(frozen=True)
class Loss:
    """One evaluation: the scalar to minimise, named scalars to watch, and the loss itself (both without gradient)."""

    total: Tensor
    """With several processes this one's: averaging the gradients over them gives those of the whole batch."""
    watched: Mapping[str, Tensor]
    value: Tensor
    """Of the whole batch."""
    answers: Tensor
    """Time means of the student's logits, `[B, C]`, of the whole batch, without gradient."""
    labels: Tensor
    """Those of the whole batch, `[B]` or class shares `[B, C]`."""
