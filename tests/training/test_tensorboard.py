"""TensorBoard event files say what metrics.jsonl says."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import SMALL, Cli
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from snnkd.runs.metrics import read_metrics


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    held = EventAccumulator(str(run / "tensorboard"))
    held.Reload()
    return {tag: [(event.step, event.value) for event in held.Scalars(tag)] for tag in held.Tags()["scalars"]}


def wanted(run: Path) -> dict[str, list[tuple[int, float]]]:
    rows = read_metrics(run)
    keys = {
        key
        for row in rows
        for key, value in row.items()
        if key != "epoch" and isinstance(value, (int, float))
    }
    return {
        key: [(row["epoch"], pytest.approx(row[key], rel=1e-4)) for row in rows if key in row] for key in keys
    }


def test_every_epoch_once(cli: Cli) -> None:
    done = cli("teach", *SMALL, "--track", "tensorboard")
    assert done.code == 0, done.err
    assert {"loss", "train_top1", "lr"} <= scalars(done.folder).keys()
    assert scalars(done.folder) == wanted(done.folder)
    assert len(read_metrics(done.folder)) == 2


def test_also_after_an_interruption_and_when_asked_for_later(cli: Cli) -> None:
    words = ["teach", *SMALL, "--epochs", 3]
    for _ in range(8):
        assert cli(*words, "--max-time", "0s").code == 75  # one step each, into the second epoch
    done = cli(*words, "--track", "tensorboard", "--max-time", "0s")
    assert done.code == 75
    done = cli(*words, "--track", "tensorboard")
    assert done.code == 0, done.err
    assert [step for step, _ in scalars(done.folder)["loss"]] == [1, 2, 3]
    assert scalars(done.folder) == wanted(done.folder)


def test_it_is_not_part_of_what_a_run_is(cli: Cli) -> None:
    plain = cli("teach", *SMALL).folder
    assert not (plain / "tensorboard").exists()
    assert cli("teach", *SMALL, "--track", "tensorboard").folder == plain
    refused = cli("teach", *SMALL, "--track", "wandb")
    assert refused.code == 2
    assert "tensorboard" in refused.complaint


def test_without_tensorboard_it_is_refused_before_any_run(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snnkd.training.tensorboard.find_spec", lambda name: None)
    refused = cli("teach", *SMALL, "--track", "tensorboard")
    assert refused.code == 2
    assert "pip install tensorboard" in refused.complaint
    assert not Path("runs").exists()
