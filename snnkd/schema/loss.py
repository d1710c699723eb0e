"""The `loss:` section: hard term and terms. A field's docstring is its help.

A term has one of three kinds, given by its key: `divergence` between class distributions, `penalty` on the
student's alone, or `feature`, a distance between features of student and teacher. The options of each
divergence, penalty and feature term are declared with its entry in `snnkd.catalog.losses`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from snnkd.schema.marks import Bounds

Weight = Annotated[float, Bounds(0)]
Temperature = Annotated[float, Bounds(0, 1e6, open_low=True)]
Head = Literal["top1", "strict", "cover"]
"""Head rules of hta-kl."""
DELTA = 0.5
"""Cumulative teacher probability that bounds the head of hta-kl and akl unless set."""


@dataclass(frozen=True, kw_only=True)
class HardConfig:
    """`loss.hard:`, the cross-entropy with the labels."""

    target: Literal["mean", "step"] = "mean"
    """mean: cross-entropy of the time-mean logits; step: of every timestep, averaged."""
    weight: Weight = 1.0
    """Weight of the cross-entropy in the total."""
    weight_end: Weight | None = None
    """Weight after the last epoch, approached linearly from `weight`; empty for a constant weight."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """Keys of every item of `loss.terms:`."""

    weight: Weight = 1.0
    """Weight of this term in the total."""
    weight_end: Weight | None = None
    """Weight after the last epoch, approached linearly from `weight`; empty for a constant weight."""
    warmup: Annotated[float, Bounds(0, 1)] = 0.0
    """Fraction of the epochs in which the weight rises linearly from 0."""

    @property
    def needs_teacher(self) -> bool:
        """Whether the term compares the student with a teacher."""
        return False


@dataclass(frozen=True, kw_only=True)
class _Divergence:
    divergence: str = "kl"
    """A divergence of `snnkd list losses`."""
    target: str = "mean"
    """Student logits in the term: mean (over time), step (every timestep, averaged), strong or weak (the
    timestep of highest or lowest mean confidence)."""
    against: str = "teacher"
    """What they are compared with: teacher, or the student's own logits, detached: correct-mean or
    correct-sum (mean or sum of the timesteps that predict the label), strong, weak, other-steps (for each
    timestep, a mixture of the others: SEAL)."""


@dataclass(frozen=True, kw_only=True)
class DivergenceTerm(Term, _Divergence):
    """A term weight x divergence(target(student), teacher)."""

    @property
    def needs_teacher(self) -> bool:
        return self.against == "teacher"


@dataclass(frozen=True, kw_only=True)
class _Transforms:
    standardize: bool = False
    """Standardize the logits of both sides to mean 0 and standard deviation 1 over the classes first."""
    noise: Annotated[float, Bounds(0, 1)] = 0.0
    """Fraction of a random distribution mixed into the teacher's: softmax of Gaussian logits with the
    teacher's mean and standard deviation."""
    correct_errors: bool = False
    """Where the student is wrong, set its top logit to that of the true class, and the teacher's logits of
    both classes to the lower one (SEAL)."""


@dataclass(frozen=True, kw_only=True)
class LogitTerm(_Transforms, DivergenceTerm):
    """A term whose divergence takes transformed logits, without a temperature."""


@dataclass(frozen=True, kw_only=True)
class SoftmaxTerm(LogitTerm):
    """A term whose divergence compares class distributions; the usual kind."""

    temperature: Temperature = 3.0
    """Softmax temperature of teacher and student; the divergence is scaled by its square."""
    student_temperature: Temperature | None = None
    """Softmax temperature of the student if it differs; the scale remains the square of `temperature`."""


@dataclass(frozen=True, kw_only=True)
class UserTerm(SoftmaxTerm):
    """A term whose divergence is your own function."""

    options: dict[str, Any] = field(default_factory=dict)
    """Further keyword arguments of the function."""


@dataclass(frozen=True, kw_only=True)
class _Penalty:
    penalty: str
    """A penalty on the student's logits alone: confidence or threshold."""
    target: Literal["mean", "step"] = "step"
    """Student logits in the term: mean (over time), or step (every timestep, averaged)."""


@dataclass(frozen=True, kw_only=True)
class PenaltyTerm(Term, _Penalty):
    """A term weight x penalty(target(student))."""


@dataclass(frozen=True, kw_only=True)
class _Feature:
    feature: str
    """A distance between features: mse, attention, blurred, saliency or classifier."""
    student: tuple[str, ...] = ()
    """Features of the student: stage1, stage2, ..., output, class_map; empty for those of the method."""
    teacher: tuple[str, ...] = ()
    """Features of the teacher to compare them with, in the same order."""


@dataclass(frozen=True, kw_only=True)
class FeatureTerm(Term, _Feature):
    """A term between features of student and teacher."""

    @property
    def needs_teacher(self) -> bool:
        return True


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """`loss:`, hard term and distillation terms; `name` is the label in run names and tables."""

    name: str = "none"
    """A loss of `snnkd list losses`, or custom."""
    hard: HardConfig = field(default_factory=HardConfig)
    terms: tuple[Term, ...] = ()

    @property
    def needs_teacher(self) -> bool:
        """Whether any term compares the student with a teacher."""
        return any(term.needs_teacher for term in self.terms)
