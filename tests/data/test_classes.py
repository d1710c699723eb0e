"""Class names: read from folders, files and functions, cut with a subset, and matched by name."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from data.pictures import picture_folder

from snnkd.console import Console
from snnkd.data import load_data
from snnkd.data.classes import match_classes
from snnkd.data.imageset import ImageSet, from_arrays
from snnkd.errors import FileError
from snnkd.schema.data import ImageFolderConfig, NpzConfig

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 8, 8), dtype=np.uint8)
LABELS = np.arange(30) % 3
ARRAYS = {"train_images": IMAGES, "train_labels": LABELS, "test_images": IMAGES, "test_labels": LABELS}
QUIET = Console(quiet=True)


def named(*names: str) -> ImageSet:
    split = (IMAGES, LABELS)
    data = from_arrays("mine", 3, {"train": split, "test": split, "val": split})
    return dataclasses.replace(data, class_names=names or None)


def of_npz(names: object = None, **settings: int) -> ImageSet:
    np.savez("some.npz", **ARRAYS, **({} if names is None else {"class_names": names}))
    return load_data(NpzConfig(name="npz:some.npz", **settings), QUIET)


def test_labels_follow_their_names(capfd):
    matched = match_classes(named("a", "b", "c"), {"class_names": ["c", "a", "b"]}, "the run", Console())
    assert matched.class_names == ("c", "a", "b")
    for split in (matched.train, matched.test, matched.val):
        assert split.labels[:3].tolist() == [1, 2, 0]
    assert capfd.readouterr().err == "classes of mine are in another order than in the run: matched by name\n"


def test_equal_names_change_nothing(capfd):
    data = named("a", "b", "c")
    assert match_classes(data, {"class_names": ["a", "b", "c"]}, "the run", Console()) is data
    assert match_classes(named(), {}, "the run", Console()).class_names is None
    assert capfd.readouterr().err == ""


def test_other_names_are_refused():
    with pytest.raises(FileError, match="mine: class 'x' is not in the run, which has 'b'; rename it"):
        match_classes(named("a", "x", "c"), {"class_names": ["a", "b", "c"]}, "the run", QUIET)


@pytest.mark.parametrize(
    ("own", "names", "warning"),
    [
        ((), ["a", "b", "c"], "warning: mine has no class names; matched with the run by number"),
        (("a", "b", "c"), None, "warning: the run has no class names; matched with mine by number"),
    ],
)
def test_a_side_without_names_is_warned_of(capfd, own, names, warning):
    data = named(*own)
    assert match_classes(data, {"class_names": names}, "the run", Console()) is data
    assert capfd.readouterr().err == f"{warning}\n"


def test_published_names_count_where_they_are_the_same(capfd):
    names = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag"]
    names.append("Ankle boot")  # the order of Fashion-MNIST; a folder's is the alphabet's
    labels = np.arange(30) % 10
    own = from_arrays("fashion-mnist", 10, {"train": (IMAGES, labels), "test": (IMAGES, labels)})
    folder = dataclasses.replace(own, name="folder", class_names=tuple(sorted(names)))
    of_run = match_classes(folder, {"data": {"name": "fashion-mnist"}, "classes": 10}, "a run", Console())
    assert of_run.train.labels[:2].tolist() == [names.index("Ankle boot"), names.index("Bag")]
    of_data = match_classes(own, {"class_names": sorted(names)}, "a run", Console())
    assert of_data.test.labels[:2].tolist() == [sorted(names).index("T-shirt/top"), 9]
    assert "warning" not in capfd.readouterr().err
    other = {"data": {"name": "cifar10"}, "classes": 10}
    assert match_classes(folder, other, "a run", Console()) is folder
    assert "a run has no class names; matched with folder by number" in capfd.readouterr().err


def test_names_of_a_folder_and_of_its_subset(monkeypatch, tmp_path):
    monkeypatch.setenv("SNNKD_DATA", str(tmp_path / "store"))
    picture_folder(Path("mine"))
    config = ImageFolderConfig(name="imagefolder:mine", size=8)
    assert load_data(config, QUIET).class_names == ("class0", "class1", "class2")
    assert load_data(dataclasses.replace(config, classes=2), QUIET).class_names == ("class0", "class1")


def test_names_of_an_npz_file():
    plain, data = of_npz(), of_npz(["ant", "bee", "cat"])
    assert (plain.class_names, data.class_names) == (None, ("ant", "bee", "cat"))
    assert plain.sha256 == data.sha256
    assert of_npz(["ant", "bee", "cat"], classes=2).class_names == ("ant", "bee")


def test_more_names_than_labels_are_classes_without_images():
    assert of_npz(["ant", "bee", "cat", "dog"]).classes == 4


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["ant", "bee"], "class_names has 2 names, train_labels go to 2"),
        (["ant", "bee", "bee"], "they must be different strings"),
        ([1, 2, 3], "they must be different strings"),
        ([["ant", "bee", "cat"]], "they must be different strings"),
    ],
)
def test_impossible_names(names, message):
    with pytest.raises(FileError, match=message):
        of_npz(names)


def test_names_of_a_function(cli):
    np.savez("arrays.npz", **ARRAYS)
    Path("pets.py").write_text(
        "import numpy as np\n"
        "def load():\n    return {**np.load('arrays.npz'), 'class_names': ['ant', 'bee', 'cat']}\n"
    )
    assert cli("data", "pets:load", "--json").json["class_names"] == ["ant", "bee", "cat"]
