"""Your own pictures, PATH/train/CLASS/*.jpg, PATH/test and PATH/val, or PATH/CLASS/*.jpg without splits.

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
from snnkd.data.picture import fit
from snnkd.data.split import permutation
from snnkd.errors import FileError, UsageError, counted
from snnkd.files import data_folder, from_os_error, user_path
from snnkd.locks import dataset_lock
from snnkd.schema.data import ImageFolderConfig

CACHE_VERSION = 2
"""Part of the cache's name; increase it when the decoding changes."""


SPLIT_NAMES = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "val": ("val", "valid", "validation"),
}
"""Names of the split folders, in any case."""
SYSTEM_NAMES = ("@eaDir", "__MACOSX", "Thumbs.db", "desktop.ini")
"""Folders and files that systems add; hidden ones begin with a dot."""
TEST_FRACTION = 0.2
"""Of each class, in a folder without splits."""
MAX_SHOWN = 5
"""Class names listed in a message."""


@dataclass(frozen=True)
class _Pictures:
    """The pictures of one split: `folder`/CLASS, in a folder without splits only those in or out of the test
    images that are held out."""

    folder: Path
    extensions: tuple[str, ...]
    is_test: bool = False
    test_fraction: float | None = None
    split_seed: int = 0

    def of_class(self, name: str, left_out: Counter[str] | None = None) -> Iterator[Path]:
        """In torchvision's order; counts in `left_out` what is no picture."""
        every = self._all(name, Counter() if left_out is None else left_out)
        if self.test_fraction is None:
            yield from every
            return
        paths = list(every)
        count = min(len(paths) - 1, max(1, round(len(paths) * self.test_fraction)))
        rows = permutation(len(paths), self.split_seed, "imagefolder", "test", name)[: max(count, 0)]
        held_out = set(rows.tolist())
        yield from (path for row, path in enumerate(paths) if (row in held_out) == self.is_test)

    def _all(self, name: str, left_out: Counter[str]) -> Iterator[Path]:
        if not (self.folder / name).is_dir():  # not every class has test images
            return
        yield from pictures_below(self.folder / name, self.extensions, left_out)


@dataclass(frozen=True)
class _Listing:
    """Pictures of each split, classes in order, counts by class, a hash of all files, what is left out."""

    pictures: dict[str, _Pictures]
    classes: list[str]
    counts: dict[str, list[int]]
    key: str
    split_rule: str
    left_out: list[str]


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
    _log_listing(root, listing, console)
    return replace(data, split_rule=listing.split_rule, class_names=tuple(listing.classes))


def _log_listing(root: Path, listing: _Listing, console: Console) -> None:
    """Log how test images were held out, what was left out, and which classes have no test image."""
    if listing.pictures["test"].test_fraction is not None:
        console.log(f"{root}: {listing.split_rule}")
    if listing.left_out:
        console.log(f"{root}: left out {', '.join(listing.left_out)}")
    absent = [name for name, count in zip(listing.classes, listing.counts["test"], strict=True) if count == 0]
    if absent:
        count, folder = f"{len(absent)} of {len(listing.classes)}", listing.pictures["test"].folder
        console.log(f"warning: {folder}: {count} classes have no test image ({_shown(absent)})")


def _shown(names: list[str]) -> str:
    return ", ".join(names[:MAX_SHOWN]) + (", ..." if len(names) > MAX_SHOWN else "")


def _list(root: Path, config: ImageFolderConfig) -> _Listing:
    try:
        pictures, split_rule = _splits(root, config)
        train, left_out = pictures["train"].folder, Counter[str]()
        digest = hashlib.sha256(json.dumps(_decoding(root, config)).encode())
        names = _class_folders(train, left_out)
        counts = {"train": _counts("train", pictures["train"], names, digest, left_out)}
        classes = [name for name in names if counts["train"][name]]
        empty = [name for name in names if not counts["train"][name]]
        if len(classes) < 2:
            raise FileError(
                f"{train}: {counted(len(classes), 'folder')} with pictures; at least 2 classes are needed"
            )
        for split in list(pictures)[1:]:
            folder = pictures[split].folder
            also_left_out = left_out if folder != train else Counter[str]()
            unknown = [name for name in _class_folders(folder, also_left_out) if name not in classes]
            for name in unknown:
                if next(pictures[split].of_class(name), None):
                    raise FileError(f"{folder}: class {name!r} is not in {train}")
            counts[split] = _counts(split, pictures[split], classes, digest, also_left_out)
            if not sum(counts[split].values()):
                raise FileError(f"{folder}: contains no picture ({', '.join(picture_extensions())})")
    except OSError as error:
        raise from_os_error(error, error.filename or root) from error
    ordered = {split: [counts[split][name] for name in classes] for split in pictures}
    descriptions = [counted(count, kind) for kind, count in sorted(left_out.items())]
    if empty:
        descriptions.append(f"{counted(len(empty), 'empty class')} ({_shown(empty)})")
    return _Listing(pictures, classes, ordered, digest.hexdigest(), split_rule, descriptions)


