"""The keys of a recipe, the stages they apply to, and the expansion of bare names to sections."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from snnkd.catalog.data import DATA
from snnkd.catalog.losses import KINDS
from snnkd.catalog.models import MODELS
from snnkd.catalog.neurons import NEURONS
from snnkd.errors import closest, did_you_mean, plain_name
from snnkd.schema import fields
from snnkd.schema.run import (
    DistillRecipe,
    ExecutionConfig,
    StageRecipe,
    TeacherConfig,
    TeachRecipe,
    TrainConfig,
)

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


@cache
def nested_keys(stage: str) -> tuple[str, ...]:
    """The keys of all sections of `stage` by dotted path, for any data set, network, neuron and loss."""
    terms = {key for kind in KINDS.values() for entry in kind for key in fields.hints(entry.options)}
    sections: dict[str, Iterable[str]] = {"loss": terms - KINDS.keys()}
    for name, registry in (("data", DATA), ("model", MODELS), ("neuron", NEURONS)):
        sections[name] = {key for entry in registry for key in fields.hints(entry.options)}
    for name, section in (("train", TrainConfig), ("teacher", TeacherConfig), ("execution", ExecutionConfig)):
        sections[name] = fields.hints(section)
    paths = [f"{name}.{key}" for name, keys in sections.items() for key in keys]
    return tuple(sorted(path for path in paths if applies(path, stage)))


def key_hint(key: str, known: Iterable[str], stages: Iterable[str]) -> str:
    """What to write instead of a top-level key that is none of `known`: also a section's key, by its last
    part."""
    nested = {path for stage in stages for path in nested_keys(stage)}
    same = sorted(path for path in nested if plain_name(path) == plain_name(key))
    if same:
        return f"; did you mean {' or '.join(map(repr, same[:3]))}?"
    if closest(key, known) is None and (guess := closest(key, nested)):
        return f"; did you mean {guess!r}?"
    return did_you_mean(key, known)


def value_at(values: Any, path: Path) -> Any:
    """The value at `path` in nested mappings; `...` if there is none."""
    for key in path:
        if not isinstance(values, Mapping) or key not in values:
            return ...
        values = values[key]
    return values
