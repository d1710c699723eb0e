"""A fault at a file operation of a command; then the command again, and the same bytes as without the fault.

By default once for each kind of operation on each file (the second epoch repeats the first); nightly at every
operation.
"""

from __future__ import annotations

import re
import shutil
import signal
from pathlib import Path

import pytest
from faults.forks import Forks

SMALL = ["--set", "data.classes=4", "--set", "data.train_images=40", "--set", "data.test_images=20", "--set", "data.size=8",
         "--epochs", "2", "--batch-size", "20", "--set", "model.width=2"]  # fmt: skip
TEACH = ["teach", *SMALL, "--out", "run"]
DISTILL = [
    "distill",
    *SMALL,
    "--T",
    "2",
    "--loss",
    "bkdsnn",
    "--teacher",
    "teacher",
    "--allow-weak-teacher",
    "--out",
    "run",
]

EVERY = [pytest.param(5, id="every-fifth-kind"), pytest.param(0, id="every-one", marks=pytest.mark.nightly)]


@pytest.fixture(scope="module")
def finished(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished teacher and the data cache."""
    folder = tmp_path_factory.mktemp("finished") / "here"
    assert forks.run(folder, ["teach", *SMALL, "--set", "model.width=3", "--out", "teacher"]) == 0
    return folder


def _fresh(tmp_path: Path, name: str, finished: Path | None) -> Path:
    folder = tmp_path / name
    if finished:
        shutil.copytree(finished, folder)
    else:
        folder.mkdir()
    return folder


def _to_strike(operations: list[str], every: int) -> list[int]:
    """Numbers of operations, from 1: all for `every` 0, else the first of each kind on each file, or every
    n-th of these."""
    if every == 0:
        return list(range(1, len(operations) + 1))
    kinds = [re.sub(r"\.[a-z0-9_]{8}\.tmp$", "", operation) for operation in operations]
    return [n for n, kind in enumerate(kinds, 1) if kinds.index(kind) == n - 1][::every]


def _struck(
    forks: Forks,
    tmp_path: Path,
    words: list[str],
    finished: Path | None,
    act: str,
    weights: str,
    every: int,
) -> list[tuple[str, Path, int]]:
    """The command struck at one operation at a time, each time from the start: operation, folder, status."""
    undisturbed = _fresh(tmp_path, "undisturbed", finished)
    operations = forks.operations(undisturbed, words)
    expected = (undisturbed / weights).read_bytes()
    struck = []
    for number in _to_strike(operations, every):
        folder = _fresh(tmp_path, str(number), finished)
        status = forks.run(folder, words, stop_at=number, act=act)
        assert _nothing_unfinished_looks_finished(folder / weights, expected), operations[number - 1]
        struck.append((operations[number - 1], folder, status))
    return struck


def _nothing_unfinished_looks_finished(weights: Path, expected: bytes) -> bool:
    return not (weights.parent / "result.json").exists() or weights.read_bytes() == expected


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize(
    ("words", "needs"),
    [
        pytest.param(TEACH, False, id="teach"),
        pytest.param(DISTILL, True, id="distill", marks=pytest.mark.nightly),
    ],
)
def test_killed_at_every_operation_a_run_ends_with_the_same_bytes(
    forks: Forks, tmp_path: Path, finished: Path, words: list[str], needs: bool, every: int
) -> None:
    """Recipe, lock, data cache, metrics, checkpoints, weights, result: half a write, and before each other
    operation."""
    struck = _struck(
        forks, tmp_path, words, finished if needs else None, "kill", "run/model.safetensors", every
    )
    expected = (tmp_path / "undisturbed/run/model.safetensors").read_bytes()
    assert len(struck) > (60 if every == 0 else 5)
    for operation, folder, status in struck:
        assert status == -signal.SIGKILL, operation
        assert forks.run(folder, words) == 0, f"{operation}: {(folder / 'err').read_text()}"
        assert (folder / "run/model.safetensors").read_bytes() == expected, operation
        assert not list((folder / "run").glob("*.pt")), operation


@pytest.mark.parametrize(
    ("act", "code", "every"),
    [
        ("full", 4, 8),
        pytest.param("read-only", 3, 8, marks=pytest.mark.nightly),
        pytest.param("full", 4, 0, marks=pytest.mark.nightly),
        pytest.param("read-only", 3, 0, marks=pytest.mark.nightly),
    ],
)
def test_refused_at_an_operation_it_says_so_and_continues(
    forks: Forks, tmp_path: Path, act: str, code: int, every: int
) -> None:
    """A disk that is full or read-only for one operation: one line, the exit code, nothing lost."""
    struck = _struck(forks, tmp_path, TEACH, None, act, "run/model.safetensors", every)
    expected = (tmp_path / "undisturbed/run/model.safetensors").read_bytes()
    harmless = 0
    for operation, folder, status in struck:
        complaint = [line for line in (folder / "err").read_text().splitlines() if line.startswith("snnkd: ")]
        if status == 0:  # a cache or a note that may fail
            harmless += 1
            assert (folder / "run/model.safetensors").read_bytes() == expected, operation
            continue
        assert status == code, f"{operation}: {(folder / 'err').read_text()}"
        assert len(complaint) == 1, operation
        assert forks.run(folder, TEACH) == 0, f"{operation}: {(folder / 'err').read_text()}"
        assert (folder / "run/model.safetensors").read_bytes() == expected, operation
    assert harmless < len(struck) / 2


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("act", ["kill", pytest.param("full", marks=pytest.mark.nightly)])
def test_struck_at_every_operation_an_export_is_whole_or_absent(
    forks: Forks, tmp_path: Path, finished: Path, act: str, every: int
) -> None:
    words = ["export", "teacher", "--out", "exported"]
    undisturbed = _fresh(tmp_path, "undisturbed", finished)
    operations = forks.operations(undisturbed, words)
    files = {path.name: path.read_bytes() for path in (undisturbed / "exported").iterdir()}
    for number in _to_strike(operations, every):
        operation = operations[number - 1]
        folder = _fresh(tmp_path, f"export-{number}", finished)
        status = forks.run(folder, words, stop_at=number, act=act)
        assert status in ((-signal.SIGKILL,) if act == "kill" else (0, 4)), operation
        there = (folder / "exported").exists()
        if not there:
            assert forks.run(folder, words) == 0, f"{operation}: {(folder / 'err').read_text()}"
        assert {path.name: path.read_bytes() for path in (folder / "exported").iterdir()} == files, operation
        assert {
            path.name: path.read_bytes() for path in (folder / "teacher").iterdir() if path.is_file()
        } == {path.name: path.read_bytes() for path in (finished / "teacher").iterdir() if path.is_file()}, (
            operation
        )


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("act", ["kill", pytest.param("full", marks=pytest.mark.nightly)])
def test_struck_at_every_operation_an_evaluation_is_whole_or_absent(
    forks: Forks, tmp_path: Path, finished: Path, act: str, every: int
) -> None:
    """The split has no result of its own, so eval writes one; the data cache is gone, so it is drawn and
    written again."""
    student = _fresh(tmp_path, "student", finished)
    assert forks.run(student, ["distill", *SMALL, "--T", "1", "--loss", "none", "--out", "run"]) == 0
    shutil.rmtree(student / "data")
    words = ["eval", "run", "--T", "2"]
    undisturbed = _fresh(tmp_path, "undisturbed", student)
    operations = forks.operations(undisturbed, words)
    assert any("test-T2.json" in operation for operation in operations)
    for number in _to_strike(operations, every):
        operation = operations[number - 1]
        folder = _fresh(tmp_path, f"eval-{number}", student)
        status = forks.run(folder, words, stop_at=number, act=act)
        assert status in ((-signal.SIGKILL,) if act == "kill" else (0, 4)), operation
        written = folder / "run/eval/test-T2.json"
        if written.exists():
            assert written.read_text().endswith("}\n"), operation
        assert forks.run(folder, words) == 0, f"{operation}: {(folder / 'err').read_text()}"
        assert (folder / "out").read_text() == (undisturbed / "out").read_text(), operation
