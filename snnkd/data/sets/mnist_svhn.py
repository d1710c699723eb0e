"""MNIST, Fashion-MNIST and SVHN, parsed by torchvision."""

from __future__ import annotations

import gzip
import math
import shutil
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from snnkd.console import Console
from snnkd.data.download.archives import BLOCK, Archive, FetchOptions, is_intact
from snnkd.data.download.fetch import fetch_archives
from snnkd.data.imageset import ImageSet, from_arrays
from snnkd.data.paths import data_folder
from snnkd.errors import FileError
from snnkd.files import from_os_error, replacing, sha256
from snnkd.locks import dataset_lock
from snnkd.schema.data import DataConfig

Arrays = dict[str, tuple[np.ndarray, np.ndarray]]
GzipFile = tuple[Path, Archive, Path]
"""The path of an archive of MNIST, the archive, and the path of its unpacked file."""
ITEMS = {"train": 60_000, "t10k": 10_000}
"""Published number of images of MNIST and of Fashion-MNIST, by file name prefix."""


@dataclass(frozen=True)
class _Dataset:
    """Where the files of a data set are stored, and functions that check, read and fetch them."""

    folder: Path
    archives: tuple[Archive, ...]
    files: tuple[Path, ...]
    is_complete: Callable[[], bool]
    read: Callable[[], Arrays]
    fetch: Callable[[FetchOptions, Console], object]


def load(config: DataConfig, console: Console, fetch: FetchOptions | None = None) -> ImageSet:
    """The data set from SNNKD_DATA, fetched when missing; a folder written by torchvision is used as it is.

    Raises FileError when it is missing and cannot be fetched.
    """
    name, root = config.name, data_folder()
    dataset = _svhn(root) if name == "svhn" else _mnist(name, root)
    if not dataset.is_complete():
        names = ", ".join(archive.name for archive in dataset.archives)
        if fetch is None:
            raise FileError(
                f"{name} is not under {root}; training downloads it, or put {names} into {dataset.folder}"
            )
        with dataset_lock(root, name, fetch.stop, console):
            if not dataset.is_complete():  # another process may have fetched it while this one waited
                console.log(f"{name} is missing or damaged under {root}")
                dataset.fetch(fetch, console)
    try:
        return from_arrays(name, 10, dataset.read(), files=dataset.files)
    except OSError as error:
        raise from_os_error(error, error.filename or dataset.folder) from error
    except FileError:
        raise
    except Exception as error:  # torchvision's parser raises errors of many types
        raise FileError(
            f"{dataset.folder}: {name} cannot be read ({type(error).__name__}: {error}); remove it and repeat"
        ) from error


def mnist_archives(kind: Any) -> tuple[Archive, ...]:
    """The published archives, with torchvision's checksums and the number of images."""
    first, *others = kind.mirrors
    return tuple(
        Archive(
            file,
            f"{first}{file}",
            md5=md5,
            mirrors=tuple(f"{url}{file}" for url in others),
            items=ITEMS[file.partition("-")[0]],
        )
        for file, md5 in kind.resources
    )


def svhn_archives(kind: Any) -> tuple[Archive, ...]:
    """The published files, with torchvision's checksums, but for the rarely used extra training images."""
    return tuple(
        Archive(file, url, md5=md5) for url, file, md5 in (kind.split_list["train"], kind.split_list["test"])
    )


def _mnist(name: str, root: Path) -> _Dataset:
    from torchvision import datasets

    kind = {"mnist": datasets.MNIST, "fashion-mnist": datasets.FashionMNIST}[name]
    folder, archives = root / kind.__name__ / "raw", mnist_archives(kind)
    files = [
        (folder / archive.name, archive, folder / archive.name.removesuffix(".gz")) for archive in archives
    ]

    def fetch_files(fetch: FetchOptions, console: Console) -> None:
        unpacked = _find_unpacked(name, fetch.source, [path.name for *_, path in files])
        if unpacked:
            _copy_unpacked(name, unpacked, files, fetch, console)
            return
        fetch_archives(archives, folder, fetch, console)
        for packed, _, path in files:
            with gzip.open(packed) as content:
                _write(content, path)

    return _Dataset(
        folder,
        archives,
        tuple(path for *_, path in files),
        lambda: all(_is_unpacked(*file) for file in files),
        lambda: _read_idx(files),
        fetch_files,
    )


def _read_idx(files: Sequence[GzipFile]) -> Arrays:
    """The images and labels of both splits from the verified raw files.

    torchvision's class would prefer processed/*.pt of its old versions, which have no checksum.
    """
    from torchvision.datasets.mnist import read_image_file, read_label_file

    arrays = {"train": [np.empty(0)] * 2, "t10k": [np.empty(0)] * 2}
    for _, archive, path in files:
        split, content, *_ = path.name.split("-")
        labels = content == "labels"
        arrays[split][labels] = (read_label_file if labels else read_image_file)(str(path)).numpy()
        _check_items(len(arrays[split][labels]), archive, path)
    return {"train": (arrays["train"][0], arrays["train"][1]), "test": (arrays["t10k"][0], arrays["t10k"][1])}


