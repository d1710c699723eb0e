"""Published numbers that a row can be compared with.

Most are of the best test epoch, which snnkd never selects; every table that shows one has a note on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snnkd.catalog.models import MODELS
from snnkd.catalog.paper_results import find_paper_results
from snnkd.catalog.references import REFERENCES
from snnkd.compare.students import Student
from snnkd.schema.fields import to_plain

DEFAULT_NEURON = "lif"


@dataclass(frozen=True, kw_only=True)
class Reported:
    """An entry of `snnkd.catalog.paper_results` with its citation."""

    method: str
    T: int | None
    """None if not reported."""
    top1: float | None
    """In percent; None if only the rate is reported."""
    rate: float | None
    """Spikes per neuron and timestep, 0..1."""
    neuron: str
    source: str
    """`arXiv 2504.20445`, or the venue and year."""
    bibtex: str
    """Key of the reference."""


def reported(student: Student) -> tuple[Reported, ...]:
    """Published numbers for this student's data, model and T.

    Empty for a subset of the data, a split other than test, or a model with options.
    """
    if student.part is not None or student.split != "test" or not _has_defaults(student.model):
        return ()
    return tuple(
        Reported(
            method=each.method,
            T=each.T,
            top1=each.top1,
            rate=each.rate,
            neuron=each.neuron,
            source=_citation(each.source),
            bibtex=each.source,
        )
        for each in find_paper_results(student.data, str(student.model["name"]), student.T)
    )


def _has_defaults(model: Mapping[str, Any]) -> bool:
    """Whether all options of a model have their defaults."""
    name = str(model["name"])
    defaults = to_plain(MODELS[name].options(name=name)) if name in MODELS else {}
    return {**defaults, **model} == defaults


def _citation(key: str) -> str:
    reference = REFERENCES[key]
    return f"arXiv {reference.arxiv}" if reference.arxiv else reference.short


def reported_for(student: Student, loss: str) -> Reported | None:
    """Published accuracy of this loss (by name, with any options) at this T.

    The papers' recipes may differ from ours. Numbers for a neuron other than lif apply to that neuron only.
    """
    for each in reported(student):
        if (
            (each.method, each.T) == (loss, student.T)
            and each.top1 is not None
            and each.neuron in (DEFAULT_NEURON, student.neuron)
        ):
            return each
    return None
