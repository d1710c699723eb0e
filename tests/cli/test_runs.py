"""`snnkd runs`: runs set aside, renamed and tagged; nothing is deleted, and a running run is left alone."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from conftest import Cli

from snnkd.runs.lock import Lock

COMMAND = "snnkd teach --epochs 9"


def run(name: str, finished: bool = False) -> Path:
    folder = Path("runs", name)
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"command": COMMAND, "origin": "../.."}))
    if finished:
        (folder / "result.json").write_text("{}")
    return folder


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_rm_asks_and_sets_aside(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = run("a"), run("b")
    nobody = cli("runs", "rm", a, b)
    assert (nobody.code, "2 runs, and nobody to ask; add --yes" in nobody.complaint) == (2, True)
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    refused = cli("runs", "rm", a)
    assert (refused.code, "move runs/a to .aside?" in refused.err, a.exists()) == (0, True, True)
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert cli("runs", "rm", a).code == 0
    done = cli("runs", "rm", b, "--yes")
    assert "runs/b was set aside as runs/.aside/b-1" in done.err
    assert sorted(path.name for path in Path("runs/.aside").iterdir()) == ["a-1", "b-1"]
    assert Path("runs/.aside/a-1/run.json").exists()


def test_rename(cli: Cli) -> None:
    unfinished = cli("runs", "rename", run("a"), "better")
    assert (unfinished.code, unfinished.out) == (0, "runs/better\n")
    place = Path("runs/better").absolute()
    assert f"what continues it needs its name: {COMMAND} --out {place}" in " ".join(
        unfinished.err.split("\n")
    )
    finished = cli("runs", "rename", run("b", finished=True), "best")
    assert (finished.out, finished.err) == ("runs/best\n", "")
    for name, message in (("best", "exists"), ("x/y", "is not a name"), (".x", "is not a name")):
        refused = cli("runs", "rename", "runs/better", name)
        assert (refused.code, message in refused.complaint) == (2, True)
    assert cli("runs", "rename", "runs/better").complaint.endswith("0 new names; give one")


def test_tags_are_shown_by_status(cli: Cli) -> None:
    folder = run("a")
    assert cli("runs", "tag", folder, "paper", "table-2", "paper").code == 0
    assert cli("status", "--json").json["runs"][0]["tags"] == ["paper", "table-2"]
    assert "runs/a #paper #table-2" in cli("status").out
    assert "paper table-2" in cli("status", "--csv").out
    assert "a,b' is not a tag" in cli("runs", "tag", folder, "a,b").complaint
    assert cli("runs", "tag", folder).code == 0
    assert cli("status", "--json").json["runs"][0]["tags"] == []
    (folder / "tags.json").write_text("damaged")
    assert cli("status", "--json").json["runs"][0]["tags"] == []


@pytest.mark.parametrize("words", [["rm", "--yes"], ["rename", "new"], ["tag", "new"]])
def test_a_running_run_is_left_alone(cli: Cli, words: list[str]) -> None:
    folder = run("a")
    with Lock(folder):
        refused = cli("runs", words[0], folder, *words[1:])
    assert (refused.code, "runs/a: held by process" in refused.complaint) == (3, True)
    assert [path.name for path in Path("runs").iterdir()] == ["a"]
    Path("notes").mkdir()
    other = cli("runs", words[0], "notes", *words[1:])
    assert (other.code, "notes: not a run" in other.complaint) == (3, True)


def test_an_unknown_action(cli: Cli) -> None:
    refused = cli("runs", "tga", run("a"))
    assert (refused.code, "did you mean 'tag'?" in refused.complaint) == (2, True)
    unused = cli("runs", "tag", "runs/a", "x", "--yes")
    assert (unused.code, "--yes: runs tag asks nothing" in unused.complaint) == (2, True)
