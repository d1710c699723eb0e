"""Your own pictures, PATH/train/CLASS/*.jpg, PATH/test and PATH/val, as for torchvision's ImageFolder.

Decoded once, block by block, into a memory-mapped file under SNNKD_DATA; its name hashes the pictures' names,
sizes and modification times, so that a changed folder is decoded again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image

from snnkd.console import Console
from snnkd.data.decode import decode_blocks
from snnkd.data.download.archives import FetchOptions
from snnkd.data.imageset import ImageSet, NotPrepared
from snnkd.data.mmap_cache import SplitSource, open_cache, write_cache
from snnkd.data.paths import data_folder
from snnkd.data.picture import to_mode
from snnkd.errors import FileError
from snnkd.files import from_os_error, user_path
from snnkd.locks import dataset_lock
from snnkd.schema.data import ImageFolderConfig

CACHE_VERSION = 2
"""Part of the cache's name; increase it when the decoding changes."""


@dataclass(frozen=True)
class _Listing:
    """Folder of each split, classes in order, number of pictures of each class, and a hash of all files."""

    folders: dict[str, Path]
    classes: list[str]
    counts: dict[str, list[int]]
    key: str


def load(config: ImageFolderConfig, console: Console, fetch: FetchOptions | None = None) -> ImageSet:
    """The pictures as RGB (or grey) images of `config.size`. Raises FileError that names file and rule."""
    root = user_path(config.name.partition(":")[2])
    listing = _list(root, config)
    label = re.sub(r"[^A-Za-z0-9._-]", "_", root.resolve().name)[:60] or "root"
    path = data_folder() / f"imagefolder-{label}-{config.size}-{listing.key[:12]}.bin"
    data = open_cache(path, config.name)
    if data is None:
        if fetch is None:
            images = {split: sum(counts) for split, counts in listing.counts.items()}
            nominal = len(listing.classes), (config.channels, config.size, config.size), images["train"]
            count = f"{sum(images.values()):,} pictures"
            raise NotPrepared(f"{root}: {count}, not decoded yet; `snnkd data` or training does it", nominal)
        with dataset_lock(path.parent, path.stem, fetch.stop, console):
            data = open_cache(path, config.name) or _decode(root, listing, config, path, fetch.stop, console)
    absent = [name for name, count in zip(listing.classes, listing.counts["test"], strict=True) if count == 0]
    if absent:
        examples = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
        count = f"{len(absent)} of {len(listing.classes)}"
        console.log(f"warning: {listing.folders['test']}: {count} classes have no test image ({examples})")
    return replace(data, split_rule=f"test: {listing.folders['test']}", class_names=tuple(listing.classes))


def _list(root: Path, config: ImageFolderConfig) -> _Listing:
    try:
        folders = _split_folders(root)
        for folder in folders.values():
            if not folder.is_dir():
                raise FileError(
                    f"{root}: no folder {folder.name}/; "
                    "expected train/CLASS/*.jpg and test/CLASS/*.jpg (or val/)"
                )
        classes = _class_folders(folders["train"])
        if len(classes) < 2:
            raise FileError(
                f"{folders['train']}: {len(classes)} class folders; at least 2 are needed, train/CLASS/*.jpg"
            )
        for folder in folders.values():
            unknown = [name for name in _class_folders(folder) if name not in set(classes)]
            if unknown:
                raise FileError(f"{folder}: class {unknown[0]!r} is not in {folders['train']}")
        digest = hashlib.sha256(json.dumps(_decoding(root, config)).encode())
        counts = {split: _counts(folder, classes, digest) for split, folder in folders.items()}
    except OSError as error:
        raise from_os_error(error, error.filename or root) from error
    empty = [name for name, count in zip(classes, counts["train"], strict=True) if count == 0]
    if empty:
        raise FileError(f"{folders['train'] / empty[0]}: contains no picture ({', '.join(_extensions())})")
    for split, folder in folders.items():
        if not sum(counts[split]):
            raise FileError(f"{folder}: contains no picture ({', '.join(_extensions())})")
    return _Listing(folders, classes, counts, digest.hexdigest())


