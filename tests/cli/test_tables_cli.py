"""A cell of a paper's table, and the table: the shipped recipes through the command line, on images of the
right shape."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Cli

from snnkd.data.imageset import ImageSet, from_arrays
from snnkd.data.sets import cifar

FEW = [
    "train.epochs=1",
    "train.batch_size=4",
    "execution.allow_weak_teacher=true",
    "sweep.distill.model.T=[2, 4]",
    "sweep.seed=[0]",
]


@pytest.fixture(autouse=True)
def _noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the real CIFAR-100, four images of noise of its shape and its classes."""

    def load(*_: object) -> ImageSet:
        rng = np.random.default_rng(0)
        images, labels = rng.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8), np.arange(4)
        return from_arrays("cifar100", 100, {"train": (images, labels), "test": (images, labels)})

    monkeypatch.setattr(cifar, "load", load)


@pytest.mark.nightly  # full-width networks; rows by synthetic results: compare/test_paper_results
def test_tasks_and_the_comparison_give_the_papers_table(cli: Cli) -> None:
    settings = [word for setting in FEW for word in ("--set", setting)]
    name = "cifar100-resnet19-hta-kl-short"
    listed = cli("run", name, *settings, "--tasks").out.splitlines()
    assert len(listed) == 6
    for k in (0, 1, 3):
        done = cli("run", name, *settings, "--task", k)
        assert done.code == 0, done.err
    runs = sorted(path.name for path in Path("runs").iterdir())
    assert [name.split("-")[0] for name in runs].count("teach") == 1, "the tasks share their teacher"
    compared = cli("compare", "--baseline", "hta-kl")
    assert compared.code == 0, compared.err
    for word in (
        "paper*",
        "80.51",
        "81.03",
        "mostly at the best test epoch",
        "T = 2",
        "T = 4",
        "head=strict",
        "MEOM 81.82",
    ):
        assert word in " ".join(compared.out.split())
    assert max(map(len, compared.out.splitlines())) <= 100
    (table,) = json.loads(cli("compare", "--baseline", "hta-kl", "--json").out)["tables"]
    told = {
        (column["T"], row["label"]): row["published"]["top1"]
        for column in table["columns"]
        for row in column["rows"]
    }
    assert told == {(2, "hta-kl"): 80.51, (2, "hta-kl head=strict"): 80.51, (4, "hta-kl"): 81.03}


def test_the_small_scale_recipe_is_of_a_part_and_beside_no_published_number(cli: Cli) -> None:
    settings = [
        "train.batch_size=4",
        "teach.train.epochs=1",
        "distill.train.epochs=1",
        "execution.allow_weak_teacher=true",
    ]
    done = cli(
        "run",
        "cifar100-resnet20-small",
        *(word for setting in settings for word in ("--set", setting)),
        "--task",
        4,
    )
    assert done.code == 0, done.err
    student = json.loads((Path(done.out.splitlines()[-1]) / "result.json").read_text())
    assert student["part"] == {"classes": 20, "train_per_class": None}  # none has as many as a hundred here
    assert student["loss"]["name"] == "hta-kl"
