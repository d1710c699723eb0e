"""The seconds of a training: wall time, CPU time and GPU time, over interruptions and processes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import SMALL, Cli

from snnkd import distributed
from snnkd.training import loop
from snnkd.training.train_state import Progress, TrainState


@pytest.fixture
def slow_steps(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Each step waits, or computes, for `seconds`."""
    slow, original = SimpleNamespace(wait=0.0, compute=0.0), loop.set_learning_rate

    def set_learning_rate(*args: object) -> None:
        time.sleep(slow.wait)
        end = time.process_time() + slow.compute
        while time.process_time() < end:
            pass
        original(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "set_learning_rate", set_learning_rate)
    return slow


def test_cpu_time_is_not_wall_time_and_is_kept_over_interruptions(
    cli: Cli, slow_steps: SimpleNamespace
) -> None:
    words = ["teach", *SMALL, "--epochs", 1, "--out", "run"]
    slow_steps.compute = 0.4
    assert cli(*words, "--max-time", "0s").code == 75, "after one step"
    slow_steps.wait, slow_steps.compute = 0.2, 0.0
    assert cli(*words).code == 0
    seconds = json.loads(Path("run/result.json").read_text())["seconds"]
    assert seconds["train_cpu"] > 0.4
    assert seconds["train"] > seconds["train_cpu"] + 0.6, "five steps that waited"
    assert seconds["train_gpu"] is None


def test_seconds_of_several_processes_with_a_gpu_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "all_gather", lambda value: [value, 10.0])
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    state = TrainState.__new__(TrainState)
    state.stage = SimpleNamespace(device=torch.device("cuda"))  # type: ignore[assignment]
    state.progress = Progress(seconds=1.0, cpu_seconds=3.0, gpu_seconds=1.0)
    state._start_clocks()
    time.sleep(0.1)
    state.count_seconds()
    state.count_seconds()
    assert 23.0 <= state.progress.cpu_seconds < 23.1
    assert 1.1 <= state.progress.seconds < 2.0
    assert state.progress.gpu_seconds == pytest.approx(1.0 + 2 * (state.progress.seconds - 1.0))
