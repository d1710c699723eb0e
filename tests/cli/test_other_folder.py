"""Commands on a run from another folder than it was started in: its relative paths are found."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Cli, random_npz, run_in

from snnkd.models.files import load_network

WORDS = ["--data", "npz:ten.npz", "--epochs", 1, "--batch-size", 50, "--set", "model.width=4"]
CODE = ["--code", "mine:my_loss"]
LOSS = """
def my_loss(student, teacher, *, temperature, labels):
    return (student - teacher).square().mean()
"""


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> Path:
    """A student in a project on its npz file, with its teacher, initial weights and loss."""
    project = tmp_path_factory.mktemp("project")
    random_npz(str(project / "ten.npz"), 10)
    (project / "mine.py").write_text(LOSS)
    taught = run_in(project, data_folder, "teach", *WORDS).folder
    torch.save(load_network(project / taught).network.body.state_dict(), project / "start.pt")
    words = ["--teacher", taught, "--allow-weak-teacher", "--init", "start.pt", "--loss", "mine:my_loss"]
    done = run_in(project, data_folder, "distill", *WORDS, *words, "--T", 1)
    assert done.code == 0, done.err
    del sys.modules["mine"]  # the tests import it from its copies
    sys.path.remove(str(project))
    return project / done.folder


@pytest.fixture
def student(trained_once: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the student in its project; the current folder is another."""
    project = Path(shutil.copytree(trained_once.parents[1], "project")).absolute()
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    return project / "runs" / trained_once.name


def test_a_run_from_another_folder(cli: Cli, student: Path) -> None:
    measured = cli("eval", student, "--json")
    assert measured.code == 0, measured.err
    stored = json.loads((student / "result.json").read_text())
    assert measured.json["curve"] == stored["curve"]
    assert measured.json["data"] == "npz:ten.npz"
    exported = cli("export", student, "--json")
    assert exported.code == 0, exported.err
    assert cli("eval", exported.json["path"]).code == 0
    checked = cli("check", student / "recipe.yaml", *CODE, "--json")
    assert checked.code == 0, checked.err
    (stage,) = checked.json["stages"]
    assert stage["data_present"]
    assert stage["teacher_present"]
    again = cli("run", student / "recipe.yaml", *CODE)
    assert again.code == 0, again.err
    assert Path(again.folder).name == student.name
    line = f"trains a run of its own in runs; with SNNKD_RUNS={student.parent} it continues that run"
    assert f"{student / 'recipe.yaml'} {line}\n" in again.err
    weights = [(run / "model.safetensors").read_bytes() for run in (student, again.folder)]
    assert weights[0] == weights[1]
    assert cli("eval", again.folder).code == 0, "its own recipe names them, too"


def test_the_recipe_of_a_run_continues_it_in_its_own_runs_folder(
    cli: Cli, student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNNKD_RUNS", str(student.parent))
    for command in ("run", "distill"):
        again = cli(command, student / "recipe.yaml", *CODE)
        assert again.folder == student
        assert "already done" in again.err
        assert "of its own" not in again.err


def test_a_project_that_was_moved(cli: Cli, student: Path) -> None:
    moved = shutil.move(student.parents[1], "moved")
    done = cli("eval", Path(moved, "runs", student.name))
    assert done.code == 0, done.err


def test_data_here_come_first_and_places_are_named(cli: Cli, student: Path) -> None:
    with np.load(student.parents[1] / "ten.npz") as file:
        np.savez("ten.npz", **{**file, "test_images": 255 - file["test_images"]})
    assert "warning: npz:ten.npz differs from the data" in cli("eval", student).err
    Path("ten.npz").unlink()
    (student.parents[1] / "ten.npz").unlink()
    refused = cli("eval", student)
    assert refused.code == 3
    assert f"npz:ten.npz, are neither in {Path.cwd()} nor in {student.parents[1]}" in refused.complaint
    refused = cli("distill", student / "recipe.yaml", *CODE)
    assert refused.code == 3
    assert f"{student.parents[1]}/ten.npz: no such file" in refused.complaint


def test_a_function_that_is_nowhere_names_the_places(cli: Cli, student: Path) -> None:
    (student.parents[1] / "mine.py").unlink()
    refused = cli("distill", student / "recipe.yaml", *CODE)
    assert refused.code == 2
    assert f"no module 'mine' in {Path.cwd()}, {student.parents[1]} or the environment" in refused.complaint


def test_a_run_that_does_not_say_where_it_was_started(cli: Cli, student: Path) -> None:
    run = json.loads((student / "run.json").read_text())
    for origin in (None, 3, "\0"):
        (student / "run.json").write_text(json.dumps(run | {"origin": origin}))
        refused = cli("eval", student)
        assert refused.code == 3
        assert "ten.npz: no such file" in refused.complaint


def test_status_says_where_the_command_continues_a_run(cli: Cli, student: Path) -> None:
    (student / "result.json").unlink()
    project = student.parents[1]
    listed = cli("status", student.parent)
    assert f"cd {project} && snnkd distill" in listed.out + listed.err
