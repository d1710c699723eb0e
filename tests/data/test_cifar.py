"""CIFAR through torchvision's classes: existing folders are used as they are, and trouble names the folder
and the remedy."""

import hashlib
import http.client
import pickle
import shutil
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from data.serving import Server, serving
from torchvision import datasets

from snnkd.console import Console
from snnkd.data import load_data
from snnkd.data.imageset import ImageSet
from snnkd.errors import FileError
from snnkd.schema.data import PhotoConfig

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 3072), dtype=np.uint8)
FILES = {
    "cifar10": {
        "batch_a": {"data": PIXELS[:2], "labels": [3, 9]},
        "batch_b": {"data": PIXELS[2:4], "labels": [0, 1]},
        "test_batch": {"data": PIXELS[4:], "labels": [5, 6]},
        "batches.meta": {"label_names": list("abcdefghij")},
    },
    "cifar100": {
        "batch_a": {"data": PIXELS[:4], "fine_labels": [3, 99, 0, 1], "coarse_labels": [1, 1, 1, 1]},
        "test_batch": {"data": PIXELS[4:], "fine_labels": [5, 6], "coarse_labels": [2, 2]},
        "batches.meta": {"fine_label_names": [str(i) for i in range(100)]},
    },
}
CLASSES = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SNNKD_DATA", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def offline(monkeypatch) -> list[str]:
    """No download succeeds; the list says what was asked for."""
    asked: list[str] = []

    def unreachable(request: object, *_: object, **__: object) -> None:
        asked.append(getattr(request, "full_url", str(request)))
        raise urllib.error.URLError("Temporary failure in name resolution")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    return asked


@pytest.fixture
def server(monkeypatch):
    """Serves what is put into it in place of the published addresses."""
    with serving() as made:
        for kind in CLASSES.values():
            monkeypatch.setattr(kind, "url", f"{made.url}/{kind.filename}")
        yield made


def unpack(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small folder as torchvision leaves it, and its checksums in torchvision's class."""
    kind = CLASSES[name]
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    sums = {}
    for file, content in FILES[name].items():
        raw = pickle.dumps(content, protocol=2)
        (folder / file).write_bytes(raw)
        sums[file] = hashlib.md5(raw).hexdigest()
    monkeypatch.setattr(
        kind, "train_list", [[file, sums[file]] for file in sums if file.startswith("batch_")]
    )
    monkeypatch.setattr(kind, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "filename": "batches.meta", "md5": sums["batches.meta"]})
    return folder


def load(name: str) -> ImageSet:
    return load_data(PhotoConfig(name=name), Console(quiet=True))


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_an_existing_folder_is_only_read(name, root, offline, monkeypatch):
    folder = unpack(name, root, monkeypatch)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    made = load(name)
    assert (made.name, made.classes, made.shape, made.val) == (name, int(name[5:]), (3, 32, 32), None)
    assert np.array_equal(made.train.images.numpy().reshape(4, 3072), PIXELS[:4])
    assert np.array_equal(made.test.images.numpy().reshape(2, 3072), PIXELS[4:])
    assert made.train.labels.tolist() == [3, 9 if name == "cifar10" else 99, 0, 1]
    assert offline == []
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert list(root.iterdir()) == [folder]


def test_offline_without_a_folder(root, offline):
    with pytest.raises(FileError) as caught:
        load("cifar100")
    message = str(caught.value)
    assert message.splitlines() == [message]
    assert str(root) in message
    assert "name resolution" in message
    assert "use `snnkd data cifar100 --from FILE-OR-DIR` or --mirror URL" in message
    assert len(set(offline)) == 1


@pytest.mark.parametrize("file", ["batch_b", "test_batch", "batches.meta"])
def test_a_damaged_file_offline(file, root, offline, monkeypatch):
    folder = unpack("cifar10", root, monkeypatch)
    (folder / file).write_bytes(b"damaged")
    with pytest.raises(FileError) as caught:
        load("cifar10")
    assert str(caught.value).splitlines() == [str(caught.value)]
    assert str(root) in str(caught.value)
    assert "cifar-10-python.tar.gz" in str(caught.value)


def test_a_damaged_download_is_refused(root, server):
    server.files["/cifar-10-python.tar.gz"] = b"an error page"
    with pytest.raises(FileError, match="the download failed") as caught:
        load("cifar10")
    assert hashlib.md5(b"an error page").hexdigest() in str(caught.value)
    assert "published md5 c58f30108f718f92721af3b95e74349a" in str(caught.value)
    assert not list(root.glob("cifar*"))


def test_a_file_where_the_folder_should_be(root, offline):
    root.write_text("a file")
    with pytest.raises(FileError, match="store"):
        load("cifar10")


