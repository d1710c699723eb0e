"""`--sweep KEY=VALUES`: the axes that it gives a recipe, and the recipe that it prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import Cli

from snnkd.errors import UsageError
from snnkd.recipe.sweep import resolve_tasks
from snnkd.recipe.sweep_option import option_recipe

WORDS = ["--sweep", "loss=kl,hta-kl", "--sweep", "T=2,4", "--sweep", "seed=0-4"]


def axes(*options: str, recipe: str = "glyphs") -> dict[str, Any]:
    return dict(resolve_tasks(recipe, (), options).axes)


def test_the_recipe_is_printed_and_has_the_same_tasks(cli: Cli) -> None:
    listed = cli("run", "glyphs", *WORDS, "--set", "data.noise=0.2", "--tasks")
    assert listed.code == 0
    assert listed.out.splitlines()[19] == "19  distill.loss=hta-kl  distill.model.T=4  distill.seed=4"
    first, *rest = listed.err.splitlines()
    assert first == "# snnkd run FILE.yaml --set data.noise=0.2"
    assert rest[:2] == ["extends: glyphs", "sweep:"]
    Path("FILE.yaml").write_text(listed.err)
    again = cli(*first.removeprefix("# snnkd ").split(), "--tasks")
    assert (again.out, again.err) == (listed.out, "")
    written, typed = (
        resolve_tasks(recipe, ["data.noise=0.2"], sweep)
        for recipe, sweep in (("FILE.yaml", ()), ("glyphs", WORDS[1::2]))
    )
    assert [task.pipeline for task in written.all] == [task.pipeline for task in typed.all]


def test_the_students_share_the_teacher() -> None:
    """A flag's name and a shared key mean the student, as they do for `distill`."""
    tasks = resolve_tasks("glyphs", (), ["seed=0-1", "epochs=3,4", "model.width=8"])
    assert [*tasks.axes] == ["distill.seed", "distill.train.epochs", "distill.model.width"]
    assert len({repr(task.pipeline.teach) for task in tasks.all}) == 1
    assert [*axes("data.noise=0.1,0.2", "teach.seed=1")] == ["data.noise", "teach.seed"]
    assert [*axes("batch-size=50,100")] == ["distill.train.batch_size"]


def test_the_keys_of_the_recipes_own_sweep() -> None:
    Path("r.yaml").write_text("distill: {}\nsweep: {seed: [0, 1, 2], distill.loss: [kl, rkl], model.T: [2]}")
    result = axes("seed=7", "loss=mix", "temperature=1", recipe="r.yaml")
    assert result == {
        "seed": [7],
        "distill.loss": ["mix"],
        "model.T": [2],
        "distill.loss.temperature": [1],
    }


def test_a_recipe_of_one_stage() -> None:
    Path("r.yaml").write_text("stage: distill")
    assert axes("loss=kl", "T=2,4", recipe="r.yaml") == {"loss": ["kl"], "model.T": [2, 4]}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("T=2", [2]),
        ("seed=0-2,7", [0, 1, 2, 7]),
        ("lr=1e-2, 0.1", [0.01, 0.1]),
        ("loss=[kl, {name: hta-kl, head: strict}]", ["kl", {"name": "hta-kl", "head": "strict"}]),
        ("data.augment=[[crop], [crop, flip]]", [["crop"], ["crop", "flip"]]),
    ],
)
def test_values(text: str, values: list[Any]) -> None:
    (result,) = axes(text).values()
    assert result == values


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("loss", "--sweep 'loss' is not KEY=VALUES"),
        ("=kl", "--sweep '=kl' is not KEY=VALUES"),
        ("loss=kl,,rkl", "a value is empty"),
        ("loss=", "a value is empty"),
        ("seed=4-0", "the range 4-0 must go up"),
        ("seed=0-99999", "the range 0-99999 must go up, over at most 10000 numbers"),
        ("seed=[1", "not plain YAML"),
        ("loss=!!python/name:os.system", "tag"),
        ("losss=kl", "unknown key 'losss'; did you mean 'loss'?"),
        ("loss=kll", "unknown loss 'kll'; did you mean 'kl'?"),
        ("device=cpu", "does not change the run"),
    ],
)
def test_options_that_are_refused(option: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        resolve_tasks("glyphs", (), [option])
    assert message in str(error.value)


def test_a_key_is_given_once() -> None:
    with pytest.raises(UsageError, match=r"'distill\.model\.T' is swept twice"):
        resolve_tasks("glyphs", (), ["T=2", "distill.model.T=4"])


def test_settings_are_quoted_in_the_command() -> None:
    assert option_recipe("mine.yaml", {"seed": [0]}, ["train.lr=[1, 2]"]) == (
        "# snnkd run FILE.yaml --set 'train.lr=[1, 2]'\nextends: mine.yaml\nsweep:\n  seed: [0]"
    )


def test_check_writes_it_into_the_recipe(cli: Cli) -> None:
    shown = cli("check", "glyphs", *WORDS)
    assert shown.code == 0, shown.err
    Path("mine.yaml").write_text(shown.out)
    assert cli("run", "mine.yaml", "--tasks").out == cli("run", "glyphs", *WORDS, "--tasks").out


def test_a_function_of_the_user_is_named_by_the_command_line(cli: Cli) -> None:
    Path("mine.py").write_text("def f(student, teacher, *, temperature, labels):\n    return student.sum()\n")
    listed = cli("run", "glyphs", "--sweep", "loss=kl,mine:f", "--tasks")
    assert (listed.code, listed.out.splitlines()[1]) == (0, "1  distill.loss=mine:f"), listed.err
