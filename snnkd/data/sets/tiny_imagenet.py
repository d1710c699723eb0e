"""Tiny ImageNet: 200 classes, 64x64, unpacked once into a file that is mapped into memory.

The labels of its official test images were never published: as everywhere in the field, its validation images, 50 a
class, are the test split here. Nothing is selected on them. Classes are numbered by the order of their WordNet names.
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
from snnkd.data.decode import decoded
from snnkd.data.download.archives import Archive, NotReady, Way, verified
from snnkd.data.download.fetch import fetch
from snnkd.data.folder import data_folder
from snnkd.data.imageset import ImageSet
from snnkd.data.mmap_cache import Part, concatenated, open_store, write_store
from snnkd.errors import FileError
from snnkd.files import reason
from snnkd.locks import dataset_lock
from snnkd.schema.data import DataConfig

ARCHIVE = Archive(
    "tiny-imagenet-200.zip",
    "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    size=248_100_043,
    md5="90528d7ca1a48142e341f4ef8d21d0de",
    sha256="6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821",
    also=("https://cs231n.stanford.edu/tiny-imagenet-200.zip",),
)
TREE = "tiny-imagenet-200"
SIZE = 64
CLASSES, TRAIN_IMAGES, TEST_IMAGES = 200, 100_000, 10_000
RULE = "test: its official validation images; the labels of its own test images were never published"


def load(config: DataConfig, console: Console, way: Way | None = None) -> ImageSet:
    """The data set from SNNKD_DATA, brought there and unpacked when absent. Raises FileError."""
    root = data_folder()
    path = root / "tiny-imagenet.bin"
    data = open_store(path, config.name)
    if data is None:
        if way is None:
            raise _absent(root)
        with dataset_lock(root, config.name, way.stop, console):
            data = open_store(path, config.name)  # another process may have unpacked it meanwhile
            if data is None:
                with _source(root, way, console) as source:
                    _unpack(source, path, way.stop, console)
                data = open_store(path, config.name)
    if data is None:
        raise FileError(f"{path}: other bytes than were written; is another program writing there?")
    return replace(data, rule=RULE)


def _absent(root: Path) -> FileError:
    here = root / ARCHIVE.name
    if here.exists() or (root / TREE).is_dir():
        packed = here if here.exists() else root / TREE
        return NotReady(
            f"{packed} is here, but not unpacked; that is done when needed, or by `snnkd data tiny-imagenet`"
        )
    return FileError(
        f"tiny-imagenet is not under {root}; it will be downloaded when needed, or put {ARCHIVE.name} there"
    )


@dataclass(frozen=True)
class _Source:
    """The published files, in their archive or unpacked: their names under tiny-imagenet-200/, and what reads one."""

    where: str
    names: Callable[[], Iterable[str]]
    read: Callable[[str], bytes]


@contextlib.contextmanager
def _source(root: Path, way: Way, console: Console) -> Iterator[_Source]:
    """The archive in SNNKD_DATA, else an unpacked folder there or at `--from`, else the archive after fetching it."""
    given = way.source
    packed_there = given is not None and (given.is_file() or (given / ARCHIVE.name).is_file())
    trees = [root / TREE, *((given / TREE, given) if given is not None and not packed_there else ())]
    tree = next(
        (tree for tree in trees if (tree / "wnids.txt").is_file() and (tree / "train").is_dir()), None
    )
    if tree is not None and not verified(root / ARCHIVE.name, ARCHIVE):
        console.log(f"unpacking {tree}, of which no checksum is known")
        yield _tree(tree)
        return
    packed = fetch(ARCHIVE, root, way, console)
    with zipfile.ZipFile(packed) as archive:
        names = [name.removeprefix(f"{TREE}/") for name in archive.namelist()]
        yield _Source(str(packed), lambda: names, lambda name: archive.read(f"{TREE}/{name}"))


def _tree(tree: Path) -> _Source:
    def names() -> Iterator[str]:
        for folder in (tree, tree / "val", tree / "val" / "images", *sorted(tree.glob("train/*/images"))):
            if folder.is_dir():
                yield from (
                    str(path.relative_to(tree)) for path in sorted(folder.iterdir()) if path.is_file()
                )

    return _Source(str(tree), names, lambda name: (tree / name).read_bytes())


def _unpack(source: _Source, path: Path, stop: Callable[[str], None], console: Console) -> None:
    wnids, train, test = _index(source)
    number = {wnid: i for i, wnid in enumerate(wnids)}
    console.log(f"unpacking {len(train) + len(test):,} images of {source.where} into {path}, once")
    with console.bar("unpacking", len(train) + len(test)) as bar:

        def pictures(pairs: list[tuple[str, str]]) -> Iterator[tuple[str, Callable[[], bytes]]]:
            for name, _ in pairs:
                stop("while unpacking tiny-imagenet; nothing of it was kept")
                bar.advance()
                yield f"{source.where}: {name}", lambda name=name: source.read(name)  # type: ignore[misc]

        def part(pairs: list[tuple[str, str]]) -> Part:
            labels = np.array([number[wnid] for _, wnid in pairs], np.int64)
            return Part(labels, lambda: concatenated(decoded(pictures(pairs), _checked_size, "RGB")))

        write_store(path, (3, SIZE, SIZE), len(wnids), {"train": part(train), "test": part(test)})


def _checked_size(picture: Image.Image) -> Image.Image:
    if picture.size != (SIZE, SIZE):
        raise ValueError(f"{picture.size[0]}x{picture.size[1]} pixels instead of {SIZE}x{SIZE}")
    return picture


def _index(source: _Source) -> tuple[list[str], list[tuple[str, str]], list[tuple[str, str]]]:
    """The classes in order; of training and of test images the name and the class. Raises FileError for what is missing."""
    names = set(source.names())
    try:
        wnids = sorted(source.read("wnids.txt").decode().split())
        annotations = source.read("val/val_annotations.txt").decode()
    except (KeyError, OSError, UnicodeDecodeError) as error:
        why = reason(error) if isinstance(error, OSError) else error
        raise FileError(
            f"{source.where}: not as published ({why}); a rearranged copy can be read as imagefolder:PATH"
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
    found = (len(wnids), len(train), len(test) - len(missing))
    if found != (CLASSES, TRAIN_IMAGES, TEST_IMAGES):
        raise FileError(
            f"{source.where}: has {found[1]:,} training and {found[2]:,} labelled validation images of {found[0]} classes; published are "
            f"{TRAIN_IMAGES:,} and {TEST_IMAGES:,} of {CLASSES}; a rearranged copy can be read as imagefolder:PATH"
        )
    return wnids, [(name, wnid) for wnid, _, name in sorted(train)], test
