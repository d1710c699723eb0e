"""Evaluation spread over processes counts every image once, and what it says is said once."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes.jobs import SMALL, Jobs

TRAINED = [*SMALL, "--epochs", "30", "--lr", "0.05"]


@pytest.fixture(scope="module")
def here(torchrun: Jobs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a teacher and a student."""
    folder = tmp_path_factory.mktemp("here")
    torchrun.done(folder, ["teach", *TRAINED, "--out", "teacher"], count=1)
    torchrun.done(folder, ["distill", *TRAINED, "--loss", "none", "--T", "3", "--out", "student"], count=1)
    return folder


@pytest.mark.parametrize(
    ("run", "batch", "count"),
    [
        ("student", 5, 4),
        ("teacher", 4, 2),
        *(pytest.param(*case, marks=pytest.mark.nightly) for case in [("student", 4, 2), ("student", 18, 2)]),
    ],
)
def test_the_numbers_are_those_of_one_process(
    torchrun: Jobs, here: Path, run: str, batch: int, count: int
) -> None:
    """18 images: 4 and 5 do not divide them; at 18 a batch one process has none at all."""
    words = ["eval", run, "--batch-size", str(batch), "--json"]
    alone, together = (torchrun.done(here, words, number) for number in (1, count))
    whole, parts = alone.json, together.json
    assert parts["images"] == 18
    assert parts["hardware"].pop("processes") == count
    del whole["seconds"], parts["seconds"]
    assert parts == whole, "exactly"
    assert together.err == alone.err


def test_a_file_for_other_settings_is_written_once_and_several_runs_in_turn(
    torchrun: Jobs, here: Path
) -> None:
    alone = torchrun.done(here, ["eval", "student", "--T", "5"], 1)
    (here / "student/eval/test-T5.json").unlink()
    together = torchrun.done(here, ["eval", "student", "--T", "5"])
    assert together.out == alone.out
    assert [path.name for path in (here / "student/eval").iterdir()] == ["test-T5.json"]
    both = torchrun.done(here, ["eval", "student", "teacher", "--json", "--plot", "curve.svg"])
    assert [result["run"] for result in both.json["results"]] == ["student", "teacher"]
    assert both.err.count("plot written to curve.svg") == 1
