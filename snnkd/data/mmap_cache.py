"""Decoded images in one memory-mapped file: written once in blocks, then read page by page.

NAME.bin holds the uint8 pixels `[N, C, H, W]` of all splits in turn, then the labels, int64 little-endian.
NAME.json is written last and completes it: shape, counts, the sha256 of images and labels, and the file's
stat (size, mtime, ctime, inode). While the stat is unchanged, the sha256 is trusted without reading the
pixels: no program can change the bytes without changing ctime, which, unlike mtime, cannot be set back.
Otherwise, as for a copied folder, the whole file is hashed first; if it differs, the images are decoded
again.
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

from snnkd.data.imageset import ImageSet
from snnkd.data.split import BLOCK, Split
from snnkd.errors import FileError
from snnkd.files import check_guard, from_os_error, read_json, replacing, sweep, write_json

SPLITS = ("train", "test", "val")


@dataclass(frozen=True)
class SplitSource:
    """A split to write: labels int64 `[N]` and a function that yields its images as uint8 `[n, H, W, C]`."""

    labels: np.ndarray
    blocks: Callable[[], Iterable[np.ndarray]]


@dataclass(frozen=True)
class _Header:
    """The content of NAME.json."""

    shape: tuple[int, int, int]
    classes: int
    counts: Mapping[str, int]
    sha256: str
    stat: Sequence[int]
    source: str
    """Checksum of the archive or path of the folder that the images are from; may be empty."""

    @property
    def pixels(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return sum(self.counts.values()) * (self.pixels + 8)


def write_cache(
    path: Path,
    shape: tuple[int, int, int],
    classes: int,
    splits: Mapping[str, SplitSource],
    source: str = "",
) -> None:
    """Write `path` (.bin) and its .json; `shape` is channels, height, width; the folder must exist.

    `source` is the checksum of the archive or the path of the folder that the images are from.

    Killed at any point it leaves nothing that `open_cache` accepts. Raises FileError or RunError when the
    folder cannot be written, ValueError when the blocks do not match `shape` or the labels.
    """
    header_path = path.with_suffix(".json")
    try:
        check_guard(path)
        header_path.unlink(missing_ok=True)
        sweep(path.parent)
        digest = hashlib.sha256()
        with replacing(path) as file:
            for name, split in splits.items():
                _write_images(file, digest, name, split, shape)
                digest.update(split.labels.astype("<i8").tobytes())
            for split in splits.values():
                file.write(split.labels.astype("<i8").tobytes())
        counts = {name: len(split.labels) for name, split in splits.items()}
        _write_header(header_path, _Header(shape, classes, counts, digest.hexdigest(), _stat(path), source))
    except OSError as error:
        raise from_os_error(error, error.filename or path) from error


def _write_images(
    file: IO[bytes], digest: Any, name: str, split: SplitSource, shape: tuple[int, int, int]
) -> None:
    channels, height, width = shape
    count = 0
    for block in split.blocks():
        if block.dtype != np.uint8 or block.shape[1:] != (height, width, channels):
            raise ValueError(
                f"a block of {name} is {block.dtype} {block.shape}, not images of {height}x{width}x{channels}"
            )
        digest.update(np.ascontiguousarray(block).data.cast("B"))
        file.write(np.ascontiguousarray(block.transpose(0, 3, 1, 2)).data.cast("B"))
        count += len(block)
    if count != len(split.labels):
        raise ValueError(f"{count} images for {len(split.labels)} labels of {name}")


def open_cache(path: Path, name: str, source: str | None = None) -> ImageSet | None:
    """The data set in `path`, memory-mapped; None when the cache is missing, incomplete or damaged.

    With `source`, also None unless it was written from there.
    """
    header = _read_header(path.with_suffix(".json"))
    try:
        if header is None or source not in (None, header.source) or path.stat().st_size != header.bytes:
            return None
        if list(header.stat) != _stat(path):
            if _digest(path, header) != header.sha256:
                return None
            _update_stat(path, header)
        splits = _map_splits(path, header)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise from_os_error(error, path) from error
    if any(
        len(split) and not 0 <= int(split.labels.min()) <= int(split.labels.max()) < header.classes
        for split in splits.values()
    ):
        return None
    train, test, val = splits["train"], splits["test"], splits.get("val")
    return ImageSet(name, header.classes, train, test, val, header.sha256, files=(path,), mapped=True)


def _map_splits(path: Path, header: _Header) -> dict[str, Split]:
    count = sum(header.counts.values())
    # copy-on-write: torch requires writable memory, and writes never reach the file
    images = torch.from_numpy(np.memmap(path, np.uint8, "c", 0, (count, *header.shape)))
    with path.open("rb") as file:
        file.seek(count * header.pixels)
        labels = torch.from_numpy(np.frombuffer(file.read(), "<i8").astype(np.int64))
    splits, start = {}, 0
    for split, length in header.counts.items():
        rows = slice(start, start + length)
        splits[split] = Split(images[rows], labels[rows])
        start += length
    return splits


def _digest(path: Path, header: _Header) -> str:
    """The sha256 of `imageset.from_arrays`, over images `[N, H, W, C]` and labels, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for images_at, labels_at, length in _offsets(header):
            file.seek(images_at)
            for start in range(0, length, BLOCK):
                raw = file.read(min(BLOCK, length - start) * header.pixels)
                block = np.frombuffer(raw, np.uint8).reshape(-1, *header.shape)
                digest.update(np.ascontiguousarray(block.transpose(0, 2, 3, 1)).data.cast("B"))
            file.seek(labels_at)
            digest.update(file.read(8 * length))
    return digest.hexdigest()


