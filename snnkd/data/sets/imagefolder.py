"""Your own data: a folder of pictures, PATH/train/CLASS/*.jpg and PATH/test (or val), as torchvision's ImageFolder reads it.

Decoded once, block by block, into a file under SNNKD_DATA that is mapped into memory; the file's name stands for the
pictures' names, sizes and times of change, so that another picture makes another file.
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
from snnkd.data.decode import decoded
from snnkd.data.download.archives import NotReady, Way
from snnkd.data.folder import data_folder
from snnkd.data.imageset import ImageSet
from snnkd.data.mmap_cache import Part, concatenated, open_store, write_store
from snnkd.errors import FileError
from snnkd.files import from_os_error
from snnkd.locks import dataset_lock
from snnkd.schema.data import ImageFolderConfig

RECIPE_VERSION = 1
"""Raised when the decoding changes, so that caches of an older snnkd are not taken for this one's."""
TEST_NAMES = ("test", "val")


@dataclass(frozen=True)
class _Listed:
    """What lies in a folder: the classes in order, each split's folder and how many pictures of each class it has."""

    folders: dict[str, Path]
    classes: list[str]
    counts: dict[str, list[int]]
    key: str


def load(config: ImageFolderConfig, console: Console, way: Way | None = None) -> ImageSet:
    """The pictures as RGB (or grey) of `config.size`. Raises FileError that names the file or folder and the rule."""
    root = Path(config.name.partition(":")[2])
    listed = _list(root, config)
    label = re.sub(r"[^A-Za-z0-9._-]", "_", root.resolve().name)[:60] or "root"
    path = data_folder() / f"imagefolder-{label}-{config.size}-{listed.key[:12]}.bin"
    data = open_store(path, config.name)
    if data is None:
        if way is None:
            images = {split: sum(counts) for split, counts in listed.counts.items()}
            nominal = len(listed.classes), (config.channels, config.size, config.size), images["train"]
            what = f"{sum(images.values()):,} pictures, which teach, distill and `snnkd data` decode once into {path.parent}"
            raise NotReady(f"{root} holds {what}", nominal)
        with dataset_lock(path.parent, path.stem, way.stop, console):
            data = open_store(path, config.name) or _decode(root, listed, config, path, way.stop, console)
    absent = [name for name, count in zip(listed.classes, listed.counts["test"], strict=True) if count == 0]
    if absent:
        shown = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
        console.log(
            f"warning: {listed.folders['test']}: no test image of {len(absent)} of {len(listed.classes)} classes ({shown})"
        )
    return replace(data, rule=f"test: {listed.folders['test']}")


def _list(root: Path, config: ImageFolderConfig) -> _Listed:
    try:
        folders = {
            "train": root / "train",
            "test": next((root / name for name in TEST_NAMES if (root / name).is_dir()), root / "test"),
        }
        for folder in folders.values():
            if not folder.is_dir():
                raise FileError(
                    f"{root}: has no folder {folder.name}/; it must hold train/CLASS/*.jpg and test/CLASS/*.jpg (or val/)"
                )
        classes = _class_folders(folders["train"])
        if len(classes) < 2:
            raise FileError(
                f"{folders['train']}: holds {len(classes)} class folders; there must be 2 or more, train/CLASS/*.jpg"
            )
        further = [name for name in _class_folders(folders["test"]) if name not in set(classes)]
        if further:
            raise FileError(f"{folders['test']}: the class {further[0]!r} is not in {folders['train']}")
        digest = hashlib.sha256(json.dumps(_made_with(root, config)).encode())
        counts = {split: _counts(folder, classes, digest) for split, folder in folders.items()}
    except OSError as error:
        raise from_os_error(error, error.filename or root) from error
    empty = [name for name, count in zip(classes, counts["train"], strict=True) if count == 0]
    if empty:
        raise FileError(f"{folders['train'] / empty[0]}: holds no picture ({', '.join(_extensions())})")
    if not sum(counts["test"]):
        raise FileError(f"{folders['test']}: holds no picture ({', '.join(_extensions())})")
    return _Listed(folders, classes, counts, digest.hexdigest())


def _made_with(root: Path, config: ImageFolderConfig) -> list[object]:
    """What the cache depends on besides the files."""
    packages = [version(package) for package in ("pillow", "torchvision")]
    return [RECIPE_VERSION, str(root.resolve()), config.size, config.channels, *packages]


def _class_folders(folder: Path) -> list[str]:
    """As torchvision numbers them: by name."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())


def _counts(folder: Path, classes: list[str], digest: hashlib._Hash) -> list[int]:
    """How many pictures each class has; name, size and time of change of each go into `digest`."""
    count: Counter[int] = Counter()
    for label, path in _pictures(folder, classes):
        about = path.stat()
        digest.update(
            json.dumps([str(path.relative_to(folder.parent)), about.st_size, about.st_mtime_ns]).encode()
        )
        count[label] += 1
    return [count[label] for label in range(len(classes))]


def _pictures(folder: Path, classes: list[str]) -> Iterator[tuple[int, Path]]:
    """Label and path in torchvision's order; of one class at a time, so that any number of files may lie there."""
    extensions = _extensions()
    for label, name in enumerate(classes):
        for place, _, files in sorted(os.walk(folder / name, followlinks=True)):
            yield from (
                (label, Path(place) / file) for file in sorted(files) if file.lower().endswith(extensions)
            )


def _extensions() -> tuple[str, ...]:
    from torchvision.datasets.folder import IMG_EXTENSIONS

    return tuple(IMG_EXTENSIONS)


def _decode(
    root: Path,
    listed: _Listed,
    config: ImageFolderConfig,
    path: Path,
    stop: Callable[[str], None],
    console: Console,
) -> ImageSet:
    total = sum(map(sum, listed.counts.values()))
    console.log(f"decoding {total:,} pictures of {root} at {config.size}x{config.size} into {path}, once")
    prepare, mode = _resizer(config.size), "RGB" if config.channels == 3 else "L"
    with console.bar("decoding", total) as bar:

        def readers(folder: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
            for _, picture in _pictures(folder, listed.classes):
                stop(f"while decoding {root}; nothing of it was kept")
                bar.advance()
                yield str(picture), picture.read_bytes

        def part(split: str) -> Part:
            labels = np.repeat(np.arange(len(listed.classes)), listed.counts[split])
            return Part(labels, lambda: concatenated(decoded(readers(listed.folders[split]), prepare, mode)))

        parts = {split: part(split) for split in listed.folders}
        try:
            write_store(path, (config.channels, config.size, config.size), len(listed.classes), parts)
        except ValueError as error:  # other files than were counted
            raise FileError(f"{root}: changed while it was read ({error}); repeat the command") from error
    data = open_store(path, config.name)
    if data is None or _list(root, config).key != listed.key:
        raise FileError(f"{root}: changed while it was read; repeat the command")
    return data


def _resizer(size: int) -> Callable[[Image.Image], Image.Image]:
    """Shorter side to `size` (bilinear, with antialiasing), then the middle: torchvision's Resize and CenterCrop."""
    from torchvision.transforms import functional

    def prepare(picture: Image.Image) -> Image.Image:
        made: Image.Image = functional.center_crop(functional.resize(picture, size, antialias=True), size)
        return made

    return prepare
