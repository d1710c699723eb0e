"""`run` and `check` refuse at once what a later stage would refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import DATA, Cli


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "distill.train.batch_size=20000"], "train.batch_size: 20000"),
        (["--set", "eval.split=val"], "val"),
        (["--set", "distill.train.select=best"], "val_fraction"),
        (["--set", "distill.execution.device=cuda:99"], "cuda:99"),
        (["--set", "los=kl"], "unknown key 'los'"),
    ],
)
def test_run_refuses_before_it_trains(cli: Cli, words: list[str], said: str) -> None:
    ended = cli("run", "glyphs", *DATA, *words)
    assert ended.code == 2, ended.err
    assert said in ended.complaint
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schema: 1\nteach: {}\ntrian: {epochs: 1}\n", "unknown key 'trian'"),
        ("schema: 7\nteach: {}\n", "schema: 7"),
        ("schema: 7\nstage: teach\n", "schema: 7"),
        ("schema: 1\nseed: 0\n", "no stage; add"),
    ],
)
def test_recipes_that_check_and_run_refuse(cli: Cli, text: str, said: str) -> None:
    Path("r.yaml").write_text(text)
    for command in ("check", "run"):
        ended = cli(command, "r.yaml")
        assert ended.code == 2
        assert said in ended.complaint
        assert ended.out == ""
    assert [path.name for path in Path().iterdir()] == ["r.yaml"]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("data.train_images=5", "data.train_images: 5 is fewer than the 10 classes"),
        ("train.batch_size=20000", "train.batch_size: 20000"),
        ("data.classes=1", "data.classes: 1"),
        ("los=kl", "did you mean 'loss'"),
        ("execution.device=cuda:99", "cuda:99"),
    ],
)
def test_check_refuses_what_the_stages_refuse(cli: Cli, setting: str, said: str) -> None:
    ended = cli("check", "glyphs", *DATA, "--set", setting)
    assert ended.code == 2, ended.err
    assert said in ended.complaint
    assert "not here" not in ended.err


def test_one_suggestion(cli: Cli) -> None:
    said = cli("teach", "--epoch", 3).complaint
    assert said.endswith("did you mean '--epochs'?")
    assert said.count("--epochs") == 1
    assert said.lower().count("did you mean") == 1
