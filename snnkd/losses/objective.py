"""What a student minimises: hard term + sum over terms of weight x divergence(target(student), teacher or self target)."""

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
from snnkd.catalog.losses import DIVERGENCES, FEATURES, PENALTIES
from snnkd.catalog.registry import load_target
from snnkd.errors import UsageError
from snnkd.losses import batch, targets, transforms, user
from snnkd.losses.features import Head, Pair
from snnkd.losses.features import Term as FeatureModule
from snnkd.losses.outputs import BatchOutputs, Loss
from snnkd.recipe.loss_section import term_name
from snnkd.schema.loss import (
    ConfidenceTerm,
    FeatureTerm,
    HardConfig,
    LossConfig,
    MseTerm,
    Term,
    TermConfig,
    ThresholdTerm,
    UserTerm,
    WsldTerm,
)

Evaluated = tuple[Tensor, dict[str, Tensor]]
Evaluate = Callable[[BatchOutputs], Evaluated]
LogitTerm = TermConfig | MseTerm | WsldTerm
STRUCTURE = {f.name for f in dataclasses.fields(MseTerm)} | {"student_temperature", "options"}
"""Keys of a term that this module acts on; the others are arguments of its divergence."""


@dataclass(frozen=True, kw_only=True)
class NetworkInfo:
    """What a loss has to know of the networks around it: classes, and features by name with shapes (no batch)."""

    classes: int = 3
    student: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    teacher: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    teacher_head: Head | None = None


class Objective(nn.Module):
    """A `loss:` section at work: `forward(seen)` gives the Loss. Its parameters, if any, are those of aligners."""

    def __init__(self, loss: LossConfig, label_smoothing: float, surroundings: NetworkInfo) -> None:
        super().__init__()
        self._hard, self._smoothing = loss.hard, label_smoothing
        self._terms = list(zip(_names(loss.terms), loss.terms, strict=True))
        made = [_make_term(term, f"loss.terms.{i}", surroundings) for i, term in enumerate(loss.terms)]
        self._evaluate = [_of_module(term) if isinstance(term, FeatureModule) else term for term in made]
        modules = [term for term in made if isinstance(term, FeatureModule)]
        self.feature_terms = nn.ModuleList(modules)
        pairs = [pair for module in modules for pair in module.pairs]
        self.student_features = tuple(dict.fromkeys(pair.student for pair in pairs))
        """The features of the student that `forward` will look at."""
        self.teacher_features = tuple(dict.fromkeys(pair.teacher for pair in pairs))

    def forward(self, seen: BatchOutputs) -> Loss:
        # logits are few: every process sees those of the whole batch, and draws the same noise. Features are many
        # and stay where they are; their terms are means over samples.
        whole = seen.gathered()
        hard = _hard_term(self._hard, whole, self._smoothing)
        total = _times(_weight(self._hard, seen), hard)
        watched = {"hard": hard.detach()}
        for (name, term), evaluate in zip(self._terms, self._evaluate, strict=True):
            value, extra = evaluate(seen if isinstance(term, FeatureTerm) else whole)
            total = total + _times(_weight(term, seen), value)
            watched[name] = value.detach()
            watched.update({key + _number(name): found for key, found in extra.items()})
        return Loss(total, _over_processes(watched), batch.mean(total), whole.mean.detach(), whole.labels)


def make_objective(
    loss: LossConfig, label_smoothing: float = 0.0, surroundings: NetworkInfo | None = None
) -> Objective:
    """The objective of a `loss:` section. Raises UsageError for features that the networks do not offer.

    Aligners draw their first weights from torch's global generator.
    """
    return Objective(loss, label_smoothing, surroundings or NetworkInfo())


def _over_processes(watched: dict[str, Tensor]) -> dict[str, Tensor]:
    """The means over the processes, from one exchange."""
    if distributed.world_size() == 1:
        return watched
    return dict(
        zip(watched, batch.mean(torch.stack([value.double() for value in watched.values()])), strict=True)
    )


