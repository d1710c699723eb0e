"""The training objective: hard term + sum over terms of weight x divergence(target, against)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snnkd import distributed
from snnkd.catalog.losses import AGAINST, DIVERGENCES, FEATURES, PENALTIES, TARGETS, FeatureEntry
from snnkd.catalog.registry import load_target
from snnkd.errors import UsageError
from snnkd.losses import batch, targets, transforms
from snnkd.losses.features import FeatureModule, Head, Pair
from snnkd.losses.outputs import BatchOutputs, Loss
from snnkd.losses.user import load_divergence
from snnkd.recipe.loss_section import term_name
from snnkd.schema.loss import (
    DivergenceTerm,
    FeatureTerm,
    HardConfig,
    LogitTerm,
    LossConfig,
    PenaltyTerm,
    SoftmaxTerm,
    Term,
    UserTerm,
)

Values = tuple[Tensor, dict[str, Tensor]]
"""A term's scalar, and scalars to log, by name."""
Evaluate = Callable[[BatchOutputs], Values]
OWN_KEYS = {f.name for base in (UserTerm, PenaltyTerm, FeatureTerm) for f in dataclasses.fields(base)} - {
    "temperature"
}
"""Keys of a term that the objective itself uses; the others are arguments of the term's function."""


@dataclass(frozen=True, kw_only=True)
class NetworkInfo:
    """Properties of the two networks: number of classes, shapes of features by name, without the batch."""

    classes: int = 3
    student: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    teacher: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    teacher_head: Head | None = None


class Objective(nn.Module):
    """The loss of a `loss:` section as a module; its only parameters are those of aligners."""

    def __init__(self, loss: LossConfig, label_smoothing: float, info: NetworkInfo) -> None:
        super().__init__()
        self._hard, self._smoothing = loss.hard, label_smoothing
        self._terms = list(zip(_log_names(loss.terms), loss.terms, strict=True))
        functions = [_make_term(term, f"loss.terms.{i}", info) for i, term in enumerate(loss.terms)]
        self._functions = [_without_stats(f) if isinstance(f, FeatureModule) else f for f in functions]
        self.feature_terms = nn.ModuleList(f for f in functions if isinstance(f, FeatureModule))
        pairs = [pair for f in functions if isinstance(f, FeatureModule) for pair in f.pairs]
        self.student_features = tuple(dict.fromkeys(pair.student for pair in pairs))
        """Names of the student's features that `forward` needs."""
        self.teacher_features = tuple(dict.fromkeys(pair.teacher for pair in pairs))

    def forward(self, outputs: BatchOutputs) -> Loss:
        # logits are small: every process gathers those of the full batch and draws the same noise. Features
        # are large and not gathered; their terms are means over samples.
        gathered = outputs.gathered()
        hard = _hard_term(self._hard, gathered, self._smoothing)
        weights = self.weights(outputs.epoch, outputs.epochs)
        total = _times(weights["hard"], hard)
        scalars = {"hard": hard.detach()}
        for (name, term), function in zip(self._terms, self._functions, strict=True):
            value, stats = function(outputs if isinstance(term, FeatureTerm) else gathered)
            total = total + _times(weights[name], value)
            scalars[name] = value.detach()
            scalars.update({key + _number(name): stat for key, stat in stats.items()})
        return Loss(
            total, _mean_over_processes(scalars), batch.mean(total), gathered.mean.detach(), gathered.labels
        )

    def weights(self, epoch: int, epochs: int) -> dict[str, float]:
        """The weight of each part of the loss in an epoch, by its name in `Loss.scalars`."""
        weights = {name: _weight(term, epoch, epochs) for name, term in self._terms}
        return {"hard": _weight(self._hard, epoch, epochs), **weights}


