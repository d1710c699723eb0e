"""CIFAR-10 and CIFAR-100 through torchvision's classes, which verify checksums before anything is unpacked."""

from __future__ import annotations

from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np

from snnkd.data.folder import data_folder
from snnkd.data.imageset import ImageSet, from_arrays
from snnkd.errors import PlaceError
from snnkd.recipe.data_schema import DataConfig
from snnkd.report import Reporter

CLASSES = {"cifar10": 10, "cifar100": 100}


def load(config: DataConfig, report: Reporter, fetch: bool = True) -> ImageSet:
    """The data set from SNNKD_DATA, downloaded there when absent; a folder that torchvision made is used as it is.

    Raises PlaceError when it is neither there nor can be fetched.
    """
    name, root = config.name, data_folder()
    kind = _dataset_class(name)
    splits = {split: _arrays(kind, root, split == "train", report, fetch) for split in ("train", "test")}
    return from_arrays(name, CLASSES[name], splits)


def _dataset_class(name: str) -> Any:
    from torchvision import datasets

    return {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]


def _arrays(kind: Any, root: Path, train: bool, report: Reporter, fetch: bool) -> tuple[np.ndarray, np.ndarray]:
    try:
        held = kind(root, train=train, download=False)
    except (RuntimeError, OSError) as error:
        if not fetch:
            raise PlaceError(f"{kind.__name__} is not under {root}; it will be downloaded when needed, or {_remedy(kind)}") from error
        held = _download(kind, root, train, report)
    return held.data, np.asarray(held.targets)


def _download(kind: Any, root: Path, train: bool, report: Reporter) -> Any:
    from torchvision.datasets import utils

    report.note(f"{kind.__name__} is not under {root} (or is damaged there): downloading it")
    try:
        root.mkdir(parents=True, exist_ok=True)
        # not `download=True`, which leaves a damaged metadata file as it is when the batches beside it are whole
        utils.download_and_extract_archive(kind.url, root, filename=kind.filename, md5=kind.tgz_md5)
        return kind(root, train=train, download=False)
    except (RuntimeError, OSError, EOFError, HTTPException) as error:
        raise PlaceError(
            f"{kind.__name__} is not under {root} and could not be downloaded ({_one_line(error)}); offline, {_remedy(kind)}"
        ) from error


def _remedy(kind: Any) -> str:
    return f"put {kind.filename} there or set SNNKD_DATA to a folder that holds {kind.base_folder}/"


def _one_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
