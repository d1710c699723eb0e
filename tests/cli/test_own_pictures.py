"""Own pictures, from a folder to a measured student: batch, rate and epochs by their number, and what to do next."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SMALL, Cli, random_npz
from pages import blocks
from PIL import Image

from snnkd.recipe import resolve_stage
from snnkd.recipe.train_section import fit_train, fitted_keys
from snnkd.schema.run import TrainConfig

RECIPE = {
    "teach": TrainConfig(epochs=10, batch_size=100, lr=0.1),
    "distill": TrainConfig(epochs=16, batch_size=100, lr=0.1),
}
QUICK = ["--set", "data.size=16", "--set", "model.width=4"]


@pytest.mark.parametrize(
    ("images", "batch_size", "lr", "teacher_epochs", "student_epochs"),
    [
        (1, 2, 0.0141, 10, 16),  # refused with the data
        (5, 5, 0.0224, 1000, 1600),
        (20, 8, 0.0283, 500, 800),
        (320, 32, 0.0566, 100, 160),
        (1000, 100, 0.1, 100, 160),
        (10_000, 100, 0.1, 10, 16),  # those of glyphs
        (50_000, 100, 0.1, 10, 16),
    ],
)
def test_batch_rate_and_epochs_follow_the_number_of_images(
    images: int, batch_size: int, lr: float, teacher_epochs: int, student_epochs: int
) -> None:
    for stage, epochs in (("teach", teacher_epochs), ("distill", student_epochs)):
        fitted = fit_train(RECIPE[stage], ("epochs", "batch_size", "lr"), stage, images)
        assert (fitted.batch_size, fitted.lr, fitted.epochs) == (batch_size, lr, epochs)
        assert fit_train(RECIPE[stage], ("epochs", "batch_size"), stage, images).lr == RECIPE[stage].lr


@pytest.mark.parametrize(
    ("recipe", "flags", "settings", "keys"),
    [
        ("glyphs", {"data": "imagefolder:pics"}, [], ("epochs", "batch_size", "lr")),
        ("glyphs", {"data": "imagefolder:pics", "epochs": 3}, [], ("batch_size", "lr")),
        ("glyphs", {"data": "imagefolder:pics"}, ["train.batch_size=9"], ("epochs",)),
        ("glyphs", {"data": "imagefolder:pics", "lr": 0.1}, [], ("epochs", "batch_size")),
        (
            "glyphs",
            {"data": "imagefolder:pics"},
            ["train.optimizer=adamw", "train.lr=0.01"],
            ("epochs", "batch_size"),
        ),
        ("glyphs", {}, ["data=imagefolder:pics"], ("epochs", "batch_size", "lr")),
        ("glyphs", {}, [], ()),
        ("cifar10-resnet18", {"data": "imagefolder:pics"}, [], ()),
    ],
)
def test_only_what_the_request_leaves_open_is_fitted(
    recipe: str, flags: dict[str, Any], settings: list[str], keys: tuple[str, ...]
) -> None:
    stage = resolve_stage(recipe, "teach", settings=settings, **flags)
    assert fitted_keys(recipe, stage, settings, flags) == keys


def draw_pictures(root: Path, count: int) -> None:
    """`count` pictures of 40x30 pixels, in two classes that differ in colour."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for i in range(count // 2):
            pixels = rng.integers(0, 128, (30, 40, 3), dtype=np.uint8)
            pixels[..., 2 * label] += 100
            Image.fromarray(pixels).save(root / name / f"{i}.png")


def commands() -> list[list[str]]:
    (block,) = [text for text in blocks("README", "bash") if "imagefolder:pics" in text]
    assert block in blocks("data", "bash"), "the guide shows the same lines"
    return [shlex.split(line, comments=True)[1:] for line in block.splitlines()]


def test_the_lines_of_the_readme_at_a_small_size(cli: Cli) -> None:
    draw_pictures(Path("pics"), 60)
    data, teach, distill, measure = commands()
    assert "48 train, 12 test" in cli(*data).out
    taught = cli(*teach, *QUICK, "--epochs", 2)
    assert taught.code == 0, taught.err
    assert (
        "48 training images: batches of 8, 2 epochs, lr 0.0283; --batch-size, --epochs and --lr change it"
        in taught.err
    )
    assert "warning: 12 steps in all (2 epochs of 6): perhaps too few" in taught.err
    identity = json.loads((taught.folder / "run.json").read_text())["identity"]
    assert (identity["train"]["batch_size"], identity["train"]["epochs"]) == (8, 2)
    student = cli(*distill, *QUICK, "--epochs", 2, "--allow-weak-teacher")
    assert student.code == 0, student.err
    measured = cli(*measure)
    assert measured.code == 0, measured.err
    assert "pics test, 12 images" in measured.out


@pytest.mark.nightly
def test_the_lines_of_the_readme_learn_in_their_own_number_of_steps(cli: Cli) -> None:
    """Of smaller pictures and networks: at 64x64 the lines take half an hour of a CPU."""
    draw_pictures(Path("pics"), 60)
    data, teach, distill, measure = commands()
    ended = [cli(*words) for words in (data, [*teach, *QUICK], [*distill, *QUICK], measure)]
    assert [each.code for each in ended] == [0, 0, 0, 0], [each.err for each in ended]
    assert "warning" not in ended[1].err + ended[2].err
    for run in Path("runs").iterdir():
        assert json.loads((run / "result.json").read_text())["curve"][-1]["top1"] > 90


def test_enough_steps_are_not_warned_of(cli: Cli) -> None:
    ended = cli("teach", "--data", random_npz("mine.npz", 4), "--set", "model.width=2", "--max-time", "0s")
    assert "200 training images: batches of 20, 100 epochs, lr 0.0447" in ended.err
    assert "steps in all" not in ended.err


def test_a_weak_teacher_is_refused_with_the_next_command(cli: Cli) -> None:
    words = ["teach", "--data", random_npz("mine.npz", 4), "--set", "model.width=2"]
    assert cli(*words, "--epochs", 1, "--out", "t").code == 0
    refused = cli("distill", "--data", "npz:mine.npz", "--loss", "kl", "--teacher", "t", "--epochs", 1)
    assert refused.code == 3
    longer = f"`{shlex.join(['snnkd', *words, '--epochs', '4'])}`"
    assert f"train longer, {longer}, or pass --allow-weak-teacher" in refused.complaint


def test_without_data_the_teachers_of_other_data_are_named(cli: Cli) -> None:
    words = ["--epochs", 1, "--set", "model.width=2"]
    taught = cli("teach", "--data", random_npz("my images.npz", 4), *words)
    refused = cli("distill", *SMALL)
    assert refused.code == 3
    assert refused.complaint == (
        "snnkd: no finished teacher of this data (glyphs) under the runs folder, "
        f"only {taught.folder} (npz:my images.npz); add --data 'npz:my images.npz'"
    )
