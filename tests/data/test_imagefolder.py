"""A folder of pictures: torchvision's pixels and labels, decoded once, in bounded memory; trouble names the
file."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import finish, start
from data.pictures import jpeg, laid_out, picture_folder
from PIL import Image
from torchvision import datasets, transforms

from snnkd import data
from snnkd.console import Console
from snnkd.data import DEFAULT_FETCH, FetchOptions, load_data
from snnkd.data.imageset import hold_out
from snnkd.data.loader import TrainBatches, measure_batches
from snnkd.errors import FileError
from snnkd.schema.data import GlyphsConfig, ImageFolderConfig


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("SNNKD_DATA", str(tmp_path / "store"))
    return tmp_path / "store"


def load(
    fetch: FetchOptions | None = DEFAULT_FETCH,
    path: object = "mine",
    console: Console | None = None,
    **words: object,
):
    return load_data(
        ImageFolderConfig(name=f"imagefolder:{path}", **words), console or Console(quiet=True), fetch=fetch
    )


def torchvisions(folder: Path, size: int, channels: int = 3) -> tuple[np.ndarray, list[int]]:
    steps = [transforms.Resize(size), transforms.CenterCrop(size), transforms.PILToTensor()]
    grey = [transforms.Grayscale()] if channels == 1 else []
    made = datasets.ImageFolder(folder, transforms.Compose([*grey, *steps]))
    return torch.stack([image for image, _ in made]).numpy(), made.targets


@pytest.mark.parametrize(("size", "channels"), [(16, 3), (64, 3), (16, 1)])
def test_pixels_and_labels_are_torchvisions(size, channels):
    root = picture_folder(Path("mine"))
    further = {
        "train/class1/deep/er.PNG": jpeg((33, 80)),
        "train/class0/a.jpeg": jpeg((20, 90), "L"),
        "train/class0/b.txt": b"",
    }
    laid_out(further, root)
    made = load(size=size, channels=channels)
    assert (made.classes, made.shape) == (3, (channels, size, size))
    for split, held in (("train", made.train), ("test", made.test)):
        images, labels = torchvisions(root / split, size, channels)
        assert np.array_equal(held.images.numpy(), images)
        assert held.labels.tolist() == labels


def test_val_takes_the_place_of_test():
    root = picture_folder(Path("mine"))
    (root / "test").rename(root / "val")
    assert len(load().test) == 6


def test_val_beside_test_is_the_validation_split(cli):
    root = picture_folder(Path("mine"))
    laid_out({f"val/class{label}/a.jpg": jpeg() for label in range(3)}, root)
    data = load(size=16)
    assert (len(data.train), len(data.test), len(data.val)) == (12, 6, 3)
    images, labels = torchvisions(root / "val", 16)
    assert np.array_equal(data.val.images.numpy(), images)
    assert data.val.labels.tolist() == labels
    words = ["--data", "imagefolder:mine", "--set", "data.size=16", "--model", "resnet8", "--batch-size", 4]
    best = cli("teach", *words, "--epochs", 1, "--set", "train.select=best", "--json")
    assert best.code == 0, best.err
    assert best.json["selection"]["rule"] == "best"
    assert cli("eval", best.json["run"], "--split", "val", "--json").json["images"] == 3
    refused = cli("teach", *words, "--set", "data.val_fraction=0.5")
    assert (refused.code, "has its own validation images" in refused.complaint) == (2, True)


def test_decoded_once_and_again_when_a_picture_changes(store, capfd):
    root = picture_folder(Path("mine"))
    first = load(console=Console(), size=16)
    assert "decoding 18 pictures" in capfd.readouterr().err
    assert load(console=Console(), size=16).sha256 == first.sha256
    assert capfd.readouterr().err == ""
    assert [path.name for path in store.glob("*.bin")] == [first.files[0].name]
    picture = root / "train/class1/00002.jpg"
    raw = picture.read_bytes()
    picture.write_bytes(raw + b"\0")  # the same pixels
    assert load(size=16).sha256 == first.sha256
    picture.write_bytes(raw + b"\1")  # of the same size
    os.utime(picture, (1, 1))
    load(size=16)
    assert len(list(store.glob("*.bin"))) == 3
    (root / "train/class1/00002.jpg").unlink()
    assert len(load(size=16).train) == 11
    assert load(size=16).sha256 != first.sha256
    assert len(list(store.glob("*.bin"))) == 4


def test_check_does_not_decode_and_knows_what_it_will_be(store, cli):
    picture_folder(Path("mine"))
    data = "data: {name: 'imagefolder:mine', size: 16}"
    Path("r.yaml").write_text(
        f"stage: teach\n{data}\nmodel: {{name: resnet8, width: 2}}\ntrain: {{batch_size: 4}}\n"
    )
    checked = cli("check", "r.yaml", "--json")
    stage = checked.json["stages"][0]
    assert (stage["data_present"], stage["classes"], stage["train_images"]) == (False, 3, 12)
    assert "mine: 18 pictures, not decoded yet" in stage["missing"]
    assert not store.exists()
    described = cli("data", "imagefolder:mine", "--set", "data.size=16", "--json")
    assert described.code == 0, described.err
    assert (described.json["shape"], described.json["images"]) == ([3, 16, 16], {"train": 12, "test": 6})
    assert cli("check", "r.yaml", "--json").json["stages"][0]["data_present"]
    taught = cli("teach", "r.yaml", "--epochs", 1)
    assert taught.code == 0, taught.err


EXTENSIONS = ".jpg, .jpeg, .png"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda root: (root / "train").rename(root / "trained"),
            "mine: no folder train/ beside test/; add it, or rename test/ if it is a class",
        ),
        (
            lambda root: (root / "train").rename(root / "valid"),
            "mine: no folder train/ beside test/; add it, or rename test/ if it is a class",
        ),
        (
            lambda root: (root / "test").rename(root / "tests"),
            "mine: no folder test/ beside train/; add it, or rename train/ if it is a class",
        ),
        (
            lambda root: [p.unlink() for p in root.glob("train/class[12]/*")],
            "mine/train: 1 folder with pictures; at least 2 classes are needed",
        ),
        (
            lambda root: [p.unlink() for p in root.glob("train/class1/*")],
            "mine/test: class 'class1' is not in mine/train",
        ),
        (
            lambda root: [p.unlink() for p in root.glob("test/*/*")],
            f"mine/test: contains no picture ({EXTENSIONS}",
        ),
        (lambda root: (root / "val/class0").mkdir(parents=True), "mine/val: contains no picture"),
        (
            lambda root: laid_out({"val/other/a.jpg": jpeg()}, root),
            "mine/val: class 'other' is not in mine/train",
        ),
        (
            lambda root: (root / "test/class1").rename(root / "test/other"),
            "mine/test: class 'other' is not in mine/train",
        ),
        (
            lambda root: [(root / "train" / n).rename(root / n) for n in ("class1", "class2")],
            "mine/train: 1 folder with pictures",
        ),
        (
            lambda root: (root / "train/class1/00002.jpg").write_bytes(b"text"),
            "mine/train/class1/00002.jpg: not a readable picture",
        ),
        (
            lambda root: (root / "test/class2/00001.jpg").write_bytes(b""),
            "mine/test/class2/00001.jpg: not a readable picture",
        ),
        (
            lambda root: (root / "test/class2/00001.jpg").write_bytes(jpeg()[:300]),
            "mine/test/class2/00001.jpg: not a readable picture",
        ),
        (
            lambda root: (root / "train/class0/x.jpg").symlink_to("nowhere"),
            "mine/train/class0/x.jpg: no such file or directory",
        ),
        (lambda root: (root / "train/class0/x.jpg").mkdir(), ""),
        (lambda root: root.rename("elsewhere"), "mine: no such folder"),
        (lambda root: (root / "Test").mkdir(), "mine: Test/ and test/ are one split; rename one"),
    ],
)
def test_what_is_wrong_with_a_folder_is_named(store, cli, change, said):
    change(picture_folder(Path("mine")))
    ended = cli("data", "imagefolder:mine", "--set", "data.size=16")
    assert ended.code == (3 if said else 0), ended.err
    if said:
        assert said in ended.complaint
        assert not list(store.glob("*.bin")) + list(store.glob("*.json")) + list(store.glob("*.tmp"))


def test_what_killed_decoding_left_is_removed_by_any_use_of_data(store, monkeypatch):
    store.mkdir()
    left = store / ".imagefolder-other-64-abcdefabcdef.bin.abcd1234.tmp"
    glyphs = GlyphsConfig(classes=2, train_images=4, test_images=4)
    for fetch, cleared in ((None, False), (DEFAULT_FETCH, True)):
        left.write_bytes(b"part")
        load_data(glyphs, Console(quiet=True), fetch=fetch)
        assert not left.exists() if cleared else left.exists(), "`snnkd check` changes nothing"
    left.write_bytes(b"part")
    monkeypatch.setattr(data, "local_locks", lambda folder: "lustre, localflock")
    load_data(glyphs, Console(quiet=True))
    assert left.exists(), "another machine may be decoding"


def test_hidden_and_system_files_and_empty_classes_are_left_out(capfd):
    root = picture_folder(Path("mine"))
    whole = load(size=16).sha256
    for name in (
        "train/.ipynb_checkpoints/a.jpg",
        "train/class0/.ipynb_checkpoints/a.jpg",
        "train/class0/._00000.jpg",
        "train/class1/@eaDir/a.jpg",
        "train/class1/Thumbs.db",
        "test/__MACOSX/class0/a.jpg",
        "train/class2/a.heic",
        "train/class2/notes",
        "train/loose.jpg",
        "train/.hidden.jpg",
    ):
        laid_out({name: b"no picture"}, root)
    (root / "train/later").mkdir()
    (root / "test/later").mkdir()
    capfd.readouterr()
    data = load(console=Console(), size=16)
    assert (data.sha256, data.class_names) == (whole, ("class0", "class1", "class2"))
    left_out = "1 .heic file, 6 hidden or system files, 1 other file, 1 top-level picture"
    assert f"mine: left out {left_out}, 1 empty class (later)\n" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("train", "test", "val"),
    [("Train", "TEST", "Valid"), ("training", "testing", "validation"), ("train", "valid", None)],
)
def test_other_names_of_the_splits(train, test, val):
    root = picture_folder(Path("mine"))
    for old, new in (("train", train), ("test", test)):
        (root / old).rename(root / f"{new}.tmp")
        (root / f"{new}.tmp").rename(root / new)
    if val:
        laid_out({f"{val}/class0/a.jpg": jpeg()}, root)
    data = load(size=16)
    assert (len(data.train), len(data.test), data.val and len(data.val)) == (12, 6, 1 if val else None)


def flat_folder(path: str, each: int = 10) -> Path:
    files = {f"class{label}/{i}.jpg": jpeg((20, 20)) for label in range(3) for i in range(each)}
    return laid_out(files, Path(path))


def test_a_folder_without_splits_is_split_by_class(cli):
    flat_folder("mine")
    data, other = load(size=16), load(size=16, split_seed=1)
    for split, count in ((data.train, 8), (data.test, 2)):
        assert torch.bincount(split.labels).tolist() == [count] * 3
    images = {image.numpy().tobytes() for split in (data.train, data.test) for image in split.images}
    assert len(images) == 30, "no picture is in both splits"
    assert load(size=16).sha256 == data.sha256 != other.sha256
    assert torch.bincount(load(size=16, test_fraction=0.5).test.labels).tolist() == [5] * 3
    words = ["--data", "imagefolder:mine", "--set", "data.size=16", "--model", "resnet8", "--batch-size", 4]
    trained = cli("teach", *words, "--set", "model.width=2", "--epochs", 1, "--json")
    rule = "snnkd's own split, 80/20 of each class, seed 0; the folder has no train/ and test/"
    assert trained.json["data_split"] == rule
    assert f"mine: {rule}\n" in trained.err


def test_a_class_of_one_picture_is_trained_on(capfd):
    root = flat_folder("mine")
    laid_out({"single/a.jpg": jpeg()}, root)
    data = load(console=Console(), size=16)
    assert torch.bincount(data.train.labels).tolist() == [8, 8, 8, 1]
    assert "1 of 4 classes have no test image (single)" in capfd.readouterr().err


def test_a_fraction_beside_test_images_is_refused(cli):
    picture_folder(Path("mine"))
    refused = cli("data", "imagefolder:mine", "--set", "data.test_fraction=0.3")
    assert (refused.code, "data.test_fraction: 0.3, but mine has test images" in refused.complaint) == (
        2,
        True,
    )


def test_gif_pictures_are_read():
    root = picture_folder(Path("mine"))
    Image.fromarray(np.full((20, 20), 77, np.uint8)).save(root / "train/class0/a.gif")
    assert (load(size=16).train.images == 77).flatten(1).all(1).sum() == 1


def test_folders_behind_links_are_read_once(capfd):
    root = picture_folder(Path("mine"))
    (root / "train/class0/loop").symlink_to("../class0")
    (root / "train/class0/above").symlink_to("..")  # with the pictures of all classes
    (root / "train/class1/root").symlink_to(root.absolute())
    (root / "train/class1/other").symlink_to("../class0")  # else its pictures are of both classes
    (root / "elsewhere").mkdir()
    (root / "train/class2/more").symlink_to((root / "elsewhere").absolute())
    picture = next(root.glob("train/class2/*.jpg"))
    picture.rename(root / "elsewhere" / picture.name)
    assert len(load(size=16, console=Console()).train) == 12
    assert "left out 4 duplicate folder links" in capfd.readouterr().err


def test_an_unreadable_folder_is_refused(monkeypatch):
    root = picture_folder(Path("mine"))
    laid_out({"train/class0/deeper/a.jpg": jpeg()}, root)
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("deeper"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(FileError, match="mine/train/class0/deeper: permission denied"):
        load(size=16)


def test_a_class_without_a_test_picture_is_noted(capfd):
    root = picture_folder(Path("mine"))
    for path in root.glob("test/class1/*"):
        path.unlink()
    (root / "test/class1").rmdir()
    made = load(console=Console(), size=16)
    assert "1 of 3 classes have no test image (class1)" in capfd.readouterr().err
    assert set(made.test.labels.tolist()) == {0, 2}


def test_a_folder_that_changes_meanwhile_is_refused(monkeypatch):
    root = picture_folder(Path("mine"))
    from snnkd.data.sets import imagefolder

    honest = imagefolder.write_cache

    def changing(*given, **named):
        honest(*given, **named)
        (root / "train/class0/new.jpg").write_bytes(jpeg())

    monkeypatch.setattr(imagefolder, "write_cache", changing)
    with pytest.raises(FileError, match="mine: changed while it was read"):
        load(size=16)
    monkeypatch.setattr(imagefolder, "write_cache", honest)
    assert len(load(size=16).train) == 13


def test_from_and_mirror_are_refused(cli):
    picture_folder(Path("mine"))
    for option, value in (("--from", "x"), ("--mirror", "http://x/")):
        refused = cli("data", "imagefolder:mine", option, value)
        assert refused.code == 2
        assert f"{option} {value}" in refused.complaint
    assert cli("data", "glyphs", "--from", "x", "--mirror", "http://x").code == 2
    assert cli("data", "imagefolder:mine", "--set", "train.lr=1").code == 2
    assert cli("data", "imagefolder:mine", "--set", "data.sise=16").code == 2
    assert "imagefolder:PATH" in cli("data", "imagefolder").complaint


def test_a_mapped_set_gives_what_one_in_memory_gives():
    """Statistics, hold-out, batches and measuring, which read it in blocks or by rows."""
    picture_folder(Path("mine"), train=9)
    mapped = load(size=16)
    from snnkd.data.imageset import from_arrays

    splits = {"train": mapped.train, "test": mapped.test}
    pairs = {
        name: (split.images.permute(0, 2, 3, 1).numpy().copy(), split.labels.numpy())
        for name, split in splits.items()
    }
    held = from_arrays(mapped.name, mapped.classes, pairs)
    assert mapped.sha256 == held.sha256
    assert mapped.channel_statistics() == held.channel_statistics()
    mapped, held = hold_out(mapped, 0.25), hold_out(held, 0.25)
    assert mapped.channel_statistics() == held.channel_statistics()
    assert mapped.val.rows is not None  # a view: nothing is copied
    assert held.val.rows is None
    cpu = torch.device("cpu")
    for ours, theirs in ((mapped.train, held.train), (mapped.val, held.val)):
        assert len(ours) == len(theirs)
        for one, other in zip(measure_batches(ours, 4, cpu), measure_batches(theirs, 4, cpu), strict=True):
            assert one[0].equal(other[0])
            assert one[1].equal(other[1])
    one, other = (TrainBatches(data.train, 5, ("crop", "flip"), 0, cpu) for data in (mapped, held))
    for step in range(one.steps):
        assert one.batch(1, step)[0].equal(other.batch(1, step)[0])
        assert one.batch(1, step)[1].equal(other.batch(1, step)[1])


PEAK = """
import resource, sys
from snnkd.data import load_data
from snnkd.schema.data import GlyphsConfig, ImageFolderConfig
from snnkd.console import Console
from snnkd.data.sets import imagefolder  # its imports count for both
import torchvision.transforms.functional
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
data = load_data(ImageFolderConfig(name="imagefolder:" + sys.argv[1], size=128), Console(quiet=True))
print(data.files[0].stat().st_size, 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


@pytest.mark.nightly  # decodes 8 s of pictures
def test_decoding_takes_a_bounded_part_of_the_memory():
    """2,000 pictures of 48 KB, 98 MB in all, decoded within a fraction of that; links stand for the files."""
    root = picture_folder(Path("mine"), classes=2, train=1, test=1, size=(128, 128))
    for label in range(2):
        first = root / f"train/class{label}/00000.jpg"
        for i in range(1, 1000):
            os.link(first, first.with_name(f"{i:05}.jpg"))
    made = subprocess.run([sys.executable, "-c", PEAK, root], capture_output=True, text=True, check=True)
    size, grown = map(int, made.stdout.split())
    assert size > 98_000_000
    assert grown < size / 2


def test_decoding_removes_what_a_killed_decoding_left(store, cli):
    picture_folder(Path("mine"), classes=2, train=3, test=1)
    store.mkdir(parents=True, exist_ok=True)
    left = store / ".imagefolder-0123.bin.abcd1234.tmp"
    left.write_bytes(b"part")
    assert cli("data", "imagefolder:mine", "--set", "data.size=16").code == 0
    assert list(store.glob("*.bin"))
    assert not left.exists()


@pytest.mark.nightly  # at chosen operations: faults/test_data_faults
def test_killed_while_decoding_it_begins_again(store):
    root = picture_folder(Path("mine"), classes=2, train=1, test=1, size=(1600, 1200))
    for i in range(1, 60):
        os.link(root / "train/class0/00000.jpg", root / f"train/class0/{i:05}.jpg")
    words = ["data", "imagefolder:mine", "--set", "data.size=16", "--json"]
    first = start(*words)
    while not store.exists() or not list(store.glob(".*.tmp")):
        assert first.poll() is None, first.stderr.read()
        time.sleep(0.01)
    first.kill()
    finish(first)
    assert not list(store.glob("*.bin"))
    done = finish(start(*words))
    assert done.code == 0, done.err
    assert done.json["images"] == {"train": 61, "test": 2}
    assert not list(store.glob(".*.tmp"))
