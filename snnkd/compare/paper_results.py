"""Papers' numbers beside ours: which of them a row may be set against.

They are mostly of the best test epoch, which snnkd never selects; `words.py` says so wherever one is shown.
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

USUAL_NEURON = "lif"


@dataclass(frozen=True, kw_only=True)
class Reported:
    """A number of `snnkd.catalog.paper_results`, with its source in words."""

    method: str
    T: int | None
    """None where our source tells none."""
    top1: float | None
    """In percent; None where only the rate is known."""
    rate: float | None
    """A fraction."""
    neuron: str
    source: str
    """`arXiv 2504.20445`, or the venue and year."""
    bibtex: str
    """Key of the reference."""


def reported(student: Student) -> tuple[Reported, ...]:
    """All that papers report for what this student was tested on and is; nothing for a part of a data set or
    a model with options."""
    if student.part is not None or student.split != "test" or not _has_defaults(student.model):
        return ()
    return tuple(
        Reported(
            method=each.method,
            T=each.T,
            top1=each.top1,
            rate=each.rate,
            neuron=each.neuron,
            source=_found_at(each.source),
            bibtex=each.source,
        )
        for each in find_paper_results(student.data, str(student.model["name"]), student.T)
    )


def _has_defaults(model: Mapping[str, Any]) -> bool:
    """Whether all options of a network are its defaults."""
    name = str(model["name"])
    defaults = to_plain(MODELS[name].options(name=name)) if name in MODELS else {}
    return {**defaults, **model} == defaults


def _found_at(key: str) -> str:
    reference = REFERENCES[key]
    return f"arXiv {reference.arxiv}" if reference.arxiv else reference.short


def beside(student: Student, loss: str) -> Reported | None:
    """The accuracy that was reported for this loss (by name, whatever its options) at this T.

    Recipes differ from paper to paper and need not be the same. A number that is of another neuron than lif
    is that
    neuron's, and stands beside no other.
    """
    for each in reported(student):
        if (
            (each.method, each.T) == (loss, student.T)
            and each.top1 is not None
            and each.neuron in (USUAL_NEURON, student.neuron)
        ):
            return each
    return None
