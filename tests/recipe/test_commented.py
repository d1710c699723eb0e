"""The commented recipe reads back as the plain one, and every key has its help."""

from __future__ import annotations

import dataclasses

import pytest

from snnkd.catalog.losses import LOSSES
from snnkd.recipe import Flags, resolve_stage
from snnkd.recipe.help_comments import commented_yaml, help_of
from snnkd.recipe.yaml_io import parse_yaml
from snnkd.schema import augment, data, events, loss, model, neuron, run
from snnkd.schema.fields import to_plain

SECTIONS = {"data", "model", "train", "execution", "teacher", "neuron", "loss", "hard", "terms", "stage"}
"""Keys that hold a section of their own, which speaks for itself."""


@pytest.mark.parametrize(
    "flags",
    [Flags(loss=entry.name, settings=["loss.hard.weight=0.5"]) for entry in LOSSES],
    ids=lambda f: f.loss,
)
def test_it_reads_back_as_the_same_recipe(flags: Flags) -> None:
    recipe = resolve_stage("glyphs", "distill", flags)
    read = parse_yaml(commented_yaml(recipe).encode(), "here")
    assert {**read, "teacher": read["teacher"] or {}} == to_plain(recipe), "an empty section reads as nothing"


@pytest.mark.parametrize("stage", ["teach", "distill"])
def test_every_key_has_its_help_beside_it(stage: str) -> None:
    text = commented_yaml(resolve_stage("glyphs", stage, Flags()))  # type: ignore[arg-type]
    bare = [line.strip() for line in text.splitlines() if "  # " not in line]
    assert {line.partition(":")[0].removeprefix("- ") for line in bare} <= SECTIONS


def test_every_field_of_the_schema_has_help() -> None:
    for module in (run, data, augment, events, model, neuron, loss):
        for cls in (
            c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__
        ):
            assert dataclasses.is_dataclass(cls)
            for field in dataclasses.fields(cls):
                assert field.name in SECTIONS or help_of(cls, field.name), f"{cls.__name__}.{field.name}"