def make_objective(
    loss: LossConfig, label_smoothing: float = 0.0, info: NetworkInfo | None = None
) -> Objective:
    """Build the objective of a `loss:` section. Raises UsageError for features that the networks lack.

    Aligners draw their initial weights from torch's global generator.
    """
    return Objective(loss, label_smoothing, info or NetworkInfo())


def _mean_over_processes(scalars: dict[str, Tensor]) -> dict[str, Tensor]:
    """The means over the processes, by one all-reduce."""
    if distributed.world_size() == 1:
        return scalars
    means = batch.mean(torch.stack([value.double() for value in scalars.values()]))
    return dict(zip(scalars, means, strict=True))


def _log_names(terms: Sequence[Term]) -> list[str]:
    """Names of the terms in logs; terms of equal name are numbered."""
    plain = [term_name(term) for term in terms]
    return [name if plain.count(name) == 1 else f"{name}.{i}" for i, name in enumerate(plain)]


def _number(name: str) -> str:
    """Suffix of a numbered term's statistics."""
    _, dot, number = name.rpartition(".")
    return dot + number if number.isdecimal() else ""


def _weight(config: Term | HardConfig, epoch: int, epochs: int) -> float:
    """The weight in this epoch, counted from 0."""
    end = config.weight if config.weight_end is None else config.weight_end
    weight = config.weight + (end - config.weight) * epoch / epochs
    warmup = getattr(config, "warmup", 0.0) * epochs
    return weight * min(1.0, (epoch + 1) / warmup) if warmup > 0 else weight


def _times(weight: float, value: Tensor) -> Tensor:
    return value if weight == 1 else weight * value


def _hard_term(hard: HardConfig, outputs: BatchOutputs, smoothing: float) -> Tensor:
    if hard.target == "mean":
        return F.cross_entropy(outputs.mean, outputs.labels, label_smoothing=smoothing)
    steps = targets.step(outputs, 1.0)
    labels = targets.repeat_labels(outputs.labels, len(steps))
    return F.cross_entropy(steps.flatten(0, 1), labels, label_smoothing=smoothing)


def _make_term(term: Term, where: str, info: NetworkInfo) -> Evaluate | FeatureModule:
    if isinstance(term, FeatureTerm):
        return _feature_term(term, where, info)
    if isinstance(term, PenaltyTerm):
        return _penalty_term(term)
    assert isinstance(term, DivergenceTerm)
    return _divergence_term(term, info)


def _arguments(term: Term) -> dict[str, Any]:
    """The options of a term that are keyword arguments of its function."""
    return {f.name: getattr(term, f.name) for f in dataclasses.fields(term) if f.name not in OWN_KEYS}


def _without_stats(module: nn.Module) -> Evaluate:
    return lambda outputs: (module(outputs), {})


def _penalty_term(term: PenaltyTerm) -> Evaluate:
    function = partial(PENALTIES[term.penalty].load(), **_arguments(term))
    target = TARGETS[term.target].load()
    return lambda outputs: (function(target(outputs, 1.0).flatten(0, 1)), {})


def _divergence_term(term: DivergenceTerm, info: NetworkInfo) -> Evaluate:
    entry, divergence = DIVERGENCES.find(term.divergence), _divergence(term, info.classes)
    target, against = TARGETS[term.target].load(), AGAINST[term.against].load()
    temperature = getattr(term, "temperature", 1.0)

    def evaluate(outputs: BatchOutputs) -> Values:
        student = target(outputs, temperature)
        with torch.no_grad():
            teacher = against(outputs, temperature)
        if isinstance(term, LogitTerm):
            student, teacher = _transformed(term, student, teacher, outputs.labels)
        teacher = teacher.expand_as(student)
        if entry.across_batch and len(student) > 1:  # compare samples of one timestep only
            pairs = zip(student, teacher, strict=True)
            return _mean([divergence(*pair, labels=outputs.labels) for pair in pairs])
        labels = targets.repeat_labels(outputs.labels, len(student))
        return divergence(student.flatten(0, 1), teacher.flatten(0, 1), labels=labels)

    return evaluate