def _offsets(header: _Header) -> Iterator[tuple[int, int, int]]:
    """For each split the offset of its images, the offset of its labels, and its length."""
    start, total = 0, sum(header.counts.values())
    for length in header.counts.values():
        yield start * header.pixels, total * header.pixels + 8 * start, length
        start += length


def _stat(path: Path) -> list[int]:
    stat = os.stat(path)
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _update_stat(path: Path, header: _Header) -> None:
    """Trust these bytes from now on; in a read-only folder they are hashed at every start."""
    with contextlib.suppress(OSError):
        _write_header(path.with_suffix(".json"), replace(header, stat=_stat(path)))


def _write_header(path: Path, header: _Header) -> None:
    content = {
        "schema": 1,
        "shape": list(header.shape),
        "classes": header.classes,
        "images": dict(header.counts),
        "sha256": header.sha256,
        "source": header.source,
        "stamp": list(header.stat),
    }
    write_json(path, {**content, "check": _checksum(content)})


def _checksum(content: Mapping[str, Any]) -> str:
    """Detects a damaged NAME.json: with one digit of its sha256 changed, these would be different data."""
    return hashlib.sha256(json.dumps({**content, "check": None}, sort_keys=True).encode()).hexdigest()


def _read_header(path: Path) -> _Header | None:
    """None when the file is missing or damaged."""
    try:
        content = read_json(path)
        shape, counts, stat = tuple(content["shape"]), dict(content["images"]), list(content["stamp"])
        numbers = [*shape, *counts.values(), content["classes"], *stat]
    except (FileError, KeyError, TypeError, ValueError):
        return None
    valid = (
        content.get("check") == _checksum(content)
        and all(type(number) is int and number >= 0 for number in numbers)
        and len(shape) == 3
        and all(shape)
        and list(counts) in (list(SPLITS[:2]), list(SPLITS))
        and all(counts.values())
        and content["classes"] >= 2
        and isinstance(content.get("sha256"), str)
        and isinstance(content.get("source"), str)
    )
    if not valid:
        return None
    return _Header(shape, content["classes"], counts, content["sha256"], stat, content["source"])
