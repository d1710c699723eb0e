"""A power cut at every file operation of a save: what was finished is there, what was not is never taken for
finished.

The harness must also be able to fail: without one fsync, or with the renames swapped, it finds a cut that
loses work.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from shim import PowerCut, Shim

from snnkd import files
from snnkd.console import Console
from snnkd.errors import FileError
from snnkd.runs import metrics
from snnkd.training import checkpoint

LOSSES = ("names", "contents")
QUIET = Console(quiet=True)


def _cut(operation: str, path: str) -> None:
    raise PowerCut


def _save_three(done: list[int]) -> None:
    for number in (1, 2, 3):
        checkpoint.save_state(Path("run"), {"number": number, "weights": torch.full((50,), float(number))})
        done.append(number)


def _number() -> int:
    held = checkpoint.load_state(Path("run"), QUIET)
    number = 0 if held is None else int(held["number"])
    if Path("run", checkpoint.LAST).exists() and number > 1:  # a spare one stands beside the last
        Path("run", checkpoint.LAST).unlink()
        spare = checkpoint.load_state(Path("run"), QUIET)
        if spare is None or spare["number"] != number - 1:
            raise FileError(f"checkpoint {number} has no spare")
    return number


def _violations(
    work: Callable[[list[int]], None], found: Callable[[], int], folder: Path
) -> tuple[list[str], int]:
    """Every cut after which less is found than was finished, or what cannot be read; and how many cuts there
    were."""
    counted = _run(folder / "counted", work, 0, "names")[1]
    wrong = [] if found() == 3 else ["without a cut, not all is found"]
    for stop_at in range(1, counted + 1):
        for lost in LOSSES:
            finished, _, operation = _run(folder / f"{stop_at}-{lost}", work, stop_at, lost)
            try:
                there = found()
            except FileError as error:
                wrong.append(f"cut at {operation}, {lost} lost: {error}")
                continue
            if not finished <= there <= finished + 1:
                wrong.append(f"cut at {operation}, {lost} lost: {finished} finished, {there} found")
    return wrong, 2 * counted


def _run(folder: Path, work: Callable[[list[int]], None], stop_at: int, lost: str) -> tuple[int, int, str]:
    (folder / "run").mkdir(parents=True)
    os.chdir(folder)
    done: list[int] = []
    shim = Shim(stop_at, _cut)
    try:
        with shim:
            work(done)
    except PowerCut:
        shim.lose(lost)
    return len(done), len(shim.operations), " ".join(shim.operations[-1])


def test_a_checkpoint_that_was_saved_is_there(tmp_path: Path) -> None:
    wrong, cuts = _violations(_save_three, _number, tmp_path)
    assert wrong == []
    assert cuts >= 2 * 3 * 5


def _rows(done: list[int]) -> None:
    for number in (1, 2, 3):
        metrics.append_metrics(Path("run"), {"epoch": number, "loss": 1.0})
        files.sync_folder(Path("run"))  # as the checkpoint that follows does
        done.append(number)


def test_a_line_of_the_metrics_that_was_written_is_there(tmp_path: Path) -> None:
    wrong, _ = _violations(_rows, lambda: len(metrics.read_metrics(Path("run"))), tmp_path)
    assert wrong == []


def _results(done: list[int]) -> None:
    for number in (1, 2, 3):
        files.write_json(Path("run/result.json"), {"number": number, "long": "x" * 500})
        done.append(number)


def _result() -> int:
    path = Path("run/result.json")
    return int(files.read_json(path)["number"]) if path.exists() else 0


def test_a_result_that_was_written_is_there_and_whole(tmp_path: Path) -> None:
    wrong, _ = _violations(_results, _result, tmp_path)
    assert wrong == []


def _swapped(path: Path, content: bytes, keep: Path | None = None) -> None:
    """write_atomic with its renames in the other order."""
    there = path.exists()
    files.write_atomic(path, content)
    if keep is not None and there:
        os.replace(path, keep)
        files.sync_folder(path.parent)


def _in_place(path: Path, content: bytes, keep: Path | None = None) -> None:
    if keep is not None and path.exists():
        os.replace(path, keep)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    files.sync_folder(path.parent)


class _Names:
    """A stand-in for a module with one name replaced."""

    def __init__(self, module: Any, **replaced: Any) -> None:
        self._module, self._replaced = module, replaced

    def __getattr__(self, name: str) -> Any:
        return self._replaced[name] if name in self._replaced else getattr(self._module, name)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_without_an_fsync_the_harness_finds_what_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def fsync(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}") != (what == "folder"):
            os.fsync(descriptor)

    monkeypatch.setattr(files, "os", _Names(os, fsync=fsync))
    wrong, _ = _violations(_save_three, _number, tmp_path)
    assert wrong
    assert all(("contents lost" if what == "file" else "names lost") in line for line in wrong)


@pytest.mark.parametrize("faulty", [_swapped, _in_place])
def test_with_another_order_of_the_renames_the_harness_finds_what_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faulty: Any
) -> None:
    """Swapped, the new checkpoint takes the place of the spare one; in place, a cut tears it."""
    monkeypatch.setattr(checkpoint, "write_atomic", faulty)
    assert _violations(_save_three, _number, tmp_path)[0]
