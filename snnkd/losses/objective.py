"""What a student minimises: hard term + sum over terms of weight x divergence(target(student), teacher)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from snnkd.recipe.catalogue import DIVERGENCES
from snnkd.recipe.schema import LossConfig, TermConfig
from snnkd.registry import load_target


@dataclass(frozen=True)
class Loss:
    """One evaluation: the scalar to minimise, and named scalars to watch (without gradient)."""

    total: Tensor
    watched: Mapping[str, Tensor]


Objective = Callable[[Tensor, Tensor | None, Tensor], Loss]
"""(student logits [T, B, C], teacher logits [B, C] or None, labels [B]) -> Loss"""


def needs_teacher(loss: LossConfig) -> bool:
    return bool(loss.terms)


def make_objective(loss: LossConfig, label_smoothing: float = 0.0) -> Objective:
    """The objective of a `loss:` section."""
    repeated = [term.divergence for term in loss.terms]
    names = [name if repeated.count(name) == 1 else f"{name}.{i}" for i, name in enumerate(repeated)]
    terms = [(name, term.weight, _make_term(term)) for name, term in zip(names, loss.terms, strict=True)]

    def objective(student: Tensor, teacher: Tensor | None, labels: Tensor) -> Loss:
        mean = time_mean(student)
        hard = F.cross_entropy(mean, labels, label_smoothing=label_smoothing)
        total = loss.hard.weight * hard
        watched = {"hard": hard.detach()}
        for name, weight, divergence in terms:
            assert teacher is not None, "a loss with terms is only made with a teacher"
            value, extra = divergence(mean, teacher, labels=labels)
            total = total + weight * value
            suffix = name.partition(".")[1] + name.partition(".")[2]
            watched[name] = value.detach()
            watched.update({key + suffix: seen for key, seen in extra.items()})
        return Loss(total, watched)

    return objective


def time_mean(logits: Tensor) -> Tensor:
    """`[B, C]` in at least float32 from `[T, B, C]`; the mean over timesteps is the student's answer."""
    return (logits if logits.element_size() >= 4 else logits.float()).mean(0)


Measured = Callable[..., tuple[Tensor, dict[str, Tensor]]]


def _make_term(term: TermConfig) -> Measured:
    entry = DIVERGENCES[term.divergence]
    own = {f.name: getattr(term, f.name) for f in dataclasses.fields(term)}
    options: dict[str, Any] = {k: v for k, v in own.items() if k not in ("divergence", "target", "weight")}
    measured = entry.detail("measured")
    return partial(load_target(measured) if measured else _unwatched(entry.load()), **options)


def _unwatched(function: Callable[..., Tensor]) -> Measured:
    def measured(*logits: Tensor, **options: Any) -> tuple[Tensor, dict[str, Tensor]]:
        return function(*logits, **options), {}

    return measured
