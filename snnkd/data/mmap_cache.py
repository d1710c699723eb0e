"""Decoded images in one file that is mapped into memory: written once in blocks, then read by the page.

NAME.bin holds the uint8 pixels `[N, C, H, W]` of all splits in turn, then the labels, int64 little-endian. NAME.json is
written last and makes it whole: sizes, the sha256 of images and labels, and the file's stamp. As long as the stamp fits
(length, times of the last change of content and of the inode, inode), the sha256 is believed: no program can change the
bytes without changing the inode's time, which, unlike that of the content, cannot be set back. With another stamp, such
as that of a copied folder, the whole file is read and compared first; with other bytes it is made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from snnkd.data.imageset import BLOCK, ImageSet, Split
from snnkd.errors import FileError
from snnkd.files import from_os_error, read_json, replacing, write_json

SPLITS = ("train", "test", "val")


@dataclass(frozen=True)
class Part:
    """One split to be written: labels int64 `[N]`, and its images in blocks uint8 `[n, H, W, C]`, which come when asked for."""

    labels: np.ndarray
    blocks: Callable[[], Iterable[np.ndarray]]


@dataclass(frozen=True)
class _About:
    """What NAME.json says."""

    shape: tuple[int, int, int]
    classes: int
    counts: Mapping[str, int]
    sha256: str
    stamp: Sequence[int]

    @property
    def pixels(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return sum(self.counts.values()) * (self.pixels + 8)


def write_store(path: Path, shape: tuple[int, int, int], classes: int, parts: Mapping[str, Part]) -> None:
    """Write `path` (.bin) and its .json; `shape` is channels, height, width; the folder must be there.

    Raises FileError or RunError for the place.

    Killed at any point it leaves nothing that `open_store` would take.
    """
    marker = path.with_suffix(".json")
    try:
        marker.unlink(missing_ok=True)
        digest = hashlib.sha256()
        with replacing(path) as file:
            for name, part in parts.items():
                _write_images(file, digest, name, part, shape)
                digest.update(part.labels.astype("<i8").tobytes())
            for part in parts.values():
                file.write(part.labels.astype("<i8").tobytes())
        counts = {name: len(part.labels) for name, part in parts.items()}
        _write_about(marker, _About(shape, classes, counts, digest.hexdigest(), _stamp(path)))
    except OSError as error:
        raise from_os_error(error, error.filename or path) from error


def _write_images(file: IO[bytes], digest: Any, name: str, part: Part, shape: tuple[int, int, int]) -> None:
    channels, height, width = shape
    count = 0
    for block in part.blocks():
        if block.dtype != np.uint8 or block.shape[1:] != (height, width, channels):
            raise ValueError(
                f"a block of {name} is {block.dtype} {block.shape}, not images of {height}x{width}x{channels}"
            )
        digest.update(np.ascontiguousarray(block).data.cast("B"))
        file.write(np.ascontiguousarray(block.transpose(0, 3, 1, 2)).data.cast("B"))
        count += len(block)
    if count != len(part.labels):
        raise ValueError(f"{count} images for {len(part.labels)} labels of {name}")


def open_store(path: Path, name: str) -> ImageSet | None:
    """The data set in `path`, its images mapped and not read; None when there is none, or none that is whole."""
    about = _read_about(path.with_suffix(".json"))
    try:
        if about is None or path.stat().st_size != about.bytes:
            return None
        if list(about.stamp) != _stamp(path):
            if _digest(path, about) != about.sha256:
                return None
            _restamp(path, about)
        made = _mapped(path, about)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise from_os_error(error, path) from error
    if any(
        len(split) and not 0 <= int(split.labels.min()) <= int(split.labels.max()) < about.classes
        for split in made.values()
    ):
        return None
    files = (path,)
    return ImageSet(
        name,
        about.classes,
        made["train"],
        made["test"],
        made.get("val"),
        about.sha256,
        files=files,
        mapped=True,
    )


def _mapped(path: Path, about: _About) -> dict[str, Split]:
    count = sum(about.counts.values())
    # copy on write: torch wants memory that may be written, and what is written never reaches the file
    images = torch.from_numpy(np.memmap(path, np.uint8, "c", 0, (count, *about.shape)))
    with path.open("rb") as file:
        file.seek(count * about.pixels)
        labels = torch.from_numpy(np.frombuffer(file.read(), "<i8").astype(np.int64))
    made, start = {}, 0
    for split, length in about.counts.items():
        part = slice(start, start + length)
        made[split] = Split(images[part], labels[part])
        start += length
    return made


def _digest(path: Path, about: _About) -> str:
    """As `imageset.from_arrays` has it, over images `[N, H, W, C]` and labels, read in blocks."""
    digest, total = hashlib.sha256(), sum(about.counts.values())
    with path.open("rb") as file:
        for place, labels_at, length in _places(about, total):
            file.seek(place)
            for start in range(0, length, BLOCK):
                raw = file.read(min(BLOCK, length - start) * about.pixels)
                block = np.frombuffer(raw, np.uint8).reshape(-1, *about.shape)
                digest.update(np.ascontiguousarray(block.transpose(0, 2, 3, 1)).data.cast("B"))
            file.seek(labels_at)
            digest.update(file.read(8 * length))
    return digest.hexdigest()


def _places(about: _About, total: int) -> Iterator[tuple[int, int, int]]:
    """Of each split: where its images begin, where its labels, and how many there are."""
    start = 0
    for length in about.counts.values():
        yield start * about.pixels, total * about.pixels + 8 * start, length
        start += length


def _stamp(path: Path) -> list[int]:
    about = os.stat(path)
    return [about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino]


def _restamp(path: Path, about: _About) -> None:
    """Believe these bytes from now on; where nothing can be written they are compared each time."""
    with contextlib.suppress(OSError):
        _write_about(path.with_suffix(".json"), replace(about, stamp=_stamp(path)))


def _write_about(marker: Path, about: _About) -> None:
    plain = {"shape": list(about.shape), "classes": about.classes, "images": dict(about.counts)}
    said = {"schema": 1, **plain, "sha256": about.sha256, "stamp": list(about.stamp)}
    write_json(marker, {**said, "check": _check(said)})


def _check(said: Mapping[str, Any]) -> str:
    """What tells a damaged NAME.json: a changed digit of the sha256 would make these other data."""
    return hashlib.sha256(json.dumps({**said, "check": None}, sort_keys=True).encode()).hexdigest()


def _read_about(marker: Path) -> _About | None:
    """None when there is none, or when it was damaged."""
    try:
        held = read_json(marker)
        shape, counts, stamp = tuple(held["shape"]), dict(held["images"]), list(held["stamp"])
        numbers = [*shape, *counts.values(), held["classes"], *stamp]
    except (FileError, KeyError, TypeError, ValueError):
        return None
    whole = all(type(number) is int and number >= 0 for number in numbers)
    fits = (
        len(shape) == 3
        and all(shape)
        and list(counts) in (list(SPLITS[:2]), list(SPLITS))
        and isinstance(held.get("sha256"), str)
    )
    if (
        held.get("check") != _check(held)
        or not whole
        or not fits
        or not all(counts.values())
        or held["classes"] < 2
    ):
        return None
    return _About(shape, held["classes"], counts, held["sha256"], stamp)


def concatenated(images: Iterable[np.ndarray], size: int = 256) -> Iterator[np.ndarray]:
    """Single images `[H, W, C]` as blocks `[up to size, H, W, C]`."""
    block: list[np.ndarray] = []
    for image in images:
        block.append(image)
        if len(block) == size:
            yield np.stack(block)
            block = []
    if block:
        yield np.stack(block)
