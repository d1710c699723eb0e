"""The commented recipe reads back as the plain one, and every key has its help."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

import pytest

from snnkd.catalog.data import DATA
from snnkd.catalog.losses import DIVERGENCES, FEATURES, LOSSES, PENALTIES
from snnkd.catalog.models import MODELS
from snnkd.catalog.neurons import NEURONS
from snnkd.catalog.registry import Registry
from snnkd.recipe import resolve_stage
from snnkd.recipe.help_comments import commented_yaml
from snnkd.recipe.yaml_io import parse_yaml
from snnkd.schema import events, neuron, run
from snnkd.schema.fields import hints, to_plain
from snnkd.schema.help import field_help
from snnkd.schema.marks import Bounds, Named, Since

SECTIONS = {"data", "model", "train", "execution", "teacher", "neuron", "loss", "hard", "terms"}
"""Keys that hold a section of their own, whose keys have the help."""
REGISTRIES: tuple[Registry[Any], ...] = (DATA, MODELS, NEURONS, DIVERGENCES, PENALTIES, FEATURES)


@pytest.mark.parametrize("loss", [entry.name for entry in LOSSES])
def test_it_reads_back_as_the_same_recipe(loss: str) -> None:
    recipe = resolve_stage("glyphs", "distill", loss=loss, settings=["loss.hard.weight=0.5"])
    read = parse_yaml(commented_yaml(recipe).encode(), "here")
    assert {**read, "teacher": read["teacher"] or {}} == to_plain(recipe), "an empty section reads as nothing"


@pytest.mark.parametrize("stage", ["teach", "distill"])
def test_every_key_has_its_help_beside_it(stage: str) -> None:
    text = commented_yaml(resolve_stage("glyphs", stage))  # type: ignore[arg-type]
    bare = [line.strip() for line in text.splitlines() if "  # " not in line]
    assert {line.partition(":")[0].removeprefix("- ") for line in bare} <= SECTIONS


def sections() -> set[type]:
    """Every section that a recipe can have: those of the stages, of each registry's entries, and what they
    hold."""
    entries = [entry for registry in REGISTRIES for entry in (*registry, registry.user) if entry is not None]
    found: set[type] = set()
    waiting = [
        *(entry.options for entry in entries),
        *(cls for cls in vars(run).values() if dataclasses.is_dataclass(cls)),
    ]
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind not in found:
            found.add(kind)
            waiting += hints(kind).values()
        waiting += typing.get_args(kind)
        waiting += [cls for mark in typing.get_args(kind) if isinstance(mark, Named) for _, cls in mark.kinds]
    return found - {Bounds, Named, Since}


@pytest.mark.parametrize(
    "cls", sorted(sections(), key=lambda cls: cls.__name__), ids=lambda cls: cls.__name__
)
def test_every_key_of_every_section_has_help(cls: type) -> None:
    for field in dataclasses.fields(cls):
        help = field_help(cls, field.name)
        assert field.name in SECTIONS or help, f"{cls.__name__}.{field.name}"
        assert len(help.splitlines()) <= 1


def test_sections_of_all_kinds_are_looked_at() -> None:
    names = {cls.__name__ for cls in sections()}
    assert names >= {
        "GestureConfig",
        "QKFormerConfig",
        "GLIFConfig",
        "HardConfig",
        "EraseConfig",
        "EvalConfig",
        "UserTerm",
    }
    assert len(names) > 60


def test_help_of_an_inherited_a_redeclared_and_a_generated_field() -> None:
    base = dataclasses.make_dataclass(
        "Base", [("gain", float, dataclasses.field(default=1.0, metadata={"help": "Of it."}))]
    )
    assert field_help(dataclasses.make_dataclass("Child", [], bases=(base,)), "gain") == "Of it."
    assert field_help(events.GestureConfig, "split_by").startswith("How the events")
    assert field_help(neuron.PLIFConfig, "tau").startswith("Initial membrane time constant")


def test_keys_of_event_data_have_their_help_in_the_commented_recipe() -> None:
    lines = commented_yaml(events.EventConfig(name="n-mnist")).splitlines()
    assert len(lines) > 4
    assert all("  # " in line for line in lines)
