"""The `loss:` section as dataclasses: hard term and terms. A field's docstring is its help, `Bounds` its range.

A term is one of three kinds, told by its first key: a divergence between class distributions, a penalty on the
student's alone, or a distance between features of student and teacher.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from snnkd.schema.marks import Bounds

Weight = Annotated[float, Bounds(0)]
Temperature = Annotated[float, Bounds(0, 1e6, open_low=True)]


@dataclass(frozen=True, kw_only=True)
class HardConfig:
    """`loss.hard:`, the cross-entropy with the labels."""

    target: Literal["mean", "step"] = "mean"
    """mean: cross-entropy of the time-mean logits; step: of every timestep, averaged."""
    weight: Weight = 1.0
    """Of the cross-entropy in the total."""
    weight_end: Weight | None = None
    """Reached linearly, epoch by epoch, just after the last one; empty for a constant weight."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """The keys that every item of `loss.terms:` has."""

    weight: Weight = 1.0
    """Of this term in the total."""
    weight_end: Weight | None = None
    """Reached linearly, epoch by epoch, just after the last one; empty for a constant weight."""
    warmup: Annotated[float, Bounds(0, 1)] = 0.0
    """Share of the epochs in which the weight rises linearly from 0."""


@dataclass(frozen=True, kw_only=True)
class _Divergence:
    divergence: str = "kl"
    """A divergence of `snnkd list losses`."""
    target: Literal["mean", "step", "strong", "weak"] = "mean"
    """Which student logits are taught: time mean; every timestep, averaged; the timestep of highest or lowest mean confidence."""
    against: Literal["teacher", "correct-mean", "correct-sum", "strong", "weak", "other-steps"] = "teacher"
    """By whom: the teacher, or the student's own (detached): mean or sum of the timesteps that are right; its most or least
    confident timestep; for each timestep a mixture of the others, weighted by confidence and likeness."""


@dataclass(frozen=True, kw_only=True)
class _Transforms:
    standardize: bool = False
    """Logits of both sides are brought to mean 0 and standard deviation 1 in each sample first."""
    noise: Annotated[float, Bounds(0, 1)] = 0.0
    """Share of a random distribution mixed into the teacher's: softmax of normal logits with the teacher's mean and spread."""
    correct_errors: bool = False
    """Where the student is wrong, the logit of its answer is set to that of the true class, and the teacher's two to the lower."""


@dataclass(frozen=True, kw_only=True)
class TermConfig(_Transforms, Term, _Divergence):
    """One item of `loss.terms:`, weight x divergence(target(student), teacher)."""

    temperature: Temperature = 3.0
    """Softmax temperature of teacher and student; the divergence is scaled by its square."""
    student_temperature: Temperature | None = None
    """Softmax temperature of the student where it differs; the scale stays that of `temperature`."""


@dataclass(frozen=True, kw_only=True)
class HtaKlTerm(TermConfig):
    """A term of hta-kl."""

    delta: Annotated[float, Bounds(0, 1, open_low=True)] = 0.5
    """Cumulative teacher probability that bounds the head."""
    head: Literal["top1", "strict", "cover"] = "top1"
    """Head rule: cumulative sum <= delta or the first class (top1), < delta (strict), smallest set reaching delta (cover)."""


@dataclass(frozen=True, kw_only=True)
class AklTerm(TermConfig):
    """A term of akl."""

    temperature: Temperature = 1.0
    delta: Annotated[float, Bounds(0, 1, open_low=True)] = 0.5
    """Cumulative teacher probability that bounds the head."""


@dataclass(frozen=True, kw_only=True)
class MixTerm(TermConfig):
    """A term of mix."""

    forward: Weight = 0.2
    """Of KL(teacher || student)."""
    reverse: Weight = 0.7
    """Of KL(student || teacher)."""


