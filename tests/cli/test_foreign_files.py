"""Files that are somebody else's, and runs that stood there before, stay as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL, TRAIN, Cli, forbid, random_npz, teach_and_distill


def test_a_recipe_of_ones_own_is_not_overwritten(cli: Cli) -> None:
    Path("mine").mkdir()
    text = "# my notes\nstage: teach\ndata: {classes: 10, train_images: 300, test_images: 100}\n"
    Path("mine/recipe.yaml").write_text(text)
    ended = cli("teach", "mine/recipe.yaml", *TRAIN, "--out", "mine")
    assert ended.code == 2
    assert "has files but no run" in ended.complaint
    assert {path.name: path.read_text() for path in Path("mine").iterdir()} == {"recipe.yaml": text}


def test_fresh_moves_nobody_elses_files(cli: Cli) -> None:
    Path("mine").mkdir()
    for name in ("recipe.yaml", "thesis.tex"):
        Path("mine", name).write_text("mine")
    ended = cli("teach", *SMALL, "--out", "mine", "--fresh")
    assert ended.code == 2
    assert {path.name for path in Path("mine").iterdir()} == {"recipe.yaml", "thesis.tex"}
    assert {path.name for path in Path().iterdir()} == {"mine"}


def test_export_replaces_no_other_projects_network(cli: Cli) -> None:
    folder = cli("teach", *SMALL).folder
    Path("bert").mkdir()
    Path("bert/config.json").write_text('{"model_type": "bert"}')
    Path("bert/model.safetensors").write_bytes(b"weights")
    before = {path.name: path.read_bytes() for path in Path("bert").iterdir()}
    ended = cli("export", folder, "--out", "bert", "--force")
    assert ended.code == 2
    assert "bert" in ended.complaint
    assert {path.name: path.read_bytes() for path in Path("bert").iterdir()} == before
    assert {path.name for path in Path().iterdir()} == {"runs", "bert"}


@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize("out", [".", "./", "/", ".."])
def test_export_to_a_place_without_a_name(cli: Cli, out: str, force: list[str]) -> None:
    folder = cli("teach", *SMALL).folder
    ended = cli("export", folder, "--out", out, *force)
    assert ended.code == 2
    assert "--out" in ended.complaint
    assert {path.name for path in Path().iterdir()} == {"runs"}


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_what_comes_to_the_target_while_exporting_is_kept(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, force: list[str]
) -> None:
    from snnkd.exports import safetensors

    folder = cli("teach", *SMALL).folder
    honest = safetensors.write

    def slow(draft: Path, loaded: Any) -> None:
        Path("here").mkdir()
        Path("here/thesis.tex").write_text("mine")
        honest(draft, loaded)

    monkeypatch.setattr(safetensors, "write", slow)
    ended = cli("export", folder, "--out", "here", *force)
    assert ended.code in (2, 3)
    assert "here" in ended.complaint
    assert {path.name: path.read_text() for path in Path("here").iterdir()} == {"thesis.tex": "mine"}
    assert {path.name for path in Path().iterdir()} == {"runs", "here"}


def test_fresh_keeps_the_finished_run_when_the_teacher_is_refused(cli: Cli) -> None:
    name = random_npz("random.npz", 10)
    assert cli("teach", "--data", name, *TRAIN, "--epochs", 1).code == 0
    words = ["distill", "--data", name, *TRAIN, "--T", 1]
    folder = cli(*words, "--allow-weak-teacher").folder
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    ended = cli(*words, "--fresh")
    assert ended.code == 3
    assert "below twice chance" in ended.complaint
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not Path("runs/.aside").exists()


def test_a_folder_that_cannot_be_read_stops_no_command(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    teach_and_distill(cli)
    Path("r.yaml").write_text("stage: distill\nloss: kl\n")
    for name in ("lost+found", "theirs"):
        Path("runs", name).mkdir()
        forbid(monkeypatch, Path("runs", name))
    line = "left out: runs/lost+found: permission denied\n"
    for words in (
        ["teach", *SMALL, "--epochs", 1],
        ["distill", *SMALL, "--T", 1, "--teacher", "latest", "--allow-weak-teacher", "--epochs", 1],
        ["eval", "--latest"],
        ["eval", "--all"],
        ["export", "--latest"],
        ["check", "r.yaml"],
        ["status"],
    ):
        ended = cli(*words)
        assert ended.code == 0, ended.err
        assert ended.err.count(line) == 1, words
        assert "runs/theirs: permission denied" in ended.err
    compared = cli("compare", "--json")
    assert "left out, 2: runs/lost+found (permission denied); runs/theirs (permission denied)" in compared.err
    assert [each["place"] for each in compared.json["left_out"]] == ["runs/lost+found", "runs/theirs"]
    named = cli("status", "runs/theirs")
    assert (named.code, "permission denied" in named.complaint) == (3, True)