def _mean(steps: Sequence[Values]) -> Values:
    stats = {key: torch.stack([step[key] for _, step in steps]).mean() for key in steps[0][1]}
    return torch.stack([value for value, _ in steps]).mean(), stats


def _transformed(term: LogitTerm, student: Tensor, teacher: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    temperature = getattr(term, "temperature", 1.0)
    if term.correct_errors:
        student, teacher = transforms.correct_errors(student, teacher, labels)
    if term.standardize:
        student, teacher = transforms.standardize(student), transforms.standardize(teacher)
    if term.noise:
        teacher = transforms.add_noise(teacher, term.noise, temperature)
    if isinstance(term, SoftmaxTerm) and term.student_temperature is not None:
        student = student * (temperature / term.student_temperature)
    return student, teacher


def _divergence(term: DivergenceTerm, classes: int) -> Callable[..., Values]:
    """The term's function with its options, which also returns statistics."""
    if isinstance(term, UserTerm):
        function = load_divergence(term.divergence, term.options, classes)
    else:
        entry = DIVERGENCES[term.divergence]
        function = load_target(entry.with_stats) if entry.with_stats else _no_stats(entry.load())
    return partial(function, **_arguments(term))


def _no_stats(function: Callable[..., Tensor]) -> Callable[..., Values]:
    return lambda *logits, **options: (function(*logits, **options), {})


def _feature_term(term: FeatureTerm, where: str, info: NetworkInfo) -> FeatureModule:
    entry = FEATURES[term.feature]
    students = _feature_names(term.student or entry.student, info.student, f"{where}.student")
    teachers = _feature_names(term.teacher or entry.teacher, info.teacher, f"{where}.teacher")
    if (term.student or term.teacher) and len(students) != len(teachers):
        raise UsageError(
            f"{where}: {len(students)} student and {len(teachers)} teacher features; give equal numbers"
        )
    count = min(len(students), len(teachers))  # for different depths, the last stages correspond
    names = zip(students[-count:], teachers[-count:], strict=True)
    pairs = [Pair(s, t, info.student[s], info.teacher[t]) for s, t in names]
    for pair in pairs:
        _check_pair(entry, pair, where)
    if entry.needs_classifier and info.teacher_head is None:
        raise UsageError(f"{where}: the teacher's network has no linear layer 'head'; {entry.name} needs one")
    module: FeatureModule = entry.load()(pairs, info.teacher_head, **_arguments(term))
    return module


def _check_pair(entry: FeatureEntry, pair: Pair, where: str) -> None:
    """Raise UsageError for features that this term cannot compare."""
    student, teacher = pair.student_shape, pair.teacher_shape
    shapes = f"student {pair.student} has shape {list(student)}, teacher {pair.teacher} {list(teacher)}"
    if len(student) != len(teacher):
        raise UsageError(f"{where}: {shapes}; compare maps with maps")
    if entry.needs_maps and len(student) != 3:
        raise UsageError(f"{where}: {shapes}; {entry.name} compares maps [C, H, W]")
    if entry.teacher not in ("stages", "last", pair.teacher):
        raise UsageError(
            f"{where}.teacher: {entry.name} takes the teacher's {entry.teacher}, not {pair.teacher}"
        )


def _feature_names(
    wanted: Sequence[str] | str, features: Mapping[str, tuple[int, ...]], where: str
) -> list[str]:
    """Names of features: those in a list, or of a method's default `stages`, `last` or a single name."""
    stages = [name for name in features if name.startswith("stage")]
    if isinstance(wanted, str):
        names = {"stages": stages, "last": stages[-1:]}.get(wanted, [wanted])
    else:
        names = list(wanted)
    for name in names or [str(wanted)]:
        if name not in features:
            raise UsageError(
                f"{where}: this network has no feature {name!r}; it has {', '.join(features) or 'none'}"
            )
    return names