def _names(terms: Sequence[Term]) -> list[str]:
    """What each term is logged under; terms of one name are numbered."""
    plain = [term_name(term) for term in terms]
    return [name if plain.count(name) == 1 else f"{name}.{i}" for i, name in enumerate(plain)]


def _number(name: str) -> str:
    """What follows the watched values of a term that is one of several of its name."""
    _, dot, number = name.rpartition(".")
    return dot + number if number.isdecimal() else ""


def _weight(config: Term | HardConfig, seen: BatchOutputs) -> float:
    """The weight in this epoch."""
    end = config.weight if config.weight_end is None else config.weight_end
    weight = config.weight + (end - config.weight) * seen.epoch / seen.epochs
    warmup = getattr(config, "warmup", 0.0) * seen.epochs
    return weight * min(1.0, (seen.epoch + 1) / warmup) if warmup > 0 else weight


def _times(weight: float, value: Tensor) -> Tensor:
    return value if weight == 1 else weight * value  # a product the less, forward and backward


def _hard_term(hard: HardConfig, seen: BatchOutputs, smoothing: float) -> Tensor:
    if hard.target == "mean":
        return F.cross_entropy(seen.mean, seen.labels, label_smoothing=smoothing)
    steps = targets.chosen(seen.student, "step")
    return F.cross_entropy(
        steps.flatten(0, 1), targets.repeated(seen.labels, len(steps)), label_smoothing=smoothing
    )


def _make_term(term: Term, where: str, surroundings: NetworkInfo) -> Evaluate | FeatureModule:
    if isinstance(term, FeatureTerm):
        return _feature_term(term, where, surroundings)
    if isinstance(term, (ConfidenceTerm, ThresholdTerm)):
        return _penalty_term(term)
    assert isinstance(term, (TermConfig, MseTerm, WsldTerm))
    return _logit_term(term, surroundings)


def _of_module(module: nn.Module) -> Evaluate:
    return lambda seen: (module(seen), {})


def _penalty_term(term: ConfidenceTerm | ThresholdTerm) -> Evaluate:
    function = PENALTIES[term.penalty].load()
    options = {"temperature": term.temperature} if isinstance(term, ConfidenceTerm) else {"level": term.level}
    return lambda seen: (function(targets.chosen(seen.student, term.target).flatten(0, 1), **options), {})


def _logit_term(term: LogitTerm, surroundings: NetworkInfo) -> Evaluate:
    divergence = _divergence(term, surroundings.classes)
    across_batch = isinstance(term, UserTerm) or DIVERGENCES[term.divergence].detail("across_batch", False)

    def evaluate(seen: BatchOutputs) -> Evaluated:
        student, teacher = _both_sides(term, seen)
        if student.ndim == 2:
            return divergence(student, teacher if teacher.ndim == 2 else teacher[0], labels=seen.labels)
        if len(student) > 1 and across_batch:  # the samples of a batch are those of one timestep
            found = [
                divergence(*pair, labels=seen.labels)
                for pair in zip(student, teacher.expand_as(student), strict=True)
            ]
            return _mean(found)
        teacher = teacher.expand_as(student).flatten(0, 1)
        return divergence(student.flatten(0, 1), teacher, labels=targets.repeated(seen.labels, len(student)))

    return evaluate


def _mean(found: Sequence[Evaluated]) -> Evaluated:
    extra = {key: torch.stack([watched[key] for _, watched in found]).mean() for key in found[0][1]}
    return torch.stack([value for value, _ in found]).mean(), extra


def _both_sides(term: LogitTerm, seen: BatchOutputs) -> tuple[Tensor, Tensor]:
    """Student `[B, C]` or `[R, B, C]` and what teaches it, `[B, C]`, `[1, B, C]` or `[R, B, C]`, after the transforms."""
    temperature = getattr(term, "temperature", 1.0)
    student = seen.mean if term.target == "mean" else targets.chosen(seen.student, term.target)
    if term.against == "teacher":
        assert seen.teacher is not None, "a loss that looks at a teacher is only evaluated with one"
        teacher = seen.teacher
    else:
        teacher = targets.self_target(seen.student, seen.labels, term.against, temperature)
    if not isinstance(term, WsldTerm):
        student, teacher = _transformed(term, student, teacher, seen, temperature)
    return student, teacher


