"""`data.classes` and `data.train_per_class`: a part of a data set, in every run as in the data's own
description."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Cli, random_npz

from snnkd.console import Console
from snnkd.data import load_data
from snnkd.data.imageset import from_arrays, hold_out
from snnkd.data.split import Split
from snnkd.data.subset import take_subset
from snnkd.errors import UsageError
from snnkd.preflight import facts
from snnkd.recipe import resolve_pipeline
from snnkd.schema.data import GlyphsConfig, NpzConfig, SubsetConfig

LABELS = np.array([3, 0, 1, 0, 2, 0, 3, 1, 1, 0])


def numbered(mapped: bool = False, val: bool = False):
    """Image i is filled with i."""
    images = np.arange(10, dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(8, 1).repeat(8, 2).repeat(3, 3)
    splits = {
        "train": (images, LABELS),
        "test": (images[:6] + 100, LABELS[:6]),
        **({"val": (images[:3], LABELS[:3])} if val else {}),
    }
    data = from_arrays("some", 4, splits)
    return dataclasses.replace(data, mapped=mapped)


def shown(split) -> list[tuple[int, int]]:
    """The number that each image is filled with, and its label, in order."""
    return [
        (int(image[0, 0, 0]), int(label))
        for image, label in zip(split.take(slice(None)), split.labels, strict=True)
    ]


@pytest.mark.parametrize("mapped", [False, True])
def test_the_first_classes_and_the_first_images_of_each_in_the_datas_order(mapped):
    part = take_subset(numbered(mapped), SubsetConfig(name="some", classes=2, train_per_class=2))
    assert shown(part.train) == [(1, 0), (2, 1), (3, 0), (7, 1)]
    assert shown(part.test) == [(101, 0), (102, 1), (103, 0), (105, 0)]  # all that these classes have
    assert (part.classes, part.subset) == (2, {"classes": 2, "train_per_class": 2})
    assert (part.train.rows is not None) == mapped  # a view: nothing is copied


def test_images_of_all_classes_and_all_images_of_some():
    data = numbered(val=True)
    fewer = take_subset(data, SubsetConfig(name="some", train_per_class=1))
    assert shown(fewer.train) == [(0, 3), (1, 0), (2, 1), (4, 2)]
    assert (len(fewer.test), fewer.classes) == (6, 4)
    first = take_subset(data, SubsetConfig(name="some", classes=3))
    assert [label for _, label in shown(first.train)] == [0, 1, 0, 2, 0, 1, 1, 0]
    assert shown(first.val) == [(1, 0), (2, 1)]


def test_what_leaves_nothing_out_is_the_data_set_itself():
    data = numbered()
    assert take_subset(data, SubsetConfig(name="some")) is data
    assert take_subset(data, SubsetConfig(name="some", classes=4, train_per_class=4)) is data
    assert take_subset(data, GlyphsConfig(classes=2)) is data  # its own key: that many are drawn


def test_each_part_has_a_checksum_of_its_own():
    asked = [(None, None), (2, None), (3, None), (2, 2), (2, 1), (None, 1), (None, 2)]
    made = {
        take_subset(numbered(), SubsetConfig(name="some", classes=a, train_per_class=b)).sha256
        for a, b in asked
    }
    assert len(made) == len(asked)
    again = SubsetConfig(name="some", classes=2, train_per_class=2)
    assert take_subset(numbered(), again).sha256 == take_subset(numbered(mapped=True), again).sha256


def test_the_same_images_have_the_same_checksum():
    """However they were asked for: class 0 has four training images, the others fewer."""
    asked = [(2, None), (2, 4), (2, 500)]
    assert (
        len(
            {
                take_subset(numbered(), SubsetConfig(name="some", classes=a, train_per_class=b)).sha256
                for a, b in asked
            }
        )
        == 1
    )
    assert take_subset(numbered(), SubsetConfig(name="some", train_per_class=4)).subset is None


def test_what_cannot_be_taken_is_refused():
    with pytest.raises(UsageError, match=r"data\.classes: 5 is above the 4 classes of some"):
        take_subset(numbered(), SubsetConfig(name="some", classes=5))
    late = numbered(val=True)
    late = dataclasses.replace(late, val=Split(late.val.images[:1], late.val.labels[:1]))  # of class 3
    with pytest.raises(UsageError, match="the first 2 classes of some have no validation image"):
        take_subset(late, SubsetConfig(name="some", classes=2))
    images = np.zeros((4, 8, 8), np.uint8)
    data = from_arrays("late", 4, {"train": (images, np.arange(4)), "test": (images[:2], np.array([2, 3]))})
    with pytest.raises(UsageError, match=r"data\.classes: the first 2 classes of late have no test image"):
        take_subset(data, SubsetConfig(name="late", classes=2))


def test_validation_images_are_held_out_of_the_part():
    held = hold_out(take_subset(numbered(), SubsetConfig(name="some", classes=2)), 0.25)
    assert (len(held.train), len(held.val)) == (5, 2)
    assert set(held.train.labels.tolist()) | set(held.val.labels.tolist()) == {0, 1}
    assert not {image for image, _ in shown(held.train)} & {image for image, _ in shown(held.val)}


def test_statistics_and_batches_are_those_of_the_part():
    config = NpzConfig(name=random_npz("x.npz", 4, channels=(3,)), classes=2, train_per_class=10)
    data = load_data(config, Console(quiet=True))
    own = from_arrays("same", 2, {name: _arrays(getattr(data, name)) for name in ("train", "test")})
    assert data.channel_statistics() == own.channel_statistics()
    assert torch.equal(data.train.take(slice(None)), own.train.images)


def _arrays(split):
    return split.take(slice(None)).permute(0, 2, 3, 1).numpy(), split.labels.numpy()


def test_a_run_of_a_part(cli: Cli):
    """The teacher of the whole is not the teacher of the part; the result says what part it is; export and
    eval find it again."""
    words = ["--data", random_npz("x.npz", 4), "--epochs", 1, "--batch-size", 10, "--set", "model.width=4"]
    weak = "--allow-weak-teacher"
    part = ["--set", "data.classes=2", "--set", "data.train_per_class=20"]
    whole = cli("teach", *words)
    refused = cli("distill", *words, *part, "--loss", "kl", "--T", 2, weak)
    assert refused.code == 3
    assert "no finished teacher of this data" in refused.complaint
    teacher = cli("teach", *words, *part)
    assert teacher.folder != whole.folder
    student = cli("distill", *words, *part, "--loss", "kl", "--T", 2, weak)
    assert student.code == 0, student.err
    result = json.loads((student.folder / "result.json").read_text())
    assert result["part"] == {"classes": 2, "train_per_class": 20}
    assert "part" not in json.loads((whole.folder / "result.json").read_text())
    assert result["images"] == 26  # the 50 test images have labels 0, 1, 2, 3, 0, ...
    assert result["date"][:2] == "20"
    label = f"{words[1]} [2 classes, 20 training images each]"
    assert f"{student.folder}: {label} test, 26 images" in cli("eval", student.folder).out
    assert f"name     {label}" in cli("data", words[1], *part).out
    again = cli("eval", student.folder, "--json")
    assert again.json["curve"] == result["curve"]
    assert cli("export", student.folder).code == 0
    card = (student.folder / "export" / "safetensors" / "README.md").read_text()
    assert card.count(label) == 2
    assert f"{label} ({result['data_sha256'][:12]})" in " ".join(cli("compare").out.split())
    assert json.loads(cli("compare", "--json").out)["tables"][0]["part"] == result["part"]
    described = cli("data", words[1], *part, "--json").json
    assert (described["classes"], described["images"]) == (2, {"train": 40, "test": 26})
    assert described["sha256"] == result["data_sha256"]


def test_wrong_values_are_refused_at_once(cli: Cli):
    name = random_npz("x.npz", 4)
    for setting, said in (
        ("data.classes=1", "at least 2"),
        ("data.classes=9", "is above the 4 classes"),
        ("data.train_per_class=0", "at least 1"),
        ("data.clases=2", "data.classes"),
    ):
        refused = cli("teach", "--data", name, "--epochs", 1, "--set", setting)
        assert refused.code == 2
        assert said in refused.complaint
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("check", "cifar100-resnet20-small", "--set", "data.classes=101"),
        ("bench", "--data", "cifar10", "--set", "data.classes=11"),
        ("run", "cifar10-resnet19", "--task", "0", "--set", "data.classes=11"),
        ("data", "cifar100", "--set", "data.classes=101"),
    ],
)
def test_more_classes_than_are_published_are_refused_before_any_file_is_sought(
    cli: Cli, words: tuple[str, ...]
):
    refused = cli(*words)
    assert refused.code == 2
    assert "data.classes: 1" in refused.complaint
    assert "is too large; cifar10" in refused.complaint


def test_check_counts_the_part_of_data_that_are_not_here(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SNNKD_DATA", str(tmp_path / "none"))
    Path("r.yaml").write_text(
        "{stage: teach, data: {name: cifar100, classes: 20, train_per_class: 100}, model: resnet20}"
    )
    (found,) = facts(resolve_pipeline("r.yaml"))
    assert (found["classes"], found["train_images"], found["data_present"]) == (20, 2000, False)
