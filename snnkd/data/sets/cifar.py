"""CIFAR-10 and CIFAR-100 through torchvision's classes, which verify the checksum of each file."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from snnkd.console import Console
from snnkd.data.download.archives import Archive, FetchOptions
from snnkd.data.download.fetch import fetch_archive, find_copies
from snnkd.data.imageset import ImageSet, from_arrays
from snnkd.errors import FileError
from snnkd.files import data_folder, from_os_error, replacing
from snnkd.locks import dataset_lock
from snnkd.schema.data import DataConfig

CLASSES = {"cifar10": 10, "cifar100": 100}


def load(config: DataConfig, console: Console, fetch: FetchOptions | None = None) -> ImageSet:
    """The data set from SNNKD_DATA, fetched when missing; a folder written by torchvision is used as it is.

    Raises FileError when it is missing and cannot be fetched.
    """
    name, root = config.name, data_folder()
    kind = dataset_class(name)
    try:
        splits = _read(kind, root)
    except (RuntimeError, OSError) as error:
        if fetch is None:
            raise FileError(
                f"{kind.__name__} is not under {root}; training downloads it, or {_remedy(kind)}"
            ) from error
        with dataset_lock(root, name, fetch.stop, console):
            splits = _fetch(kind, root, fetch, console)
    else:
        if fetch is not None and fetch.source is not None:
            if _find_unpacked(kind, fetch.source) is None:
                find_copies([archive(kind)], fetch.source)
            console.log(f"{name} is intact under {root}; nothing copied from {fetch.source}")
    arrays = {split: (images.data, np.asarray(images.targets)) for split, images in splits.items()}
    files = tuple(root / kind.base_folder / file for file in _checksums(kind))
    return from_arrays(name, CLASSES[name], arrays, files=files)


def dataset_class(name: str) -> Any:
    """The class of torchvision."""
    from torchvision import datasets

    return {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]


def archive(kind: Any) -> Archive:
    """The published archive, with torchvision's checksum."""
    return Archive(kind.filename, kind.url, md5=kind.tgz_md5)


def _read(kind: Any, root: Path) -> dict[str, Any]:
    """torchvision's data sets. Raises RuntimeError when a file is missing or its checksum is wrong."""
    return {split: kind(root, train=split == "train", download=False) for split in ("train", "test")}


def _fetch(kind: Any, root: Path, fetch: FetchOptions, console: Console) -> dict[str, Any]:
    try:
        return _read(kind, root)  # another process fetched it while this one waited
    except (RuntimeError, OSError):
        pass
    console.log(f"{kind.__name__} is missing or damaged under {root}")
    try:
        unpacked = _find_unpacked(kind, fetch.source)
        if unpacked is not None:
            for file in _checksums(kind):
                with (unpacked / file).open("rb") as original:
                    _write(original, root / kind.base_folder / file, fetch)
        else:
            _unpack(fetch_archive(archive(kind), root, fetch, console), kind, root, fetch)
        return _read(kind, root)
    except OSError as error:
        raise from_os_error(error, error.filename or root) from error
    except RuntimeError as error:
        raise FileError(
            f"{kind.__name__}: the files under {root} are incomplete ({error}); {_remedy(kind)}"
        ) from error


def _find_unpacked(kind: Any, source: Path | None) -> Path | None:
    """The user's folder of unpacked files, or None. Raises FileError for damaged files."""
    for folder in (source, source / kind.base_folder) if source is not None else ():
        if not all((folder / file).is_file() for file in _checksums(kind)):
            continue
        from torchvision.datasets.utils import check_md5

        for file, md5 in _checksums(kind).items():
            if not check_md5(folder / file, md5):
                raise FileError(f"--from {source}: {folder / file} is damaged; its md5 is not {md5}")
        return folder
    return None


def _unpack(packed: Path, kind: Any, root: Path, fetch: FetchOptions) -> None:
    with tarfile.open(packed) as tar:
        for file in _checksums(kind):
            content = tar.extractfile(f"{kind.base_folder}/{file}")
            if content is None:
                raise FileError(f"{packed}: the archive has no regular file {file}")
            _write(content, root / kind.base_folder / file, fetch)


def _write(content: Any, path: Path, fetch: FetchOptions) -> None:
    fetch.stop(f"before writing {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        shutil.copyfileobj(content, file, 2**20)


def _checksums(kind: Any) -> dict[str, str]:
    """The unpacked files and their md5."""
    return {**dict(kind.train_list), **dict(kind.test_list), kind.meta["filename"]: kind.meta["md5"]}


def _remedy(kind: Any) -> str:
    return f"put {kind.filename} there, or set SNNKD_DATA to a folder with {kind.base_folder}/"
