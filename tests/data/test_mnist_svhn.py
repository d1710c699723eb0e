"""MNIST, Fashion-MNIST and SVHN through torchvision's classes: fetched, verified, grey where they are
grey."""

import gzip
import hashlib
import os
import re
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from data.serving import serving
from scipy.io import savemat
from torchvision import datasets

from snnkd.catalog.data import DATA
from snnkd.console import Console
from snnkd.data import load_data
from snnkd.data.sets import cifar, mnist_svhn, tiny_imagenet
from snnkd.errors import FileError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (10, 28, 28), dtype=np.uint8)
LABELS = RNG.integers(0, 10, 10).astype(np.uint8)
KINDS = {"mnist": datasets.MNIST, "fashion-mnist": datasets.FashionMNIST}


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


RAW = {
    "train-images-idx3-ubyte": idx(PIXELS[:6]),
    "train-labels-idx1-ubyte": idx(LABELS[:6]),
    "t10k-images-idx3-ubyte": idx(PIXELS[6:]),
    "t10k-labels-idx1-ubyte": idx(LABELS[6:]),
}
PACKED = {f"{name}.gz": gzip.compress(raw, mtime=0) for name, raw in RAW.items()}


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("SNNKD_DATA", str(tmp_path / "store"))
    md5s = {name: hashlib.md5(raw).hexdigest() for name, raw in RAW.items()}
    monkeypatch.setattr(mnist_svhn, "UNPACKED_MD5", dict.fromkeys(KINDS, md5s))
    return tmp_path / "store"


@pytest.fixture
def server(monkeypatch, root):
    with serving() as made:
        for kind in KINDS.values():
            monkeypatch.setattr(kind, "mirrors", [f"{made.url}/gone/", f"{made.url}/"])
            monkeypatch.setattr(
                kind, "resources", [(name, hashlib.md5(raw).hexdigest()) for name, raw in PACKED.items()]
            )
        made.files.update({f"/{name}": raw for name, raw in PACKED.items()})
        yield made


def load(name: str, **words):
    return load_data(DATA[name].options(name=name), Console(quiet=True), **words)


def check(made) -> None:
    assert (made.shape, made.classes, made.val) == ((1, 28, 28), 10, None)
    assert np.array_equal(made.train.images[:, 0].numpy(), PIXELS[:6])
    assert np.array_equal(made.test.images[:, 0].numpy(), PIXELS[6:])
    assert made.train.labels.tolist() == LABELS[:6].tolist()
    assert made.test.labels.tolist() == LABELS[6:].tolist()


@pytest.mark.parametrize("name", KINDS)
def test_fetched_once_from_the_address_that_has_it(name, root, server, cli):
    done = cli("data", name, "--json")
    assert done.code == 0, done.err
    assert done.json["shape"] == [1, 28, 28]
    assert done.json["images"] == {"train": 6, "test": 4}
    assert done.json["bytes"] == sum(map(len, RAW.values()))
    assert done.json["licence"] == ("MIT" if name == "fashion-mnist" else None)
    check(load(name, fetch=None))
    assert len(server.asked) == 8
    assert cli("data", name, "--json").out == done.out
    assert len(server.asked) == 8


def test_a_folder_that_torchvision_made_is_only_read(root, server):
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in {**RAW, **PACKED}.items():
        (raw / name).write_bytes(content)
    before = {path: path.stat() for path in root.rglob("*")}
    check(load("mnist"))
    assert {path: path.stat() for path in root.rglob("*")} == before
    for name in PACKED:  # a folder from which the archives were removed
        (raw / name).unlink()
    check(load("mnist", fetch=None))
    assert server.asked == []


@pytest.mark.parametrize("name", RAW)
@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_what_is_damaged_is_made_whole(root, server, name, damage):
    load("mnist")
    path = root / "MNIST" / "raw" / name
    asked = len(server.asked)
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(RAW[name][:-1] + (b"" if damage == "cut" else bytes([RAW[name][-1] ^ 1])))
    with pytest.raises(FileError, match="mnist is not under"):
        load("mnist", fetch=None)
    check(load("mnist"))
    assert len(server.asked) == asked


