"""Your own data: one npz file with MedMNIST's key names."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from snnkd.console import Console
from snnkd.data.download.archives import Way
from snnkd.data.imageset import ImageSet, from_arrays
from snnkd.errors import FileError
from snnkd.files import open_npz
from snnkd.schema.data import DataConfig

SPLITS = ("train", "test", "val")


def load(config: DataConfig, console: Console, way: Way | None = None) -> ImageSet:
    """Read `npz:PATH`: train_images, train_labels, test_images, test_labels, perhaps val_images and val_labels.

    Images are uint8 `[N, H, W]` (grey) or `[N, H, W, 3]`, labels whole numbers from 0, `[N]` or `[N, 1]`. Further
    keys are ignored. Raises FileError that names the key and the rule; nothing in the file is ever unpickled.
    """
    path = Path(config.name.partition(":")[2])
    with open_npz(path) as file:
        splits = {name: read_split(file, name, path) for name in SPLITS if has_split(file.files, name, path)}
    return dataclasses.replace(checked(str(path), f"npz:{path}", splits, console), files=(path,))


def checked(
    where: str, name: str, splits: dict[str, tuple[np.ndarray, np.ndarray]], console: Console
) -> ImageSet:
    """The ImageSet `name` of these arrays. Raises FileError, beginning with `where`, for labels or sizes that do not fit."""
    data = _checked(where, name, splits)
    absent = sorted(set(range(data.classes)) - set(np.unique(splits["train"][1]).tolist()))
    if absent:
        shown = ", ".join(map(str, absent[:10])) + (", ..." if len(absent) > 10 else "")
        console.log(
            f"warning: {where}: no training image of {len(absent)} of {data.classes} classes ({shown})"
        )
    return data


def has_split(keys: Collection[str], split: str, path: Path | str) -> bool:
    """Whether both arrays of a split are there; raises FileError when one is, or when a split that must be is not."""
    present = [f"{split}_{part}" in keys for part in ("images", "labels")]
    if split == "val" and not any(present):
        return False
    for part, there in zip(("images", "labels"), present, strict=True):
        if not there:
            raise FileError(
                f"{path}: lacks the key {split + '_' + part!r}; it has {', '.join(keys) or 'none'}"
            )
    return True


def read_split(file: Mapping[str, np.ndarray], split: str, path: Path | str) -> tuple[np.ndarray, np.ndarray]:
    images, labels = file[f"{split}_images"], file[f"{split}_labels"]
    for part, value in (("images", images), ("labels", labels)):
        if not isinstance(value, np.ndarray):  # numpy hands out other members of a zip file as bytes
            shown = repr(value[:20]) if isinstance(value, bytes) else type(value).__name__
            raise FileError(f"{path}: {split}_{part} is {shown}, not an array; it must be in numpy's format")
    if images.dtype != np.uint8:
        raise FileError(f"{path}: {split}_images are {images.dtype}; they must be uint8, 0 to 255")
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)) or 0 in images.shape:
        raise FileError(
            f"{path}: {split}_images have shape {images.shape}; they must be (N, H, W) or (N, H, W, 3)"
        )
    if labels.dtype.kind not in "iu":
        raise FileError(f"{path}: {split}_labels are {labels.dtype}; they must be whole numbers")
    if labels.shape not in ((len(images),), (len(images), 1)):
        raise FileError(
            f"{path}: {split}_labels have shape {labels.shape} for {len(images)} images; they must be (N,) or (N, 1)"
        )
    return images, labels.reshape(-1)


def _checked(path: str, name: str, splits: dict[str, tuple[np.ndarray, np.ndarray]]) -> ImageSet:
    classes = int(splits["train"][1].max()) + 1
    if classes < 2 or classes > 100_000:
        raise FileError(
            f"{path}: train_labels reach {classes - 1}; there must be 2 to 100000 classes, numbered from 0"
        )
    for split, (images, labels) in splits.items():
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= classes:
            raise FileError(
                f"{path}: {split}_labels hold {low if low < 0 else high}; the training labels are 0 to {classes - 1}"
            )
        if images.shape[1:] != splits["train"][0].shape[1:]:
            raise FileError(
                f"{path}: {split}_images are {images.shape[1:]}, the training images {splits['train'][0].shape[1:]}"
            )
    return from_arrays(name, classes, splits)
