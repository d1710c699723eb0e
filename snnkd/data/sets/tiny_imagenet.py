"""Tiny ImageNet: 200 classes, 64x64, unpacked once into a memory-mapped file.

The labels of its official test images were never published: as usual in the literature, its validation
images, 50 a class, are the test split here, and nothing is selected on them. Classes are numbered in the
order of their WordNet ids.
"""

from __future__ import annotations

import contextlib
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from snnkd.console import Console
from snnkd.data.decode import decode_blocks
from snnkd.data.download.archives import Archive, FetchOptions, is_intact
from snnkd.data.download.fetch import fetch_archive, find_copies
from snnkd.data.imageset import ImageSet, NotPrepared
from snnkd.data.mmap_cache import SplitSource, open_cache, write_cache
from snnkd.errors import FileError
from snnkd.files import data_folder, reason
from snnkd.locks import dataset_lock
from snnkd.schema.data import DataConfig

ARCHIVE = Archive(
    "tiny-imagenet-200.zip",
    "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    size=248_100_043,
    md5="90528d7ca1a48142e341f4ef8d21d0de",
    sha256="6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
    mirrors=("https://cs231n.stanford.edu/tiny-imagenet-200.zip",),
)
TREE = "tiny-imagenet-200"
SIZE = 64
CLASSES, TRAIN_IMAGES, TEST_IMAGES = 200, 100_000, 10_000
SPLIT_RULE = "test: the official validation images; labels of the official test images were never published"


def load(config: DataConfig, console: Console, fetch: FetchOptions | None = None) -> ImageSet:
    """The data set from SNNKD_DATA, fetched and unpacked when missing. Raises FileError."""
    root = data_folder()
    path = root / "tiny-imagenet.bin"
    given = None if fetch is None or fetch.source is None else _source_key(fetch.source)
    data = open_cache(path, config.name, given)
    if data is None:
        if fetch is None:
            raise _not_prepared(root)
        with dataset_lock(root, config.name, fetch.stop, console):
            data = open_cache(path, config.name, given)  # another process may have unpacked it meanwhile
            if data is None:
                with _open_source(root, fetch, console) as source:
                    _unpack(source, path, fetch.stop, console)
                data = open_cache(path, config.name)
    elif fetch is not None and given is not None:
        console.log(f"{config.name} is unpacked under {root}; nothing copied from {fetch.source}")
    if data is None:
        raise FileError(f"{path}: damaged right after it was written; check the disk and repeat the command")
    return replace(data, split_rule=SPLIT_RULE)


def _not_prepared(root: Path) -> FileError:
    for path in (root / ARCHIVE.name, root / TREE):
        if path.exists():
            return NotPrepared(f"{path} is not unpacked yet; training or `snnkd data tiny-imagenet` does it")
    return FileError(f"tiny-imagenet is not under {root}; training downloads it, or put {ARCHIVE.name} there")


@dataclass(frozen=True)
class _Source:
    """The published files, packed or unpacked: functions to list their names and to read one."""

    path: Path
    key: str
    """The archive's checksum, or the path of an unpacked folder, whose checksum is unknown."""
    names: Callable[[], Iterable[str]]
    read: Callable[[str], bytes]


@contextlib.contextmanager
def _open_source(root: Path, fetch: FetchOptions, console: Console) -> Iterator[_Source]:
    """The copy in `--from`; without it the archive in SNNKD_DATA, else an unpacked folder there, else the
    downloaded archive."""
    place = fetch.source or root
    packed = place / ARCHIVE.name
    is_packed = packed.is_file() if fetch.source else is_intact(packed, ARCHIVE)
    tree = None if is_packed else _find_tree(place)
    if tree is not None:
        console.log(f"reading {tree}, whose checksum is unknown")
        yield _folder_source(tree)
        return
    packed = fetch_archive(ARCHIVE, root, fetch, console)
    with zipfile.ZipFile(packed) as archive:
        names = [name.removeprefix(f"{TREE}/") for name in archive.namelist()]
        yield _Source(packed, str(ARCHIVE.sha256), lambda: names, lambda name: archive.read(f"{TREE}/{name}"))