def test_a_broken_connection(root, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise http.client.IncompleteRead(b"")

    monkeypatch.setattr(urllib.request, "urlopen", broken)
    monkeypatch.setattr("snnkd.data.download.http.PAUSE", 0.001)
    with pytest.raises(FileError, match="the download failed"):
        load("cifar10")


@pytest.mark.parametrize(
    "left",
    ["half an archive", "the archive", "half a batch", "one batch", "all but the end of the meta data"],
)
def test_what_a_kill_in_a_download_leaves_is_made_whole(left, root, tmp_path, monkeypatch, server):
    """Also what torchvision's own download leaves; their checksums, not their presence, say that files are
    whole."""
    whole = packed(tmp_path, monkeypatch, server)
    kind, archive = datasets.CIFAR10, tmp_path / datasets.CIFAR10.filename
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    content = archive.read_bytes()
    (root / kind.filename).write_bytes(content[: len(content) // 2] if left == "half an archive" else content)
    if left == "half a batch":
        (folder / "batch_a").write_bytes((whole / "batch_a").read_bytes()[:10])
    if left == "one batch":
        shutil.copy(whole / "batch_a", folder)
    if left.startswith("all but"):
        shutil.copytree(whole, folder, dirs_exist_ok=True)
        (folder / "batches.meta").write_bytes((whole / "batches.meta").read_bytes()[:-3])
    check(load("cifar10"))
    assert bool(server.asked) == (left == "half an archive"), "a whole archive is not fetched again"


def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> Path:
    """The archive of a small CIFAR-10, served and in `tmp_path`; returns the folder that it holds."""
    kind = datasets.CIFAR10
    whole = unpack("cifar10", tmp_path / "whole", monkeypatch)
    archive = tmp_path / kind.filename
    with tarfile.open(archive, "w:gz") as file:
        file.add(whole, kind.base_folder)
    monkeypatch.setattr(kind, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    server.files[f"/{kind.filename}"] = archive.read_bytes()
    return whole


def check(made: ImageSet) -> None:
    assert np.array_equal(made.train.images.numpy().reshape(4, 3072), PIXELS[:4])
    assert np.array_equal(made.test.images.numpy().reshape(2, 3072), PIXELS[4:])


@pytest.mark.parametrize(
    "given",
    ["the archive", "the archive by another name", "a folder with it", "unpacked", "unpacked in a folder"],
)
def test_a_copy_of_the_users_is_taken_and_left_alone(given, root, tmp_path, monkeypatch, server, cli):
    whole = packed(tmp_path, monkeypatch, server)
    archive = tmp_path / datasets.CIFAR10.filename
    other = tmp_path / "mine.bin"
    shutil.copy(archive, other)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    shutil.copy(archive, tmp_path / "deep" / "er")
    sources = {
        "the archive": archive,
        "the archive by another name": other,
        "a folder with it": tmp_path / "deep",
        "unpacked": whole,
        "unpacked in a folder": whole.parent,
    }
    before = {
        path: path.stat() for path in tmp_path.rglob("*") if path.is_file() and root not in path.parents
    }
    done = cli("data", "cifar10", "--from", sources[given], "--json")
    assert done.code == 0, done.err
    assert (done.json["images"], done.json["classes"], done.json["shape"]) == (
        {"train": 4, "test": 2},
        10,
        [3, 32, 32],
    )
    assert done.json["bytes"] == sum((whole / file).stat().st_size for file in FILES["cifar10"])
    check(load("cifar10"))
    assert server.asked == []
    for path, about in before.items():
        now = path.stat()
        assert (now.st_mtime_ns, now.st_ctime_ns, now.st_nlink) == (about.st_mtime_ns, about.st_ctime_ns, 1)


def test_a_damaged_copy_of_the_users_is_named(root, tmp_path, monkeypatch, server, cli):
    whole = packed(tmp_path, monkeypatch, server)
    (whole / "batch_b").write_bytes(b"damaged")
    refused = cli("data", "cifar10", "--from", whole)
    assert refused.code == 3
    assert f"{whole / 'batch_b'} is damaged" in refused.complaint
    archive = tmp_path / datasets.CIFAR10.filename
    archive.write_bytes(archive.read_bytes()[:-1])
    refused = cli("data", "cifar10", "--from", archive)
    assert refused.code == 3
    for part in (
        str(archive),
        hashlib.md5(archive.read_bytes()).hexdigest(),
        datasets.CIFAR10.tgz_md5,
        "cifar-10-python.tar.gz",
    ):
        assert part in refused.complaint
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "contains no cifar-10-python.tar.gz" in cli("data", "cifar10", "--from", empty).complaint
    assert cli("data", "cifar10", "--from", tmp_path / "none").complaint.endswith(
        "none: no such file or directory"
    )
    assert not list(root.glob("cifar*"))
    assert server.asked == []


@pytest.mark.parametrize("whole_url", [True, False])
def test_a_mirror_takes_the_place_of_the_published_address(
    whole_url, root, tmp_path, monkeypatch, server, cli
):
    packed(tmp_path, monkeypatch, server)
    server.files["/some/where/cifar-10-python.tar.gz"] = server.files.pop("/cifar-10-python.tar.gz")
    mirror = f"{server.url}/some/where" + ("/cifar-10-python.tar.gz" if whole_url else "/")
    done = cli("data", "cifar10", "--mirror", mirror)
    assert done.code == 0, done.err
    assert "4 train, 2 test" in done.out
    assert [path for path, _ in server.asked] == ["/some/where/cifar-10-python.tar.gz"]
    again = cli("data", "cifar10", "--mirror", mirror)
    assert (again.code, again.out, len(server.asked)) == (0, done.out, 1)
