"""`~` is the home folder in every path that snnkd takes, also where no shell expands it."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Cli, random_npz
from data.pictures import picture_folder

import snnkd
from snnkd.errors import FileError
from snnkd.files import data_folder, user_path
from snnkd.recipe.teacher_section import build_teacher
from snnkd.runs.folder import runs_folder

SMALL = ["--model", "resnet8", "--set", "model.width=2", "--epochs", 1, "--batch-size", 50]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    (folder / "here").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("SNNKD_DATA", "~/data")
    monkeypatch.setenv("SNNKD_RUNS", "~/runs")
    monkeypatch.chdir(folder / "here")
    return folder


def test_folders_of_the_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (data_folder(), runs_folder()) == (home / "data", home / "runs")
    monkeypatch.delenv("SNNKD_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", "~/cache")
    assert data_folder() == home / "cache" / "snnkd"


def test_options_data_and_recipes(home: Path, cli: Cli) -> None:
    random_npz(str(home / "some.npz"), 3)
    trained = cli("teach", "--data=npz:~/some.npz", *SMALL, "--out=~/teacher")
    assert (trained.code, trained.folder) == (0, home / "teacher")
    assert cli("eval", "~/teacher").code == 0
    (home / "base.yaml").write_text(f"stage: distill\ndata: {{name: 'npz:{home}/some.npz'}}\nloss: kl\n")
    (home / "mine.yaml").write_text("extends: ~/base.yaml\nteacher: {run: ~/teacher}\n")
    student = cli("distill", "~/mine.yaml", *SMALL, "--T", 1, "--allow-weak-teacher")
    assert student.code == 0, student.err
    assert student.folder.parent == home / "runs"
    assert list((home / "here").iterdir()) == []


def test_pictures(home: Path, cli: Cli) -> None:
    picture_folder(home / "pictures")
    assert cli("data", "imagefolder:~/pictures", "--set", "data.size=8").code == 0
    assert list((home / "data").glob("imagefolder-pictures-*.bin"))


def test_from_python(home: Path) -> None:
    with pytest.raises(FileError, match=f"{home}/missing: no such folder"):
        snnkd.load("~/missing")
    assert build_teacher("~/teacher").run == str(home / "teacher")


def test_without_a_home() -> None:
    with pytest.raises(FileError, match="~nobody-here/x: no home folder is known; set HOME"):
        user_path("~nobody-here/x")
