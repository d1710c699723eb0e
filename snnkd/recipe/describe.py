"""Descriptions of losses and networks: help, source, and the recipe section of a loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from snnkd.catalog.losses import LOSSES
from snnkd.catalog.models import ModelEntry
from snnkd.catalog.references import REFERENCES, Reference
from snnkd.errors import UsageError
from snnkd.recipe.loss_section import build_loss, preset_section
from snnkd.recipe.resolve import resolve_document
from snnkd.usercode import is_user_code


def describe_loss(name: str) -> dict[str, Any]:
    """Name, help, source, year, basis and note of a loss, and whether it needs a teacher."""
    if is_user_code(name):
        raise UsageError(f"{name}: a function of your own; `snnkd list losses` describes only snnkd's")
    entry = LOSSES[name]
    references = [REFERENCES[key] for key in entry.source]
    student = resolve_document({"stage": "distill", "loss": name}, name).distill
    assert student is not None
    return {
        "name": entry.name,
        "help": entry.help,
        "year": references[0].year if references else None,
        "source": _cited(references),
        "found_at": next((f"arXiv {r.arxiv}" if r.arxiv else r.cited for r in references), ""),
        "bibtex": list(entry.source),
        "needs_teacher": student.needs_teacher,
        "basis": entry.basis,
        "note": entry.note,
    }


def describe_model(entry: ModelEntry) -> dict[str, Any]:
    """Name, help, family, source and year of a network, and whether it has a spiking form."""
    references = [REFERENCES[key] for key in entry.source]
    return {
        "name": entry.usage,
        "help": entry.help,
        "family": entry.family or None,
        "year": references[0].year if references else None,
        "source": _cited(references),
        "spiking": not entry.ann_only,
    }


def _cited(references: Sequence[Reference]) -> list[str]:
    return [f"{r.cited}, {r.title} ({r.short or r.year})" for r in references]


def preset_recipe(name: str) -> dict[str, Any]:
    """The sections of a method: `loss:` in full, and its overrides of other sections."""
    return {**preset_section(name), "loss": build_loss(name)}


def bibtex(name: str | None = None) -> str:
    """The references of one loss, or of all, as BibTeX. Raises UsageError for a loss without one."""
    entries = LOSSES if name is None else [LOSSES[name]]
    keys = dict.fromkeys(key for entry in entries for key in entry.source)
    if not keys:
        raise UsageError(f"--bibtex: {name} is a textbook loss and has no reference")
    return "\n\n".join(REFERENCES[key].bibtex for key in keys)
