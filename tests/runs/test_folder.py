"""What makes two runs the same, and what they are called."""

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import pytest

from snnkd.errors import FileError
from snnkd.recipe import resolve_stage
from snnkd.runs.folder import (
    difference,
    identity,
    identity_values,
    is_finished,
    read_result,
    recipe_hash,
    run_name,
    runs_folder,
)
from snnkd.schema.marks import Bounds, Since
from snnkd.schema.run import DistillRecipe, ExecutionConfig, StageRecipe

STUDENT = ("distill", "d" * 64, "e" * 64)


def recipe(stage: str = "distill", **flags: object) -> StageRecipe:
    return resolve_stage("glyphs", stage, **flags)  # type: ignore[arg-type]


def name(made: StageRecipe, data: str = "d" * 64, teacher: str | None = "e" * 64) -> str:
    return run_name(made, identity(made, data, teacher if made.stage == "distill" else None))


def test_the_format_of_names():
    assert re.fullmatch(r"teach-glyphs-resnet8-[0-9a-f]{6}-s0", name(recipe("teach")))
    assert re.fullmatch(
        r"distill-glyphs-resnet20-hta-kl-T2-[0-9a-f]{6}-s7", name(recipe(model="resnet20", T=2, seed=7))
    )
    assert re.fullmatch(
        r"teach-npz_my_data-resnet8-[0-9a-f]{6}-s0", name(recipe("teach", data="npz:/a b/My Data.npz"))
    )
    assert re.fullmatch(r"teach-npz-resnet8-[0-9a-f]{6}-s0", name(recipe("teach", data="npz:/äö/日本.npz")))
    assert "/" not in name(recipe("teach", data="npz:../../x/..."))


def test_the_hash_ignores_the_seed():
    zero, one = name(recipe(seed=0)), name(recipe(seed=1))
    assert zero != one
    assert zero.removesuffix("-s0") == one.removesuffix("-s1")


def test_the_hash_ignores_execution_and_places():
    plain = recipe()
    elsewhere = dataclasses.replace(
        plain,
        execution=ExecutionConfig(
            device="cpu", precision="bf16", compile="on", threads=3, keep_state=True, eval_batch_size=7
        ),
    )
    assert identity(plain, "d", "e") == identity(elsewhere, "d", "e")
    for flags in ({"teacher": "there"}, {"allow_weak_teacher": True}, {"settings": ["teacher.sha256=abc"]}):
        assert name(recipe(**flags)) == name(plain)


def test_data_count_by_content_and_by_what_is_done_with_them():
    here, there = (recipe("teach", data=f"npz:{folder}/set.npz") for folder in ("/a", "/b"))
    assert identity(here, "d", None) == identity(there, "d", None)
    assert name(here) == name(there)
    assert name(here, data="f" * 64) != name(here)
    for setting in ("data.val_fraction=0.1", "data.augment=[flip]"):
        assert name(recipe(settings=[setting])) != name(recipe())


@pytest.mark.parametrize(
    "setting",
    [
        "model.T=2",
        "model.width=8",
        "neuron.tau=3",
        "loss.terms.0.delta=0.4",
        "loss.hard.weight=2",
        "train.lr=0.2",
        "train.epochs=3",
    ],
)
def test_every_other_key_counts(setting):
    assert name(recipe(settings=[setting])) != name(recipe())


@pytest.mark.parametrize("stage", ["teach", "distill"])
def test_no_key_is_left_out_but_execution_and_places(stage):
    made = recipe(stage)
    every, counted = identity_values(made), identity(made, "d", "e")
    for section in every.keys() - {"execution", "data", "teacher"}:
        assert counted[section] == every[section]
    assert every.keys() - counted.keys() == {"execution"}
    assert {"lr", "weight_decay"} <= counted["train"].keys()


def test_the_teacher_counts_by_content():
    assert name(recipe(), teacher="f" * 64) != name(recipe())
    assert isinstance(recipe(), DistillRecipe)
    assert identity(recipe(), "d", "e")["teacher"] == {"sha256": "e"}


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ({"a": 1}, {"a": 1}, None),
        ({"a": 1}, {"a": 2}, ("a", 1, 2)),
        ({"a": {"b": [1, {"c": 2}]}}, {"a": {"b": [1, {"c": 3}]}}, ("a.b.1.c", 2, 3)),
        ({"a": [1]}, {"a": [1, 2]}, ("a", [1], [1, 2])),
        ({"a": 1}, {}, ("a", 1, None)),
        ({}, {"a": 1}, ("a", None, 1)),
        ({"a": 1}, {"a": {"b": 1}}, ("a", 1, {"b": 1})),
    ],
)
def test_a_difference_names_the_first_key(old, new, found):
    assert difference(old, new) == found


def test_the_runs_folder(monkeypatch):
    assert runs_folder() == Path("runs")
    monkeypatch.setenv("SNNKD_RUNS", "/elsewhere")
    assert runs_folder() == Path("/elsewhere")


def test_a_run_is_finished_when_its_result_stands(tmp_path):
    assert not is_finished(tmp_path)
    with pytest.raises(FileError, match="no such file"):
        read_result(tmp_path)
    (tmp_path / "result.json").write_text('{"a": 1}')
    assert is_finished(tmp_path)
    assert read_result(tmp_path) == {"a": 1}


@dataclass(frozen=True, kw_only=True)
class Inner:
    old: int = 1
    new: Annotated[float, Bounds(0, 1), Since("0.2.0")] = 0.5


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    items: tuple[Inner, ...] = ()
    added: Annotated[str, Since("0.3.0")] = "none"


def test_a_key_of_a_later_release_is_exempt_at_its_default() -> None:
    """So that runs of earlier releases keep their names."""
    assert identity_values(Outer(items=(Inner(), Inner(new=0.25)))) == {
        "inner": {"old": 1},
        "items": [{"old": 1}, {"old": 1, "new": 0.25}],
    }
    assert identity_values(Outer(inner=Inner(new=0.0), added="x")) == {
        "inner": {"old": 1, "new": 0.0},
        "items": [],
        "added": "x",
    }


def test_options_of_loss_and_neuron_are_part_of_the_identity() -> None:
    def named(*settings: str) -> str:
        return recipe_hash(
            identity(resolve_stage("glyphs", "distill", loss="kl", settings=settings), "data", "teacher")
        )

    plain = named()
    assert named("loss.standardize=false", "neuron.last=spike") == plain
    changed = [
        "loss.standardize=true",
        "loss.noise=0.1",
        "loss.against=correct-mean",
        "loss.hard.weight_end=0.5",
        "neuron.last=relu",
    ]
    assert len({plain, *map(named, changed)}) == len(changed) + 1


def test_class_names_are_in_the_identity_of_data_that_have_them():
    named, plain = (identity(recipe("teach"), "d", None, names) for names in (["ant", "bee"], None))
    assert named["data"] == {**plain["data"], "class_names": ["ant", "bee"]}
    assert "class_names" not in plain["data"], "published data keep their run names"