def _transformed(
    term: TermConfig | MseTerm, student: Tensor, teacher: Tensor, seen: BatchOutputs, temperature: float
) -> tuple[Tensor, Tensor]:
    if term.correct_errors:
        student, teacher = transforms.corrected(student, teacher, seen.labels)
    if term.standardize:
        student, teacher = transforms.standardize(student), transforms.standardize(teacher)
    if term.noise:
        teacher = transforms.noised(teacher, term.noise, temperature)
    own = getattr(term, "student_temperature", None)
    return (student if own is None else student * (temperature / own)), teacher


def _divergence(term: LogitTerm, classes: int) -> user.Measured:
    own = {f.name: getattr(term, f.name) for f in dataclasses.fields(term)}
    arguments: dict[str, Any] = {key: value for key, value in own.items() if key not in STRUCTURE}
    if isinstance(term, UserTerm):
        return partial(user.measured(term.divergence, term.options, classes), **arguments)
    entry = DIVERGENCES[term.divergence]
    measured = entry.detail("measured")
    return partial(load_target(measured) if measured else _unwatched(entry.load()), **arguments)


def _unwatched(function: Callable[..., Tensor]) -> user.Measured:
    def measured(*logits: Tensor, **options: Any) -> Evaluated:
        return function(*logits, **options), {}

    return measured


def _feature_term(term: FeatureTerm, where: str, surroundings: NetworkInfo) -> FeatureModule:
    entry = FEATURES[term.feature]
    ours = _feature_names(term.student or entry.detail("student"), surroundings.student, f"{where}.student")
    theirs = _feature_names(term.teacher or entry.detail("teacher"), surroundings.teacher, f"{where}.teacher")
    if (term.student or term.teacher) and len(ours) != len(theirs):
        raise UsageError(
            f"{where}: {len(ours)} student features and {len(theirs)} teacher features; name as many of each"
        )
    count = min(
        len(ours), len(theirs)
    )  # of unlike depths the last stages are the ones that answer to each other
    both = zip(ours[-count:], theirs[-count:], strict=True)
    pairs = [Pair(s, t, surroundings.student[s], surroundings.teacher[t]) for s, t in both]
    for pair in pairs:
        _check_kinds(entry.name, pair, where)
    if entry.name == "classifier" and surroundings.teacher_head is None:
        raise UsageError(f"{where}: the teacher's network has no linear layer 'head'; {entry.name} needs one")
    made: FeatureModule = entry.load()(term, pairs, surroundings.teacher_head)
    return made


def _check_kinds(feature: str, pair: Pair, where: str) -> None:
    """Raise UsageError for features that this term cannot compare."""
    shapes = f"{pair.student} of the student has shape {list(pair.student_shape)}, {pair.teacher} of the teacher {list(pair.teacher_shape)}"
    if len(pair.student_shape) != len(pair.teacher_shape):
        raise UsageError(f"{where}: {shapes}; compare maps with maps")
    if feature in ("attention", "blurred", "saliency") and len(pair.student_shape) != 3:
        raise UsageError(f"{where}: {shapes}; {feature} compares maps [C, H, W]")
    only = {"saliency": "class_map", "classifier": "output"}.get(feature, pair.teacher)
    if pair.teacher != only:
        raise UsageError(f"{where}.teacher: {feature} takes the teacher's {only}, not {pair.teacher}")


def _feature_names(
    wanted: Sequence[str] | str, there: Mapping[str, tuple[int, ...]], where: str
) -> list[str]:
    """The names that `wanted` stands for: itself, or `stages`, `last` or another single feature of the method's."""
    stages = [name for name in there if name.startswith("stage")]
    names = (
        {"stages": stages, "last": stages[-1:]}.get(wanted, [wanted])
        if isinstance(wanted, str)
        else list(wanted)
    )
    for name in names or [str(wanted)]:
        if name not in there:
            raise UsageError(
                f"{where}: this network offers no feature {name!r}; it has {', '.join(there) or 'none'}"
            )
    return names
