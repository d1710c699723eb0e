"""Real SIGKILL at random moments, the command repeated until it ends: the same bytes as a run that was left
alone."""

from __future__ import annotations

import mmap
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from faults.forks import Forks, alive, send

PHASES = ("preparing", "training", "saving", "measuring")
WORDS = ["teach", "--set", "data.classes=10", "--set", "data.train_images=400", "--set", "data.test_images=200", "--epochs", "12",
         "--batch-size", "50", "--set", "model.width=4", "--out", "run"]  # fmt: skip


def _kill_once(
    forks: Forks, folder: Path, words: list[str], phase: mmap.mmap, rng: random.Random, wanted: str | None
) -> tuple[int, str]:
    """Start the command, kill it at a random moment (of the wanted phase); its status and the phase it was
    in."""
    phase[0] = 0
    pid = forks.start(folder, words, phase=str(folder / "phase"))
    pause = rng.uniform(0, 0.001) if wanted else rng.uniform(0, 0.9)
    if wanted:
        deadline = time.monotonic() + 30
        skip = rng.randrange(4)  # saves to let pass
        while time.monotonic() < deadline and alive(pid):
            if PHASES[phase[0]] == wanted:
                if skip == 0:
                    break
                skip -= 1
                while PHASES[phase[0]] == wanted and alive(pid):
                    pass
    time.sleep(pause)
    seen = PHASES[phase[0]]
    if alive(pid):
        send(pid, signal.SIGKILL)
    return forks.wait(), seen


@pytest.mark.parametrize(
    ("kills", "in_a_save", "keys"),
    [
        (60, 15, []),
        (12, 3, ["train.optimizer=adam", "train.lr=0.002", "train.schedule=linear"]),
        (12, 3, ["train.optimizer=adamw", "train.lr=0.002", "train.clip_grad_norm=1"]),
    ],
    ids=["sgd", "adam", "adamw"],
)
@pytest.mark.nightly  # one kill in training: training/test_resume
def test_killed_at_random_moments_runs_end_with_the_same_bytes(
    forks: Forks, tmp_path: Path, kills: int, in_a_save: int, keys: list[str]
) -> None:
    words = [*WORDS, *(word for key in keys for word in ("--set", key))]
    assert forks.run(tmp_path / "whole", words) == 0, (tmp_path / "whole/err").read_text()
    expected = (tmp_path / "whole/run/model.safetensors").read_bytes()
    rng, counted, number = random.Random(0), Counter[str](), 0
    while counted.total() < kills or counted["saving"] < in_a_save:
        number += 1
        assert number < 60, f"too few kills: {counted}"
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "phase").write_bytes(b"\0")
        with (folder / "phase").open("r+b") as file:
            phase = mmap.mmap(file.fileno(), 1)
        for _attempt in range(8):
            status, seen = _kill_once(
                forks, folder, words, phase, rng, "saving" if counted["saving"] < in_a_save else None
            )
            if status == 0:
                break
            assert status == -signal.SIGKILL, (folder / "err").read_text()
            counted[seen] += 1
        assert forks.run(folder, words) == 0, (folder / "err").read_text()
        assert (folder / "run/model.safetensors").read_bytes() == expected
        phase.close()
    print(f"killed: {dict(counted)}")
    assert counted["training"] > 0
