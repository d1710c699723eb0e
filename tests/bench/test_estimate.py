"""`snnkd check --time`: minutes of training from a few steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import DATA, Cli

from snnkd.bench import estimate

SMALL = [*DATA, "--set", "train.batch_size=20", "--set", "model.width=4"]


def test_minutes_of_each_stage(cli: Cli) -> None:
    timed = cli("check", "glyphs", *SMALL, "--time", "--json")
    assert timed.code == 0, timed.err
    for stage in timed.json["stages"]:
        assert stage["seconds_per_step"] > 0
        assert stage["minutes"] == pytest.approx(stage["steps"] * stage["seconds_per_step"] / 60, abs=0.06)
    assert "minutes" not in cli("check", "glyphs", *SMALL, "--json").json["stages"][0]


def test_the_teacher_of_the_recipe_is_timed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    models = []
    original = estimate.make_stage

    def recorded(*arguments):
        stage = original(*arguments)
        models.append(stage.teacher.network.specification.model)
        return stage

    monkeypatch.setattr(estimate, "make_stage", recorded)
    words = ["--set", "teach.model.width=6", "--set", "distill.model.width=4"]
    timed = cli("check", "glyphs", *DATA, "--set", "train.batch_size=20", *words, "--time")
    assert timed.code == 0, timed.err
    assert [model.width for model in models] == [6, 6]
    assert "distill: about 0." in timed.err
    assert " min of training here (" in timed.err


def test_event_frames(cli: Cli) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 9, (40, 2, 2, 12, 12), dtype=np.uint8), np.arange(40) % 3
    np.savez("e.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    Path("r.yaml").write_text("stage: distill\nloss: none\ndata: {name: 'npz:e.npz', frames: 2}\n")
    words = ["--set", "model.width=4", "--set", "model.T=2", "--set", "train.batch_size=4"]
    timed = cli("check", "r.yaml", *words, "--time", "--json")
    assert timed.code == 0, timed.err
    assert timed.json["stages"][0]["seconds_per_step"] > 0


def test_data_of_unknown_shape_have_no_minutes(cli: Cli) -> None:
    timed = cli("check", "glyphs", "--set", "data=npz:absent.npz", "--time", "--json")
    assert timed.code == 0, timed.err
    assert all("minutes" not in stage for stage in timed.json["stages"])
