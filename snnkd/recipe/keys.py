"""The keys of a recipe, the stages they apply to, and the expansion of bare names to sections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from snnkd.schema import fields
from snnkd.schema.run import DistillRecipe, StageRecipe, TeachRecipe

Values = dict[str, Any]
Path = tuple[str, ...]
"""A dotted key as a tuple: `("train", "lr")`."""
STAGES: dict[str, type[StageRecipe]] = {"teach": TeachRecipe, "distill": DistillRecipe}
PIPELINE_KEYS = ("teach", "distill", "eval", "export", "sweep", "search", "compare")
DEFAULT_NAMES = {"data": "glyphs", "model": "resnet8", "neuron": "lif"}
"""The default name of each section."""
NAMED = (*DEFAULT_NAMES, "loss")
"""Sections that may be given as a bare name: `model: NAME` means `model: {name: NAME}`."""


def applies(path: str, stage: str) -> bool:
    """Whether a shared key, by its dotted path, applies to `stage`: a teacher has no loss, neuron or T."""
    return path.split(".", maxsplit=1)[0] in fields.hints(STAGES[stage]) and not (
        stage == "teach" and path == "model.T"
    )


def stages_in(document: Mapping[str, Any]) -> list[str]:
    """The stages for which a pipeline has a section."""
    return [stage for stage in STAGES if stage in document]


def holders(document: Values) -> Iterator[Values]:
    """The mappings that may have a stage's keys: the recipe itself, and the sections of its stages."""
    yield from (part for part in (document, *map(document.get, STAGES)) if isinstance(part, dict))


def expand_names(document: Values) -> Values:
    """Expand bare names to sections, in place, in a recipe and its stages."""
    for holder in holders(document):
        for key in NAMED:
            if isinstance(holder.get(key), str):
                holder[key] = {"name": holder[key]}
        teacher = holder.get("teacher")
        if isinstance(teacher, dict) and isinstance(teacher.get("model"), str):
            teacher["model"] = {"name": teacher["model"]}
    return document


def value_at(values: Any, path: Path) -> Any:
    """The value at `path` in nested mappings; `...` if there is none."""
    for key in path:
        if not isinstance(values, Mapping) or key not in values:
            return ...
        values = values[key]
    return values
