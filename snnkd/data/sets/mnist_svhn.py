"""MNIST, Fashion-MNIST and SVHN, parsed by torchvision."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from snnkd.console import Console
from snnkd.data.download.archives import BLOCK, Archive, FetchOptions, is_intact
from snnkd.data.download.fetch import fetch_archives, find_copies
from snnkd.data.imageset import ImageSet, from_arrays
from snnkd.errors import FileError
from snnkd.files import data_folder, from_os_error, replacing
from snnkd.locks import dataset_lock
from snnkd.schema.data import DataConfig

Arrays = dict[str, tuple[np.ndarray, np.ndarray]]
UNPACKED_MD5 = {
    "mnist": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "fashion-mnist": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
}
"""The unpacked files of each data set; torchvision knows only the archives' checksums."""


@dataclass(frozen=True)
class _Dataset:
    """Where the files of a data set are stored, and functions that check, read and fetch them."""

    folder: Path
    archives: tuple[Archive, ...]
    files: tuple[Path, ...]
    is_complete: Callable[[], bool]
    read: Callable[[], Arrays]
    fetch: Callable[[FetchOptions, Console], object]
    check_source: Callable[[Path], object]
    """Raises FileError for a `--from` without the published files."""


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
    elif fetch is not None and fetch.source is not None:
        dataset.check_source(fetch.source)
        console.log(f"{name} is intact under {root}; nothing copied from {fetch.source}")
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
    """The published archives, with torchvision's checksums."""
    first, *others = kind.mirrors
    return tuple(
        Archive(
            file,
            f"{first}{file}",
            md5=md5,
            mirrors=tuple(f"{url}{file}" for url in others),
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
    folder, archives, md5s = root / kind.__name__ / "raw", mnist_archives(kind), UNPACKED_MD5[name]

    def fetch_files(fetch: FetchOptions, console: Console) -> None:
        unpacked = _find_unpacked(name, fetch.source)
        if unpacked:
            folder.mkdir(parents=True, exist_ok=True)
            for path in unpacked:
                fetch.stop(f"before copying {path}")
                with path.open("rb") as content:
                    _write(content, folder / path.name)
            return
        for packed in fetch_archives(archives, folder, fetch, console):
            with gzip.open(packed) as content:
                _write(content, packed.with_suffix(""))

    def check_source(source: Path) -> None:
        if not _find_unpacked(name, source):
            find_copies(archives, source)

    return _Dataset(
        folder,
        archives,
        tuple(folder / file for file in md5s),
        lambda: all(_has_md5(folder / file, md5) for file, md5 in md5s.items()),
        lambda: _read_idx(folder),
        fetch_files,
        check_source,
    )


def _read_idx(folder: Path) -> Arrays:
    """The images and labels of both splits from the verified unpacked files.

    torchvision's class would prefer processed/*.pt of its old versions, which have no checksum.
    """
    from torchvision.datasets.mnist import read_image_file, read_label_file

    return {
        split: (
            read_image_file(str(folder / f"{prefix}-images-idx3-ubyte")).numpy(),
            read_label_file(str(folder / f"{prefix}-labels-idx1-ubyte")).numpy(),
        )
        for split, prefix in (("train", "train"), ("test", "t10k"))
    }


def _find_unpacked(data: str, source: Path | None) -> list[Path]:
    """The user's unpacked files, by their checksums; empty when one of them is not there.

    Raises FileError for a file of the right name and other content: MNIST and Fashion-MNIST use the same
    names.
    """
    unpacked: list[Path] = []
    if source is None or not source.is_dir():
        return unpacked
    for name, md5 in UNPACKED_MD5[data].items():
        paths = sorted(path for path in source.rglob(name) if path.is_file())
        match = next((path for path in paths if _has_md5(path, md5)), None)
        if match is None and paths and not any(source.rglob(f"{name}.gz")):
            raise FileError(f"--from {source}: {paths[0]} is damaged or not of {data}; its md5 is not {md5}")
        if match is None:
            return []
        unpacked.append(match)
    return unpacked


def _has_md5(path: Path, md5: str) -> bool:
    return is_intact(path, Archive(path.name, "", md5=md5))


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
        lambda source: find_copies(archives, source),
    )