def _splits(root: Path, config: ImageFolderConfig) -> tuple[dict[str, _Pictures], str]:
    """The splits, and how the test images were chosen.

    val/ is the test split where there is no test/, else the validation split. Without any split folder
    test images are held out.
    """
    if not root.is_dir():
        raise FileError(f"{root}: no such folder; expected train/CLASS/*.jpg and test/CLASS/*.jpg there")
    folders, extensions = _split_folders(root), picture_extensions()
    if not folders:
        fraction = TEST_FRACTION if config.test_fraction is None else config.test_fraction
        test = f"{100 * (1 - fraction):g}/{100 * fraction:g} of each class, seed {config.split_seed}"
        pictures = {
            split: _Pictures(root, extensions, split == "test", fraction, config.split_seed)
            for split in ("train", "test")
        }
        return pictures, f"snnkd's own split, {test}; the folder has no train/ and test/"
    if "test" not in folders and "val" in folders:
        folders["test"] = folders.pop("val")
    for split in ("train", "test"):
        if split not in folders:
            name = next(iter(folders.values())).name
            raise FileError(
                f"{root}: no folder {split}/ beside {name}/; add it, or rename {name}/ if it is a class"
            )
    if config.test_fraction is not None:
        raise UsageError(f"data.test_fraction: {config.test_fraction}, but {root} has test images; remove it")
    order = [split for split in SPLIT_NAMES if split in folders]
    return {split: _Pictures(folders[split], extensions) for split in order}, f"test: {folders['test']}"


def _split_folders(root: Path) -> dict[str, Path]:
    folders: dict[str, Path] = {}
    for path in sorted(path for path in root.iterdir() if path.is_dir()):
        for split, names in SPLIT_NAMES.items():
            if path.name.lower() in names:
                if split in folders:
                    raise FileError(
                        f"{root}: {folders[split].name}/ and {path.name}/ are one split; rename one"
                    )
                folders[split] = path
    return folders


def _decoding(root: Path, config: ImageFolderConfig) -> list[object]:
    """Everything but the pictures that the cache depends on."""
    packages = [version(package) for package in ("pillow", "torchvision")]
    return [CACHE_VERSION, str(root.resolve()), config.size, config.channels, *packages]


def _class_folders(folder: Path, left_out: Counter[str]) -> list[str]:
    """The class names in torchvision's order; counts hidden and system folders, and pictures beside the
    classes, in `left_out`."""
    entries = list(os.scandir(folder))
    names = sorted(entry.name for entry in entries if entry.is_dir())
    pictures = [each for each in entries if each.name.lower().endswith(picture_extensions())]
    loose = sum(not each.is_dir() and not _is_system(each.name) for each in pictures)
    left_out.update({"top-level picture": loose} if loose else {})
    classes = [name for name in names if not _is_system(name)]
    left_out.update({"hidden or system file": len(names) - len(classes)} if len(classes) < len(names) else {})
    return classes


def _is_system(name: str) -> bool:
    return name.startswith(".") or name in SYSTEM_NAMES


def _counts(
    split: str, pictures: _Pictures, classes: list[str], digest: hashlib._Hash, left_out: Counter[str]
) -> dict[str, int]:
    """The number of pictures of each class; adds the name, size and modification time of each to `digest`."""
    counts = dict.fromkeys(classes, 0)
    for name in classes:
        for path in pictures.of_class(name, left_out):
            stat = path.stat()
            entry = [split, str(path.relative_to(pictures.folder)), stat.st_size, stat.st_mtime_ns]
            digest.update(json.dumps(entry).encode())
            counts[name] += 1
    return counts


def pictures_below(folder: Path, extensions: tuple[str, ...], left_out: Counter[str]) -> Iterator[Path]:
    """The files in `folder` and below with one of `extensions`, by name; counts others in `left_out`.

    Raises OSError.
    """
    for parent, files in sorted(_walk(folder, left_out)):
        for file in sorted(files):
            if _is_system(file):
                left_out["hidden or system file"] += 1
            elif file.lower().endswith(extensions):
                yield Path(parent) / file
            else:
                left_out[f"{Path(file).suffix.lower() or 'other'} file"] += 1


def _walk(folder: Path, left_out: Counter[str]) -> Iterator[tuple[str, list[str]]]:
    """Each folder below and its files, once: a symbolic link may lead back up, also above, and to another
    class. Raises OSError."""
    visited = {_identity(above) for above in folder.resolve().parents}
    classes = folder.parent.resolve()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=_raise):
        here, identity = Path(parent), _identity(parent)
        inside = here != folder and here.is_symlink() and here.resolve().is_relative_to(classes)
        if inside or identity in visited:
            left_out["duplicate folder link"] += 1
            folders.clear()
            continue
        visited.add(identity)
        for name in filter(_is_system, list(folders)):
            folders.remove(name)
            left_out["hidden or system file"] += 1
        yield parent, files


def _identity(folder: str | Path) -> tuple[int, int]:
    stat = os.stat(folder)
    return stat.st_dev, stat.st_ino


def _raise(error: OSError) -> None:
    raise error


def picture_extensions() -> tuple[str, ...]:
    from torchvision.datasets.folder import IMG_EXTENSIONS

    return (*IMG_EXTENSIONS, ".gif")


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

        def readers(pictures: _Pictures) -> Iterator[tuple[str, Callable[[], bytes]]]:
            for name in listing.classes:
                for picture in pictures.of_class(name):
                    stop(f"while decoding {root}, which starts over")
                    bar.advance()
                    yield str(picture), picture.read_bytes

        def source(split: str) -> SplitSource:
            labels = np.repeat(np.arange(len(listing.classes)), listing.counts[split])
            return SplitSource(labels, lambda: decode_blocks(readers(listing.pictures[split]), transform))

        splits = {split: source(split) for split in listing.pictures}
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
    """`fit` to the size; adds what else was converted to `changes`; called by threads."""
    shape = config.channels, config.size, config.size

    def transform(picture: Image.Image) -> Image.Image:
        square, own_changes = fit(picture, shape)
        changes.extend(own_changes)
        return square

    return transform
