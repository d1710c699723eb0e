"""Tiny ImageNet from its archive or its tree: the right pixels and labels, unpacked once, never half used."""

import hashlib
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from data.pictures import jpeg, laid_out, tiny_imagenet, zipped
from data.serving import serving
from PIL import Image

from snnkd.console import Console
from snnkd.data import load_data, mmap_cache
from snnkd.data.imageset import from_arrays
from snnkd.data.sets import tiny_imagenet as module
from snnkd.errors import FileError, RunError
from snnkd.files import from_os_error
from snnkd.schema.data import PhotoConfig

FILES = tiny_imagenet()
CONFIG = PhotoConfig(name="tiny-imagenet")
BIN, MARKER = "tiny-imagenet.bin", "tiny-imagenet.json"


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("SNNKD_DATA", str(tmp_path / "store"))
    for name, value in (("CLASSES", 3), ("TRAIN_IMAGES", 12), ("TEST_IMAGES", 6)):
        monkeypatch.setattr(module, name, value)
    return tmp_path / "store"


@pytest.fixture
def server(monkeypatch, root):
    with serving() as made:
        publish(monkeypatch, made, FILES)
        yield made


def publish(monkeypatch, server, files):
    content = zipped(files)
    server.files["/tiny-imagenet-200.zip"] = content
    known = {"size": len(content), "md5": None, "sha256": hashlib.sha256(content).hexdigest()}
    monkeypatch.setattr(
        module,
        "ARCHIVE",
        replace(module.ARCHIVE, url=f"{server.url}/tiny-imagenet-200.zip", mirrors=(), **known),
    )


def pixels(name: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(FILES[name])).convert("RGB"))


def load(**words):
    return load_data(CONFIG, Console(quiet=True), **words)


def expected():
    wnids = sorted(FILES["wnids.txt"].decode().split())
    train = [
        (f"train/{wnid}/images/{wnid}_{i}.JPEG", label) for label, wnid in enumerate(wnids) for i in range(4)
    ]
    test = [
        (f"val/images/{name}", wnids.index(wnid))
        for name, wnid, *_ in map(str.split, FILES["val/val_annotations.txt"].decode().splitlines())
    ]
    splits = {
        split: (np.stack([pixels(name) for name, _ in pairs]), np.array([label for _, label in pairs]))
        for split, pairs in (("train", train), ("test", test))
    }
    return from_arrays("tiny-imagenet", 3, splits)


def check(made):
    wanted = expected()
    assert made.train.images.equal(wanted.train.images)
    assert made.test.images.equal(wanted.test.images)
    assert made.train.labels.equal(wanted.train.labels)
    assert made.test.labels.equal(wanted.test.labels)
    assert made.sha256 == wanted.sha256, "as of the same pixels in an npz file"
    assert (made.classes, made.shape, made.mapped) == (3, (3, 64, 64), True)


def test_downloaded_unpacked_and_then_only_mapped(root, server, cli):
    done = cli("data", "tiny-imagenet", "--json")
    assert done.code == 0, done.err
    assert done.json["images"] == {"train": 12, "test": 6}
    assert "official validation images" in done.json["rule"]
    assert done.json["files"] == [str(root / BIN)]
    assert done.json["bytes"] == 18 * (3 * 64 * 64 + 8)
    check(load(fetch=None))
    before = (root / BIN).stat()
    again = cli("data", "tiny-imagenet", "--json")
    assert again.out == done.out
    assert "unpacking" in done.err
    assert "unpacking" not in again.err
    assert len(server.asked) == 1
    assert (root / BIN).stat() == before


def test_a_mirror_on_the_command_line(root, server, cli, monkeypatch):
    mirror = server.url
    monkeypatch.setattr(module, "ARCHIVE", replace(module.ARCHIVE, url="http://127.0.0.1:9/none.zip"))
    assert cli("data", "tiny-imagenet", "--mirror", mirror).code == 0
    check(load(fetch=None))


@pytest.mark.parametrize("given", ["archive", "folder with the archive", "tree", "folder with the tree"])
def test_a_copy_of_the_users(root, server, cli, tmp_path, given):
    here = tmp_path / "mine"
    tree = laid_out(FILES, here / "tiny-imagenet-200")
    packed = tmp_path / "packed" / "tiny-imagenet-200.zip"
    packed.parent.mkdir()
    packed.write_bytes(server.files["/tiny-imagenet-200.zip"])
    source = {
        "archive": packed,
        "folder with the archive": packed.parent,
        "tree": tree,
        "folder with the tree": here,
    }[given]
    done = cli("data", "tiny-imagenet", "--from", source)
    assert done.code == 0, done.err
    check(load(fetch=None))
    assert server.asked == []
    assert "tree" not in given or "whose checksum is unknown" in done.err


def test_a_copy_replaces_what_was_unpacked_from_elsewhere(root, server, cli, tmp_path):
    other = tiny_imagenet()
    tree = laid_out(other, tmp_path / "other" / "tiny-imagenet-200")
    assert cli("data", "tiny-imagenet", "--from", tree).code == 0
    assert load(fetch=None).sha256 != expected().sha256
    laid_out({"wnids.txt": b"broken", "train/x": b""}, root / "tiny-imagenet-200")
    packed = tmp_path / "tiny-imagenet-200.zip"
    packed.write_bytes(server.files["/tiny-imagenet-200.zip"])
    for words in ("unpacking 18 images", "nothing copied from"):
        taken = cli("data", "tiny-imagenet", "--from", packed)
        assert (taken.code, words in taken.err) == (0, True)
        check(load(fetch=None))
    packed.write_bytes(b"broken")
    assert cli("data", "tiny-imagenet", "--from", packed).code == 3