def _split_folders(root: Path) -> dict[str, Path]:
    """The folder of each split; val/ is the test split where there is no test/, else the validation split."""
    train, test, val = (root / name for name in ("train", "test", "val"))
    if not val.is_dir():
        return {"train": train, "test": test}
    return {"train": train, "test": test, "val": val} if test.is_dir() else {"train": train, "test": val}


def _decoding(root: Path, config: ImageFolderConfig) -> list[object]:
    """Everything but the pictures that the cache depends on."""
    packages = [version(package) for package in ("pillow", "torchvision")]
    return [CACHE_VERSION, str(root.resolve()), config.size, config.channels, *packages]


def _class_folders(folder: Path) -> list[str]:
    """The class names in torchvision's order."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())


def _counts(folder: Path, classes: list[str], digest: hashlib._Hash) -> list[int]:
    """The number of pictures of each class; adds the name, size and modification time of each to `digest`."""
    count: Counter[int] = Counter()
    for label, path in _pictures(folder, classes):
        stat = path.stat()
        entry = [str(path.relative_to(folder.parent)), stat.st_size, stat.st_mtime_ns]
        digest.update(json.dumps(entry).encode())
        count[label] += 1
    return [count[label] for label in range(len(classes))]


def _pictures(folder: Path, classes: list[str]) -> Iterator[tuple[int, Path]]:
    """Label and path of each picture in torchvision's order, listed by class to bound the memory."""
    extensions = _extensions()
    for label, name in enumerate(classes):
        if not (folder / name).is_dir():  # not every class has test images
            continue
        for parent, files in sorted(_walk(folder / name)):
            for file in sorted(files):
                if file.lower().endswith(extensions):
                    yield label, Path(parent) / file


def _walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Each folder below and its files, once: a symbolic link may lead back up. Raises OSError."""
    visited = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=_raise):
        stat = os.stat(parent)
        if (stat.st_dev, stat.st_ino) in visited:
            folders.clear()
            continue
        visited.add((stat.st_dev, stat.st_ino))
        yield parent, files


def _raise(error: OSError) -> None:
    raise error


def _extensions() -> tuple[str, ...]:
    from torchvision.datasets.folder import IMG_EXTENSIONS

    return tuple(IMG_EXTENSIONS)


def _decode(
    root: Path,
    listing: _Listing,
    config: ImageFolderConfig,
    path: Path,
    stop: Callable[[str], None],
    console: Console,
) -> ImageSet:
    total = sum(map(sum, listing.counts.values()))
    console.log(f"decoding {total:,} pictures of {root} at {config.size}x{config.size} into {path}, once")
    changes: list[str] = []
    transform = _transform(config, changes)
    with console.bar("decoding", total) as bar:

        def readers(folder: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
            for _, picture in _pictures(folder, listing.classes):
                stop(f"while decoding {root}, which starts over")
                bar.advance()
                yield str(picture), picture.read_bytes

        def source(split: str) -> SplitSource:
            labels = np.repeat(np.arange(len(listing.classes)), listing.counts[split])
            return SplitSource(labels, lambda: decode_blocks(readers(listing.folders[split]), transform))

        splits = {split: source(split) for split in listing.folders}
        try:
            write_cache(path, (config.channels, config.size, config.size), len(listing.classes), splits)
        except ValueError as error:  # not the pictures that were counted
            raise FileError(f"{root}: changed while it was read ({error}); repeat the command") from error
    if changes:
        counts = ", ".join(f"{count:,} {change}" for change, count in sorted(Counter(changes).items()))
        console.log(f"{root}: of {total:,} pictures {counts}")
    data = open_cache(path, config.name)
    if data is None or _list(root, config).key != listing.key:
        raise FileError(f"{root}: changed while it was read; repeat the command")
    return data


def _transform(config: ImageFolderConfig, changes: list[str]) -> Callable[[Image.Image], Image.Image]:
    """RGB or grey, then torchvision's Resize of the shorter side (bilinear, antialiased), then CenterCrop.

    Adds what else was converted to `changes`; called by threads.
    """
    from torchvision.transforms import functional

    size, mode = config.size, "RGB" if config.channels == 3 else "L"

    def transform(picture: Image.Image) -> Image.Image:
        converted, own_changes = to_mode(picture, mode)
        changes.extend(own_changes)
        resized = functional.resize(converted, size, antialias=True)
        square: Image.Image = functional.center_crop(resized, size)
        return square

    return transform