@dataclass(frozen=True, kw_only=True)
class AbkdTerm(TermConfig):
    """A term of abkd."""

    alpha: Annotated[float, Bounds(-5, 5)] = 0.8
    """Power of the teacher's probabilities; alpha 1, beta 0 is forward KL."""
    beta: Annotated[float, Bounds(-5, 5)] = 0.3
    """Power of the student's probabilities; alpha 0, beta 1 is reverse KL."""


@dataclass(frozen=True, kw_only=True)
class DkdTerm(TermConfig):
    """A term of dkd."""

    alpha: Weight = 1.0
    """Of the true class against all others."""
    beta: Weight = 8.0
    """Of the others among themselves."""


@dataclass(frozen=True, kw_only=True)
class DistTerm(TermConfig):
    """A term of dist."""

    beta: Weight = 1.0
    """Of the correlation over the classes of a sample."""
    gamma: Weight = 1.0
    """Of the correlation over the samples of a class."""


@dataclass(frozen=True, kw_only=True)
class MseTerm(_Transforms, Term, _Divergence):
    """A term of mse, which compares logits and has no temperature."""


@dataclass(frozen=True, kw_only=True)
class WsldTerm(Term, _Divergence):
    """A term of wsld, whose weights are of the logits as they are: no transform may come before."""

    temperature: Temperature = 3.0
    """Softmax temperature of teacher and student; the divergence is scaled by its square."""


@dataclass(frozen=True, kw_only=True)
class UserTerm(TermConfig):
    """A term of a function of your own."""

    options: dict[str, Any] = field(default_factory=dict)
    """Further keyword arguments of the function."""


@dataclass(frozen=True, kw_only=True)
class _Penalty:
    penalty: str
    """confidence or threshold."""
    target: Literal["mean", "step"] = "step"
    """Which student logits: the time mean, or every timestep, averaged."""


@dataclass(frozen=True, kw_only=True)
class ConfidenceTerm(Term, _Penalty):
    """A term of minus the entropy of the student."""

    temperature: Temperature = 3.0
    """Softmax temperature."""


@dataclass(frozen=True, kw_only=True)
class ThresholdTerm(Term, _Penalty):
    """A term of TET's squared distance of the logits to a level."""

    level: float = 1.0
    """What every logit is drawn to; TET takes the firing threshold."""


@dataclass(frozen=True, kw_only=True)
class _Feature:
    feature: str
    """mse, attention, blurred, saliency or classifier."""
    student: tuple[str, ...] = ()
    """Features of the student: stage1, stage2, ..., output, class_map; empty for those that the method takes."""
    teacher: tuple[str, ...] = ()
    """Features of the teacher to compare them with, in the same order."""


@dataclass(frozen=True, kw_only=True)
class FeatureTerm(Term, _Feature):
    """A term between features of student and teacher."""


@dataclass(frozen=True, kw_only=True)
class BlurredTerm(FeatureTerm):
    """A term of blurred features."""

    drop: Annotated[float, Bounds(0, 1, open_high=True)] = 0.15
    """Probability with which a channel of the student (after the aligner) is set to 0."""
    rescale: bool = True
    """Whether the teacher's features are scaled so that their maximum is the student's, as in the authors' code."""


@dataclass(frozen=True, kw_only=True)
class SaliencyTerm(FeatureTerm):
    """A term of saliency maps."""

    temperature: Temperature = 2.0
    """Softmax temperature over positions; the divergence is scaled by its square."""


@dataclass(frozen=True, kw_only=True)
class ClassifierTerm(FeatureTerm):
    """A term of the teacher's classifier on the student's features."""

    temperature: Temperature = 1.0
    """Softmax temperature; the divergence is scaled by its square."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """`loss:`, hard term and distillation terms; `name` is its label in run names and tables."""

    name: str = "none"
    """A loss of `snnkd list losses`, or custom."""
    hard: HardConfig = field(default_factory=HardConfig)
    terms: tuple[Term, ...] = ()