def _find_tree(folder: Path) -> Path | None:
    """The unpacked files in `folder`."""
    trees = (folder / TREE, folder)
    return next(
        (tree for tree in trees if (tree / "wnids.txt").is_file() and (tree / "train").is_dir()), None
    )


def _source_key(copy: Path) -> str:
    """`_Source.key` of the user's copy. Raises FileError for one without the published files."""
    tree = _find_tree(copy)
    if tree is not None and not (copy / ARCHIVE.name).is_file():
        return str(tree.resolve())
    find_copies([ARCHIVE], copy)
    return str(ARCHIVE.sha256)


def _folder_source(tree: Path) -> _Source:
    def names() -> Iterator[str]:
        for folder in (tree, tree / "val", tree / "val" / "images", *sorted(tree.glob("train/*/images"))):
            if folder.is_dir():
                yield from (
                    str(path.relative_to(tree)) for path in sorted(folder.iterdir()) if path.is_file()
                )

    return _Source(tree, str(tree.resolve()), names, lambda name: (tree / name).read_bytes())


def _unpack(source: _Source, path: Path, stop: Callable[[str], None], console: Console) -> None:
    wnids, train, test = _index(source)
    number = {wnid: i for i, wnid in enumerate(wnids)}
    console.log(f"unpacking {len(train) + len(test):,} images of {source.path} into {path}, once")
    with console.bar("unpacking", len(train) + len(test)) as bar:

        def pictures(pairs: list[tuple[str, str]]) -> Iterator[tuple[str, Callable[[], bytes]]]:
            for name, _ in pairs:
                stop("while unpacking tiny-imagenet, which starts over")
                bar.advance()
                yield f"{source.path}: {name}", lambda name=name: source.read(name)  # type: ignore[misc]

        def split(pairs: list[tuple[str, str]]) -> SplitSource:
            labels = np.array([number[wnid] for _, wnid in pairs], np.int64)
            return SplitSource(labels, lambda: decode_blocks(pictures(pairs), _to_rgb))

        write_cache(
            path, (3, SIZE, SIZE), len(wnids), {"train": split(train), "test": split(test)}, source.key
        )


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.size != (SIZE, SIZE):
        raise ValueError(f"{picture.size[0]}x{picture.size[1]} pixels instead of {SIZE}x{SIZE}")
    return picture.convert("RGB")


def _index(source: _Source) -> tuple[list[str], list[tuple[str, str]], list[tuple[str, str]]]:
    """The classes; name and class of each training and test image. Raises FileError for missing files."""
    names = set(source.names())
    try:
        wnids = sorted(source.read("wnids.txt").decode().split())
        annotations = source.read("val/val_annotations.txt").decode()
    except (KeyError, OSError, UnicodeDecodeError) as error:
        cause = reason(error) if isinstance(error, OSError) else error
        raise FileError(
            f"{source.path}: not the published files ({cause}); read a rearranged copy as imagefolder:PATH"
        ) from error
    train = []
    for name in names:
        match = re.fullmatch(r"train/(\w+)/images/\w+?_(\d+)\.JPEG", name)
        if match and match[1] in wnids:
            train.append((match[1], int(match[2]), name))
    test = [
        (f"val/images/{line.split()[0]}", line.split()[1])
        for line in annotations.splitlines()
        if len(line.split()) >= 2
    ]
    missing = [name for name, wnid in test if name not in names or wnid not in wnids]
    counts = (len(wnids), len(train), len(test) - len(missing))
    if counts != (CLASSES, TRAIN_IMAGES, TEST_IMAGES):
        raise FileError(
            f"{source.path}: {counts[1]:,} training, {counts[2]:,} validation images, {counts[0]} classes; "
            f"published are {TRAIN_IMAGES:,}, {TEST_IMAGES:,}, {CLASSES}; "
            "read a rearranged copy as imagefolder:PATH"
        )
    return wnids, [(name, wnid) for wnid, _, name in sorted(train)], test