def _check_items(count: int, archive: Archive, path: Path) -> None:
    if count != archive.items:
        raise FileError(
            f"{path} has {count:,} items, not the published {archive.items:,}; remove it and repeat"
        )


def _find_unpacked(data: str, source: Path | None, names: Sequence[str]) -> list[Path]:
    """The user's unpacked files; empty when one is missing, or when there are archives, which have checksums.

    Raises FileError when several files of one name differ: MNIST and Fashion-MNIST use the same names.
    """
    unpacked: list[Path] = []
    if source is None or not source.is_dir():
        return unpacked
    for name in names:
        packed = [path for path in source.rglob(f"{name}.gz") if path.is_file()]
        paths = sorted(path for path in source.rglob(name) if path.is_file())
        if packed or not paths:
            return []
        if len({sha256(path.read_bytes()) for path in paths}) > 1:
            raise FileError(
                f"--from {source}: different files of one name: {', '.join(map(str, paths))}; "
                f"give a folder with {data} only"
            )
        unpacked.append(paths[0])
    return unpacked


def _copy_unpacked(
    data: str, paths: Sequence[Path], files: Sequence[GzipFile], fetch: FetchOptions, console: Console
) -> None:
    """Copy the user's unpacked files after checking length, count and, against a stored archive, CRC."""
    damaged = []
    for path, (packed, archive, _) in zip(paths, files, strict=True):
        if not _length_fits(path):
            raise FileError(f"--from {fetch.source}: {path} is damaged: its length does not match its header")
        count = struct.unpack(">I", path.read_bytes()[4:8])[0]
        if count != archive.items:
            raise FileError(
                f"--from {fetch.source}: {path} has {count:,} items, not the published {archive.items:,}"
            )
        if not is_intact(packed, archive):
            damaged.append(packed)
        elif not _crc_matches(packed, path):
            raise FileError(
                f"--from {fetch.source}: {path} differs from the content of the published {packed}"
            )
    if damaged:
        console.log(
            f"warning: unpacked files have no published checksum; "
            f"that {fetch.source} contains {data} is not verified"
        )
    for path, (packed, _, target) in zip(paths, files, strict=True):
        fetch.stop(f"before copying {path}")
        target.parent.mkdir(parents=True, exist_ok=True)
        if packed in damaged:
            packed.unlink(missing_ok=True)  # otherwise the copy would be checked against it
        with path.open("rb") as content:
            _write(content, target)


def _is_unpacked(packed: Path, archive: Archive, path: Path) -> bool:
    """Whether the unpacked file is the content of its archive, or without one, as long as its header says.

    The archive is checked by its published checksum, the unpacked file by the CRC-32 and the length that end
    every gzip file.
    """
    try:
        if not packed.exists():
            return _length_fits(path)
        return is_intact(packed, archive) and _crc_matches(packed, path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise from_os_error(error, error.filename or path) from error


def _crc_matches(packed: Path, path: Path) -> bool:
    """Whether the CRC-32 and the length that end an intact gzip file are those of `path`. Raises OSError."""
    raw, trailer = path.read_bytes(), packed.read_bytes()[-8:]
    return struct.unpack("<II", trailer) == (zlib.crc32(raw), len(raw) % 2**32)


def _length_fits(path: Path) -> bool:
    """Whether the length fits the IDX header: 0, 0, 8 (uint8), number of dimensions, big-endian
    dimensions."""
    raw = path.read_bytes()
    try:
        dimensions = raw[3]
        shape = struct.unpack(f">{dimensions}I", raw[4 : 4 + 4 * dimensions])
    except (IndexError, struct.error):
        return False
    return raw[:3] == b"\0\0\x08" and len(raw) == 4 + 4 * dimensions + math.prod(shape)


def _write(content: Any, path: Path) -> None:
    try:
        with replacing(path) as file:
            shutil.copyfileobj(content, file, BLOCK)
    except OSError as error:
        raise from_os_error(error, error.filename or path) from error


def _svhn(root: Path) -> _Dataset:
    from torchvision.datasets import SVHN

    archives = svhn_archives(SVHN)

    def read() -> Arrays:
        splits = {split: SVHN(root, split=split, download=False) for split in ("train", "test")}
        return {split: (images.data.transpose(0, 2, 3, 1), images.labels) for split, images in splits.items()}

    files = tuple(root / archive.name for archive in archives)
    return _Dataset(
        root,
        archives,
        files,
        lambda: all(map(is_intact, files, archives)),
        read,
        lambda fetch, console: fetch_archives(archives, root, fetch, console),
    )
