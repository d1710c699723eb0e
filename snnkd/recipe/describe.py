"""What a loss or model is and where it comes from, and the recipe section that a loss's name stands for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from snnkd.catalog.losses import LOSSES
from snnkd.catalog.references import REFERENCES, Reference
from snnkd.catalog.registry import Entry
from snnkd.errors import UsageError
from snnkd.recipe.loss_section import build_loss, needs_teacher, preset_section
from snnkd.usercode import is_user_code


def describe_loss(name: str) -> dict[str, Any]:
    """Name, help, source, year, basis and note of a published loss, and whether it needs a teacher."""
    if is_user_code(name):
        raise UsageError(f"{name}: is a function of yours; `snnkd list losses` explains the published ones")
    entry = LOSSES[name]
    return {
        "name": entry.name,
        "help": entry.help,
        "year": entry.detail("year"),
        "source": _cited(_references(name)),
        "found_at": next((f"arXiv {r.arxiv}" if r.arxiv else r.cited for r in _references(name)), ""),
        "bibtex": list(entry.detail("source", ())),
        "needs_teacher": needs_teacher(build_loss(name))
        or entry.detail("also", {}).get("train", {}).get("init") == "teacher",
        "basis": entry.detail("basis"),
        "note": entry.detail("note"),
    }


def describe_model(entry: Entry) -> dict[str, Any]:
    """Name as it is written, help, family, source and year, and whether there is a spiking form; the sources are empty for libraries."""
    found = [REFERENCES[key] for key in entry.detail("source", ())]
    return {
        "name": entry.usage,
        "help": entry.help,
        "family": entry.detail("family"),
        "year": found[0].year if found else None,
        "source": _cited(found),
        "spiking": not entry.detail("ann_only", False),
    }


def _cited(references: Sequence[Reference]) -> list[str]:
    return [f"{r.cited}, {r.title} ({r.short or r.year})" for r in references]


def preset_recipe(name: str) -> dict[str, Any]:
    """The sections that `name` stands for: `loss:` in full, and the keys of others that belong to the method."""
    also = {section: keys for section, keys in preset_section(name).items() if section != "loss"}
    return {"loss": build_loss(name), **also}


def _references(name: str | None) -> list[Reference]:
    keys = [
        key
        for entry in LOSSES
        if name is None or entry.name == LOSSES[name].name
        for key in entry.detail("source")
    ]
    return [REFERENCES[key] for key in dict.fromkeys(keys)]


def bibtex(name: str | None = None) -> str:
    """The references of one loss, or of all, as BibTeX. Raises UsageError for a loss that has none."""
    found = _references(name)
    if not found:
        raise UsageError(f"--bibtex: {name} is textbook knowledge and has no reference")
    return "\n\n".join(reference.bibtex() for reference in found)