def test_teach_trains_on_it_and_check_says_whether_it_is_here(root, server, cli, monkeypatch):
    data = "data: {name: tiny-imagenet, val_fraction: 0.25, augment: []}"
    Path("r.yaml").write_text(
        f"stage: teach\n{data}\nmodel: {{name: resnet8, width: 2}}\ntrain: {{batch_size: 3}}\n"
    )
    stage = cli("check", "r.yaml", "--json").json["stages"][0]
    assert (stage["data_present"], stage["classes"], stage["train_images"]) == (False, 200, 75_000)
    assert server.asked == []
    # torch 2.15's oneDNN crashes in the backward pass of networks this narrow on images this large
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    taught = cli("teach", "r.yaml", "--epochs", 1)
    assert taught.code == 0, taught.err
    assert cli("check", "r.yaml", "--json").json["stages"][0]["train_images"] == 9
    result = json.loads((taught.folder / "result.json").read_text())
    assert (result["images"], result["data_sha256"]) == (6, expected().sha256)


def test_packed_but_not_unpacked_is_said_by_check(root, server, cli):
    root.mkdir()
    (root / "tiny-imagenet-200.zip").write_bytes(b"")
    Path("r.yaml").write_text("stage: teach\ndata: tiny-imagenet\nmodel: {name: resnet8, width: 2}\n")
    assert "is not unpacked yet" in cli("check", "r.yaml").err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"wnids.txt": None}, "not the published files"),
        ({"val/val_annotations.txt": None}, "not the published files"),
        ({"wnids.txt": b"\xff"}, "not the published files"),
        ({"val/images/val_3.JPEG": None}, "12 training, 5 validation images, 3 classes"),
        ({"train/n10000000/images/n10000000_0.JPEG": None}, ": 11 training"),
        ({"val/images/val_3.JPEG": b"no picture"}, "val/images/val_3.JPEG: not a readable picture"),
        (
            {"val/images/val_3.JPEG": FILES["val/images/val_3.JPEG"][:200]},
            "val/images/val_3.JPEG: not a readable picture",
        ),
        ({"val/images/val_3.JPEG": jpeg((32, 64))}, "32x64 pixels instead of 64x64"),
    ],
)
def test_what_is_not_as_published_is_named(root, server, monkeypatch, changes, said, cli):
    publish(
        monkeypatch,
        server,
        {name: content for name, content in {**FILES, **changes}.items() if content is not None},
    )
    refused = cli("data", "tiny-imagenet")
    assert refused.code == 3
    assert said in refused.complaint
    assert not (root / MARKER).exists()
    assert not (root / BIN).exists()


def damaged(raw: bytes, place: int) -> bytes:
    return raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]


@pytest.mark.parametrize("place", [0, 12288 * 3 + 5, 12288 * 18, 12288 * 18 + 8 * 17])
def test_changed_bytes_are_noticed_and_unpacked_again(root, server, place):
    load()
    path = root / BIN
    about = path.stat()
    path.write_bytes(damaged(path.read_bytes(), place))
    os.utime(
        path, ns=(about.st_atime_ns, about.st_mtime_ns)
    )  # its time of change is set back: the inode's cannot be
    with pytest.raises(FileError, match="not unpacked"):
        load(fetch=None)
    check(load())
    assert len(server.asked) == 1, "from the archive that is here"


@pytest.mark.parametrize("what", ["cut", "longer", "empty", "gone", "a folder"])
def test_another_length_is_noticed(root, server, what):
    load()
    path = root / BIN
    raw = path.read_bytes()
    path.unlink()
    if what == "a folder":
        path.mkdir()
        with pytest.raises(FileError, match=BIN):
            load()
        path.rmdir()
    elif what != "gone":
        path.write_bytes({"cut": raw[:-1], "longer": raw + b"x", "empty": b""}[what])
    check(load())


def test_a_damaged_marker_is_noticed_at_every_byte(root, server):
    load()
    marker = root / MARKER
    whole = marker.read_bytes()
    wanted = load(fetch=None).sha256
    for place in range(0, len(whole), 3):
        for spoilt in (damaged(whole, place), whole[:place]):
            marker.write_bytes(spoilt)
            made = mmap_cache.open_cache(root / BIN, "tiny-imagenet")
            assert made is None or made.sha256 == wanted
    marker.write_text("[" * 100_000)
    assert mmap_cache.open_cache(root / BIN, "tiny-imagenet") is None
    check(load())


def test_a_copied_folder_is_verified_once(root, server, tmp_path, monkeypatch):
    load()
    raw = (root / BIN).read_bytes()
    (root / BIN).unlink()
    (root / BIN).write_bytes(raw)
    read = []
    honest = mmap_cache._digest
    monkeypatch.setattr(mmap_cache, "_digest", lambda *given: read.append(1) or honest(*given))
    for _ in range(3):
        check(load(fetch=None))
    assert len(read) == 1


def test_struck_while_it_is_unpacked_nothing_half_is_used(root, server, monkeypatch):
    """A full disk at each write in turn."""
    load()
    for path in (BIN, MARKER):
        (root / path).unlink()
    honest = mmap_cache._write_images
    for split in ("train", "test"):

        def full(file, digest, name, *rest, struck=split):
            honest(file, digest, name, *rest)
            if name == struck:
                raise OSError(28, "No space left on device")

        monkeypatch.setattr(mmap_cache, "_write_images", full)
        with pytest.raises(RunError, match="the disk is full"):
            load()
        assert not [path for path in root.iterdir() if path.suffix in (".bin", ".tmp", ".json")]
    monkeypatch.setattr(mmap_cache, "_write_images", honest)
    check(load())
    assert isinstance(from_os_error(OSError(28, ""), "x"), RunError)
