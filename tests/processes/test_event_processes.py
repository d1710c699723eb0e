"""Event frames shared by two gloo processes: made once, and each trains on its part of every batch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from data.event_writers import convert, publish
from processes.jobs import Jobs

WORDS = [
    "--data",
    "n-mnist",
    "--set",
    "data.frames=3",
    "--set",
    "data.size=16",
    "--batch-size",
    "10",
    "--set",
    "model.width=4",
]


@pytest.mark.nightly  # on still images: test_two_processes
def test_two_processes_give_the_losses_of_one(tmp_path: Path) -> None:
    convert(tmp_path / "data", publish(tmp_path / "archives"))
    jobs = Jobs(tmp_path / "data")
    found = []
    try:
        jobs.done(tmp_path, ["teach", *WORDS, "--epochs", "1", "--out", "teacher"], 2)
        words = [
            "distill",
            *WORDS,
            "--loss",
            "hta-kl",
            "--epochs",
            "6",
            "--lr",
            "0.1",
            "--teacher",
            "teacher",
            "--allow-weak-teacher",
        ]
        for count in (1, 2):
            jobs.done(tmp_path, [*words, "--out", str(count)], count, frozen=True)
            found.append(
                [
                    json.loads(line)["loss"]
                    for line in (tmp_path / str(count) / "metrics.jsonl").read_text().splitlines()
                ]
            )
    finally:
        jobs.close()
    assert len(set(found[0])) == 6, "it trains"
    assert found[1] == pytest.approx(found[0], abs=1e-4)
