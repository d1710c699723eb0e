"""A full disk and Ctrl-C in the commands that have nothing to save."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import DATA, SMALL, Cli, run_in

FULL = OSError(errno.ENOSPC, "No space left on device")
OTHER = OSError(errno.EROFS, "Read-only file system")


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> Path:
    root = tmp_path_factory.mktemp("student")
    done = run_in(root, data_folder, "distill", *SMALL, "--loss", "none", "--T", 1)
    assert done.code == 0, done.err
    return root / done.folder


@pytest.mark.parametrize(("error", "code"), [(FULL, 4), (OTHER, 3)])
@pytest.mark.parametrize(
    ("words", "where", "named"),
    [
        (["export", "--out", "here"], "snnkd.models.files.write_atomic", "--out here"),
        (["eval", "--T", "3"], "snnkd.evaluation.write_json", "eval"),
        (["eval", "--plot", "curve.png"], "snnkd.measure.plot.write_atomic", "--plot curve.png"),
        (["teach", *SMALL, "--out", "run"], "snnkd.runs.lock.json.dump", ""),
        (["teach", *SMALL, "--out", "run"], "snnkd.runs.open.write_atomic", ""),
    ],
)
def test_a_place_that_takes_no_more(
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
    student: Path,
    words: list[str],
    where: str,
    named: str,
    error: OSError,
    code: int,
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(error.errno, error.strerror)

    before = {path for path in student.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(where, refuse)
        ended = cli(*words[:1], *([student] if words[0] != "teach" else []), *words[1:])
    assert ended.code == code, ended.err
    assert named in ended.complaint
    assert ("the disk is full" if code == 4 else "read-only file system") in ended.complaint
    assert {path for path in student.rglob("*") if path.is_file()} == before
    if words[0] == "export":
        assert list(Path().iterdir()) == []
    if words[0] == "teach":
        assert cli(*words).code == 0


INTERRUPTED = """
import os, signal, sys
sys.argv = ["snnkd", *sys.argv[1:]]
from snnkd import preflight
from snnkd.exports import safetensors
def interrupted(honest):
    def call(*words):
        os.kill(os.getpid(), signal.SIGINT)
        return honest(*words)
    return call
preflight.facts, safetensors.write = interrupted(preflight.facts), interrupted(safetensors.write)
from snnkd.cli import main
main()
"""


@pytest.mark.parametrize("words", [["check", "glyphs", *DATA], ["export"]])
@pytest.mark.nightly  # of a signal: faults/test_signals_by_phase, training/test_resume
def test_sigint_ends_commands_that_have_nothing_to_save(student: Path, words: list[str]) -> None:
    """They die of the signal, so that a shell's loop ends, and leave nothing."""
    if words[0] == "export":
        words = ["export", str(student), "--out", "here"]
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGINT, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert [line.startswith("snnkd: stopped by SIGINT") for line in lines] == [True], done.stderr
    assert list(Path().iterdir()) == []
