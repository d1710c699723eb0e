"""Inputs and result of an objective: the outputs of both networks for a batch, and the loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from torch import Tensor

from snnkd import distributed
from snnkd.losses import batch


def time_mean(logits: Tensor) -> Tensor:
    """`[B, C]` in at least float32 from `[T, B, C]`; the mean over timesteps is the student's prediction."""
    wide = logits if logits.element_size() >= 4 else logits.float()
    return wide.squeeze(0) if len(wide) == 1 else wide.mean(0)


@dataclass(frozen=True, kw_only=True)
class BatchOutputs:
    """One batch: student logits `[T, B, C]`, labels `[B]`, teacher logits `[B, C]` if there is a teacher.

    Labels of mixed images are class probabilities `[B, C]`. Features by name: `[T*B, ...]` of the student,
    `[B, ...]` of the teacher. `epoch` counts from 0.
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
        """Time mean of the student's logits, `[B, C]` in at least float32; computed once for all terms."""
        return time_mean(self.student)

    def gathered(self) -> BatchOutputs:
        """The same with the logits and labels of all processes; features remain those of this process."""
        if distributed.world_size() == 1:
            return self
        teacher = None if self.teacher is None else batch.gathered(self.teacher)
        return replace(
            self, student=batch.gathered(self.student, 1), labels=batch.gathered(self.labels), teacher=teacher
        )


@dataclass(frozen=True)
class Loss:
    """Result of an objective. All but `total` is detached and over the batch of all processes."""

    total: Tensor
    """Scalar to minimise, of this process: the mean of its gradients over processes is that of the full
    batch."""
    scalars: Mapping[str, Tensor]
    """Scalars to log, by name: the hard term and each term, unweighted, and their statistics."""
    value: Tensor
    """The total over all processes."""
    logits: Tensor
    """Time means of the student's logits, `[B, C]`."""
    labels: Tensor
    """Labels `[B]`, or class probabilities `[B, C]`."""
