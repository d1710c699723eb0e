"""The stages and sections that a recipe may have, which stage takes which key, and the paths of what a recipe says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from snnkd.recipe.teacher_section import teacher_of_flags
from snnkd.schema import fields
from snnkd.schema.run import DistillRecipe, StageRecipe, TeachRecipe

STAGES: dict[str, type[StageRecipe]] = {"teach": TeachRecipe, "distill": DistillRecipe}
PIPELINE_KEYS = ("teach", "distill", "eval", "export", "sweep", "compare")
USUAL = {"data": "glyphs", "model": "resnet8", "neuron": "lif"}
"""The sections that go by a name, and the name of each where a recipe says none."""
SECTIONS = (*USUAL, "teacher", "loss", "train", "execution")
"""Keys of a stage that hold others."""
Path = tuple[str, ...]
"""The keys that lead to a value: `("train", "lr")`."""


def applies(path: str, stage: str) -> bool:
    """Whether a shared key, by its dotted path, is one for `stage`: a teacher has no loss, neuron, teacher or T."""
    return path.split(".", maxsplit=1)[0] in fields.hints(STAGES[stage]) and not (
        stage == "teach" and path == "model.T"
    )


def takers(path: str, stages: Iterable[str]) -> list[str]:
    """Those of `stages` that a shared key is for."""
    return [stage for stage in stages if applies(path, stage)]


def as_section(key: str, value: Any) -> Any:
    """A bare name as the section it stands for: `model: NAME` is `model: {name: NAME}`. A loss and all else stay as they are."""
    if not isinstance(value, str):
        return value
    if key == "teacher":
        return teacher_of_flags(value, None, None)
    return {"name": value} if key in USUAL else value


def leaves(key: str, value: Any) -> Iterator[tuple[Path, Any]]:
    """Path and value of all that a key says; a loss is one value."""
    section = as_section(key, value)
    if key == "loss" or not isinstance(section, Mapping) or not section:
        yield (key,), section
        return
    for inner, held in section.items():
        for path, leaf in leaves(str(inner), held):
            yield (key, *path), leaf
