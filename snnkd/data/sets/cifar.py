"""CIFAR-10 and CIFAR-100 through torchvision's classes, which verify each file's checksum before it is read."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from snnkd.console import Console
from snnkd.data.download.archives import Archive, Way
from snnkd.data.download.fetch import fetch
from snnkd.data.folder import data_folder
from snnkd.data.imageset import ImageSet, from_arrays
from snnkd.errors import FileError
from snnkd.files import from_os_error, replacing
from snnkd.locks import dataset_lock
from snnkd.schema.data import DataConfig

CLASSES = {"cifar10": 10, "cifar100": 100}


def load(config: DataConfig, console: Console, way: Way | None = None) -> ImageSet:
    """The data set from SNNKD_DATA, brought there when absent; a folder that torchvision made is used as it is.

    Raises FileError when it is neither there nor can be fetched.
    """
    name, root = config.name, data_folder()
    kind = dataset_class(name)
    try:
        made = _read(kind, root)
    except (RuntimeError, OSError) as error:
        if way is None:
            raise FileError(
                f"{kind.__name__} is not under {root}; it will be downloaded when needed, or {_remedy(kind)}"
            ) from error
        with dataset_lock(root, name, way.stop, console):
            made = _fetched(kind, root, way, console)
    splits = {split: (images.data, np.asarray(images.targets)) for split, images in made.items()}
    return from_arrays(
        name, CLASSES[name], splits, files=tuple(root / kind.base_folder / file for file in _files(kind))
    )


def dataset_class(name: str) -> Any:
    from torchvision import datasets

    return {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]


def archive(kind: Any) -> Archive:
    """The archive as torchvision knows it."""
    return Archive(kind.filename, kind.url, md5=kind.tgz_md5)


def _read(kind: Any, root: Path) -> dict[str, Any]:
    """Torchvision's data sets. Raises RuntimeError when a file is missing or has another checksum than published."""
    return {split: kind(root, train=split == "train", download=False) for split in ("train", "test")}


def _fetched(kind: Any, root: Path, way: Way, console: Console) -> dict[str, Any]:
    try:
        return _read(kind, root)  # another process has fetched it meanwhile
    except (RuntimeError, OSError):
        pass
    console.log(f"{kind.__name__} is not under {root} (or is damaged there)")
    try:
        unpacked = _unpacked_copy(kind, way.source)
        if unpacked is not None:
            for file in _files(kind):
                with (unpacked / file).open("rb") as original:
                    _place(original, root / kind.base_folder / file, way)
        else:
            _unpack(fetch(archive(kind), root, way, console), kind, root, way)
        return _read(kind, root)
    except OSError as error:
        raise from_os_error(error, error.filename or root) from error
    except RuntimeError as error:
        raise FileError(
            f"{kind.__name__}: what was put under {root} is not whole ({error}); {_remedy(kind)}"
        ) from error


def _unpacked_copy(kind: Any, source: Path | None) -> Path | None:
    """The unpacked files, whole by their checksums, in a folder of the user's; None where there are none."""
    for folder in (source, source / kind.base_folder) if source is not None else ():
        if not all((folder / file).is_file() for file in _files(kind)):
            continue
        from torchvision.datasets.utils import check_md5

        for file, md5 in _files(kind).items():
            if not check_md5(folder / file, md5):
                raise FileError(
                    f"--from {source}: {folder / file} is damaged: its md5 is not the published {md5}"
                )
        return folder
    return None


def _unpack(packed: Path, kind: Any, root: Path, way: Way) -> None:
    with tarfile.open(packed) as tar:
        for file in _files(kind):
            content = tar.extractfile(f"{kind.base_folder}/{file}")
            if content is None:
                raise FileError(f"{packed}: {file} in it is no file")
            _place(content, root / kind.base_folder / file, way)


def _place(content: Any, path: Path, way: Way) -> None:
    way.stop(f"before writing {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        shutil.copyfileobj(content, file, 2**20)


def _files(kind: Any) -> dict[str, str]:
    """The unpacked files and their md5."""
    return {**dict(kind.train_list), **dict(kind.test_list), kind.meta["filename"]: kind.meta["md5"]}


def _remedy(kind: Any) -> str:
    return f"put {kind.filename} there or set SNNKD_DATA to a folder that holds {kind.base_folder}/"