@pytest.mark.parametrize("content", [b"", RAW["train-images-idx3-ubyte"][:-1] + b"\7"])
def test_without_an_archive_the_checksum_is_known(root, server, content):
    load("mnist")
    raw = root / "MNIST" / "raw"
    for name in PACKED:
        (raw / name).unlink()
    check(load("mnist", fetch=None))
    (raw / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(FileError, match="mnist is not under"):
        load("mnist", fetch=None)
    check(load("mnist"))


@pytest.mark.parametrize("held", ["archives", "both", "unpacked"])
def test_a_copy_of_the_users(root, server, cli, tmp_path, held):
    mine = tmp_path / "mine" / "MNIST" / "raw"
    mine.mkdir(parents=True)
    for name, content in {
        **(RAW if held != "archives" else {}),
        **(PACKED if held != "unpacked" else {}),
    }.items():
        (mine / name).write_bytes(content)
    done = cli("data", "mnist", "--from", tmp_path / "mine")
    assert done.code == 0, done.err
    check(load("mnist", fetch=None))
    assert server.asked == []
    shutil.rmtree(root)
    (mine / ("train-labels-idx1-ubyte" + (".gz" if held != "unpacked" else ""))).write_bytes(b"damaged")
    refused = cli("data", "mnist", "--from", tmp_path / "mine")
    if held == "both":  # the unpacked files are verified on their own
        check(load("mnist", fetch=None))
        shutil.rmtree(root)
    else:
        assert refused.code == 3
        assert "train-labels-idx1-ubyte" in refused.complaint
        assert "is damaged" in refused.complaint
    single = mine / "t10k-labels-idx1-ubyte.gz"
    single.write_bytes(PACKED[single.name])
    refused = cli("data", "mnist", "--from", single)
    assert refused.code == 3
    assert "give a folder that also contains train-images-idx3-ubyte.gz" in refused.complaint


def put(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def test_what_an_old_torchvision_processed_is_not_read(root, server):
    import torch

    load("mnist")
    processed = root / "MNIST" / "processed"
    processed.mkdir()
    for name in ("training.pt", "test.pt"):
        torch.save(
            (torch.zeros(3, 28, 28, dtype=torch.uint8), torch.zeros(3, dtype=torch.long)), processed / name
        )
    check(load("mnist", fetch=None))


OTHER = {name: raw[:-1] + bytes([raw[-1] ^ 1]) for name, raw in RAW.items()}
"""Files of the same names and lengths, as Fashion-MNIST's beside MNIST's."""


def test_files_of_the_other_data_set_are_refused(root, server, cli, tmp_path):
    mine = put(tmp_path / "mine", OTHER)
    refused = cli("data", "mnist", "--from", mine)
    assert refused.code == 3
    assert f"{mine / 'train-images-idx3-ubyte'} is damaged or not of mnist" in refused.complaint
    assert not (root / "MNIST").exists()
    put(root / "MNIST" / "raw", OTHER)  # as by a program that does not verify
    put(mine, {**RAW, **PACKED})
    accepted = cli("data", "mnist", "--from", mine)
    assert accepted.code == 0, accepted.err
    check(load("mnist", fetch=None))


def test_of_files_of_two_data_sets_the_right_ones_are_taken(root, server, cli, tmp_path):
    put(tmp_path / "mine" / "FashionMNIST" / "raw", OTHER)
    put(tmp_path / "mine" / "MNIST" / "raw", RAW)
    taken = cli("data", "mnist", "--from", tmp_path / "mine")
    assert taken.code == 0, taken.err
    check(load("mnist", fetch=None))


def test_a_copy_is_verified_also_where_the_data_are_there(root, server, cli, tmp_path):
    load("mnist")
    right, wrong = put(tmp_path / "right", PACKED), put(tmp_path / "wrong", OTHER)
    taken = cli("data", "mnist", "--from", right)
    assert taken.code == 0
    assert f"mnist is intact under {root}; nothing copied from {right}\n" in taken.err
    assert cli("data", "mnist", "--from", wrong).code == 3
    missing = cli("data", "mnist", "--from", tmp_path / "missing")
    assert (missing.code, "missing: no such file or directory" in missing.complaint) == (3, True)


def test_unpacked_files_have_checksums():
    """Those that independent projects publish; the files are not here to be checked against."""
    md5s = [md5 for files in mnist_svhn.UNPACKED_MD5.values() for md5 in files.values()]
    assert len({*md5s}) == 8
    assert all(re.fullmatch("[0-9a-f]{32}", md5) for md5 in md5s)


@pytest.fixture
def svhn(monkeypatch, root):
    pixels = RNG.integers(0, 256, (32, 32, 3, 10), dtype=np.uint8)
    labels = np.array([10, 1, 2, 9, 10, 3, 1, 2, 10, 5], np.uint8)
    with serving() as made:
        lists = {}
        for split, part in (("train", slice(0, 6)), ("test", slice(6, 10))):
            savemat("made.mat", {"X": pixels[..., part], "y": labels[part, None]})
            raw = Path("made.mat").read_bytes()
            made.files[f"/{split}_32x32.mat"] = raw
            lists[split] = [
                f"{made.url}/{split}_32x32.mat",
                f"{split}_32x32.mat",
                hashlib.md5(raw).hexdigest(),
            ]
        monkeypatch.setattr(datasets.SVHN, "split_list", lists)
        made.pixels, made.labels = pixels.transpose(3, 2, 0, 1), labels % 10
        yield made


def test_svhn(svhn, root, cli):
    done = cli("data", "svhn", "--json")
    assert done.code == 0, done.err
    made = load("svhn", fetch=None)
    assert (made.shape, made.classes) == ((3, 32, 32), 10)
    assert np.array_equal(made.train.images.numpy(), svhn.pixels[:6])
    assert made.train.labels.tolist() == svhn.labels[:6].tolist()
    assert made.test.labels.tolist() == svhn.labels[6:].tolist()
    assert cli("data", "svhn", "--from", put(root / "empty", {})).code == 3
    path = root / "test_32x32.mat"
    path.write_bytes(path.read_bytes()[:-1])
    assert load("svhn").sha256 == done.json["sha256"]
    assert len(svhn.asked) == 3


def test_digits_are_not_mirrored():
    for name in ("mnist", "svhn"):
        assert DATA[name].options(name=name).augment == ("crop",)
    for name in ("fashion-mnist", "cifar10", "cifar100", "tiny-imagenet"):
        assert DATA[name].options(name=name).augment == ("crop", "flip")


def test_the_published_files_are_those_that_torchvision_knows():
    """No network here: that the addresses answer is not tested."""
    found = [
        tiny_imagenet.ARCHIVE,
        *map(cifar.archive, map(cifar.dataset_class, cifar.CLASSES)),
        *mnist_svhn.svhn_archives(datasets.SVHN),
    ]
    for kind in KINDS.values():
        found += mnist_svhn.mnist_archives(kind)
    assert len(found) == 13
    for archive in found:
        assert archive.md5 is None or re.fullmatch("[0-9a-f]{32}", archive.md5)
        assert archive.sha256 is None or re.fullmatch("[0-9a-f]{64}", archive.sha256)
        assert archive.md5 or archive.sha256
        for url in (archive.url, *archive.mirrors):
            assert re.fullmatch(r"https?://[\w.-]+/[\w./~-]+", url)
            assert os.path.basename(url) == archive.name
    assert {archive.md5 for archive in found[1:3]} == {datasets.CIFAR10.tgz_md5, datasets.CIFAR100.tgz_md5}
    assert [archive.url for archive in found[3:5]] == [
        datasets.SVHN.split_list[split][0] for split in ("train", "test")
    ]
    assert found[5].url.startswith(datasets.MNIST.mirrors[0])
