"""Every augmentation through the command line: trained, stopped and continued, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import Cli, random_npz

from snnkd.schema.augment import OPERATIONS

TINY = ["--set", "data.classes=4", "--set", "data.train_images=48", "--set", "data.test_images=16", "--set", "data.size=12",
        "--epochs", 1, "--batch-size", 12, "--set", "model.width=4"]  # fmt: skip
EVERY = f"data.augment=[{', '.join(OPERATIONS)}]"
OPTIONS = (
    "data.augment=[crop, {name: randaugment, ops: 3, magnitude: 5, bins: 11}, {name: trivialaugment, bins: "
    "7}, {name: cutout, size: 3}, "
    "{name: erase, p: 1, scale_high: 0.1}, {name: cutmix, alpha: 0.5, p: 0.8}, {name: mixup, alpha: 0.3}]"
)


def _without_times(run: str) -> list[bytes]:
    return [
        re.sub(rb'"(images_per_s|seconds|cpu_seconds)": [\d.]+', b"", Path(run, file).read_bytes())
        for file in ("model.safetensors", "metrics.jsonl")
    ]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("setting", [EVERY, OPTIONS], ids=["usual", "options"])
def test_it_trains_stops_continues_and_ends_as_if_it_never_stopped(
    cli: Cli, setting: str, channels: int
) -> None:
    words = [*TINY, "--set", setting, "--set", f"data.channels={channels}"]
    assert cli("teach", *words, "--out", "teacher").code == 0
    words += [
        "--teacher",
        "teacher",
        "--allow-weak-teacher",
        "--loss",
        "tser",
        "--T",
        2,
        "--set",
        "train.label_smoothing=0.1",
    ]
    assert cli("distill", *words, "--out", "whole").code == 0
    assert cli("distill", *words, "--out", "parts", "--max-time", "0s").code == 75
    ended = cli("distill", *words, "--out", "parts")
    assert ended.code == 0, ended.err
    assert _without_times("parts") == _without_times("whole")
    (row,) = [json.loads(line) for line in Path("whole", "metrics.jsonl").read_text().splitlines()]
    assert 0 <= row["train_top1"] <= 100


def test_a_run_is_named_by_its_augmentation_and_continued_with_it_only(cli: Cli) -> None:
    folders = {
        cli("teach", *TINY, "--set", f"data.augment={names}").folder
        for names in ("[crop]", "[cutout]", "[{name: cutout, size: 3}]")
    }
    assert len(folders) == 3
    same = cli("teach", *TINY, "--set", "data.augment=[{name: cutout}]")
    assert same.folder in folders
    assert "already done" in same.err
    other = cli("teach", *TINY, "--set", "data.augment=[{name: cutout, size: 4}]", "--out", same.folder)
    assert other.code == 2
    assert "data.augment" in other.complaint


def test_check_writes_a_recipe_that_says_the_same(cli: Cli) -> None:
    first = cli("check", "glyphs", "--set", OPTIONS)
    Path("mine.yaml").write_text(first.out)
    again = cli("check", "mine.yaml")
    assert again.out.splitlines()[1:] == first.out.splitlines()[1:]  # the first says what command it is of
    assert "{name: cutout, size: 3}" in first.out


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--set", "data.augment=[mirror]"], "data.augment.0: 'mirror' is not one of crop, flip"),
        (["--set", "data.augment=[mixup, crop]"], "crop after mixup; put mixup, cutmix last"),
        (["--set", "data.augment=[crop, mixup]", "--loss", "dkd"],
         "loss.terms.0.divergence: dkd needs one label per image, and mixup mixes two; remove one of them"),
        (["--set", "data.augment=[cutmix]", "--loss", "seal"], "loss.terms.0.correct_errors needs one label per image, and cutmix mixes two"),
        (["--set", "data.augment=[mixup]", "--code", "mine.py", "--loss", "mine:own"],
         "loss.terms.0.divergence: mine:own needs one label per image"),
    ],
)  # fmt: skip
def test_refusals_come_before_a_file_is_opened(cli: Cli, words: list[str], why: str) -> None:
    Path("mine.py").write_text(
        "def own(student, teacher, *, temperature, labels):\n    return (student - teacher).square().mean()\n"
    )
    ended = cli("distill", "--data", "npz:absent.npz", *words)
    assert ended.code == 2
    assert why in ended.complaint
    assert not Path("runs").exists()


def test_images_that_an_operation_cannot_take_are_refused_before_a_run_begins(cli: Cli) -> None:
    data = random_npz("small.npz", 4, 8)
    ended = cli(
        "teach", "--data", data, "--set", "data.augment=[{name: cutout, size: 9}]", "--batch-size", 20
    )
    assert ended.code == 2
    assert "data.augment: cutout's size 9 is above the image size 8x8" in ended.complaint
    assert not Path("runs").exists()
    assert np.load("small.npz")["train_images"].shape == (200, 8, 8)
