"""Your own data: one npz file with the key names of MedMNIST."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from snnkd.console import Console
from snnkd.data.download.archives import FetchOptions
from snnkd.data.imageset import ImageSet, from_arrays
from snnkd.errors import FileError, UsageError, counted
from snnkd.files import open_npz, user_path
from snnkd.schema.data import NpzConfig

SPLITS = ("train", "test", "val")


def load(config: NpzConfig, console: Console, fetch: FetchOptions | None = None) -> ImageSet:
    """Read `npz:PATH`.

    Keys are train_images, train_labels, test_images, test_labels, optionally val_images and val_labels, and
    class_names, strings `[classes]`. Images are uint8 `[N, H, W]` (grey) or `[N, H, W, 3]`, or with
    `config.frames` event frames `[N, frames, 2, H, W]`, counts clipped at 255; labels are integers from 0,
    `[N]` or `[N, 1]`. Other keys are ignored, and nothing is ever unpickled. Raises FileError that names the
    key and the rule.
    """
    path = user_path(config.name.partition(":")[2])
    with open_npz(path) as file:
        splits = {name: read_split(file, name, path) for name in SPLITS if has_split(file.files, name, path)}
        names = read_class_names(file, path)
    check_frames(path, splits["train"][0], config.frames)
    return dataclasses.replace(to_image_set(str(path), f"npz:{path}", splits, names, console), files=(path,))


def to_image_set(
    where: str,
    name: str,
    splits: dict[str, tuple[np.ndarray, np.ndarray]],
    class_names: tuple[str, ...] | None,
    console: Console,
) -> ImageSet:
    """The ImageSet `name` of these arrays; warns of classes without training images.

    There are as many classes as `class_names`, else as the largest training label says. Raises FileError,
    prefixed with `where`, for invalid labels or sizes.
    """
    classes = _check_splits(where, splits, class_names)
    data = dataclasses.replace(from_arrays(name, classes, splits), class_names=class_names)
    absent = sorted(set(range(data.classes)) - set(np.unique(splits["train"][1]).tolist()))
    if absent:
        examples = ", ".join(map(str, absent[:10])) + (", ..." if len(absent) > 10 else "")
        console.log(
            f"warning: {where}: {len(absent)} of {data.classes} classes have no training image ({examples})"
        )
    return data


def check_frames(path: Path | str, images: np.ndarray, expected: int | None) -> None:
    """Raise UsageError unless `data.frames`, `expected`, is the number of event frames in the images."""
    frames = images.shape[1] if images.ndim == 5 else None
    if frames is None and expected is not None:
        raise UsageError(f"data.frames: {expected}, but {path} has still images; remove the key")
    if frames != expected:
        raise UsageError(
            f"data.frames: {path} has {counted(frames or 0, 'event frame')} per sample; "
            f"add --set data.frames={frames}"
        )


def has_split(keys: Collection[str], split: str, path: Path | str) -> bool:
    """Whether the keys of a split are present. Raises FileError for a key missing from a required split."""
    missing = [key for key in (f"{split}_images", f"{split}_labels") if key not in keys]
    if split == "val" and len(missing) == 2:
        return False
    if missing:
        raise FileError(f"{path}: lacks the key {missing[0]!r}; it has {', '.join(keys) or 'none'}")
    return True


def read_split(file: Mapping[str, np.ndarray], split: str, path: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """Images `[N, H, W]`, `[N, H, W, C]` or `[N, T, 2, H, W]`, and labels `[N]`.

    Raises FileError for a wrong type or shape.
    """
    images, labels = file[f"{split}_images"], file[f"{split}_labels"]
    for key, value in (("images", images), ("labels", labels)):
        if not isinstance(value, np.ndarray):  # numpy returns zip members in other formats as bytes
            content = repr(value[:20]) if isinstance(value, bytes) else type(value).__name__
            raise FileError(f"{path}: {split}_{key} is {content}, not an array in numpy's format")
    if images.dtype != np.uint8:
        raise FileError(f"{path}: {split}_images are {images.dtype}; they must be uint8, 0 to 255")
    valid = (
        images.ndim == 3
        or (images.ndim == 4 and images.shape[3] in (1, 3))
        or (images.ndim == 5 and images.shape[2] == 2)
    )
    if not valid or 0 in images.shape:
        raise FileError(
            f"{path}: {split}_images have shape {images.shape}; not (N, H, W[, 3]) or (N, T, 2, H, W)"
        )
    if labels.dtype.kind not in "iu":
        raise FileError(f"{path}: {split}_labels are {labels.dtype}; they must be integers")
    if labels.shape not in ((len(images),), (len(images), 1)):
        raise FileError(
            f"{path}: {split}_labels have shape {labels.shape} for {len(images)} images; "
            "they must be (N,) or (N, 1)"
        )
    return images, labels.reshape(-1)


def read_class_names(file: Mapping[str, np.ndarray], path: Path | str) -> tuple[str, ...] | None:
    """The class names by number; None without the key. Raises FileError unless they are different strings."""
    if "class_names" not in file:
        return None
    names = np.asarray(file["class_names"])
    if names.ndim != 1 or names.dtype.kind != "U" or len({*names.tolist()}) < len(names):
        raise FileError(
            f"{path}: class_names are {names.dtype} {names.shape}; they must be different strings"
        )
    return tuple(names.tolist())


def _check_splits(
    where: str, splits: dict[str, tuple[np.ndarray, np.ndarray]], class_names: tuple[str, ...] | None
) -> int:
    """The number of classes. Raises FileError for labels out of range and for images of different sizes."""
    labelled = int(splits["train"][1].max()) + 1
    classes = labelled if class_names is None else len(class_names)
    if classes < labelled:
        raise FileError(
            f"{where}: class_names has {classes} names, train_labels go to {labelled - 1}; name all"
        )
    if classes < 2 or classes > 100_000:
        raise FileError(
            f"{where}: the largest of train_labels is {classes - 1}; "
            "there must be 2 to 100000 classes, numbered from 0"
        )
    size = splits["train"][0].shape[1:]
    for split, (images, labels) in splits.items():
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= classes:
            raise FileError(
                f"{where}: {split}_labels contain {low if low < 0 else high}; "
                f"training labels are 0 to {classes - 1}"
            )
        if images.shape[1:] != size:
            raise FileError(f"{where}: {split}_images are {images.shape[1:]}, but train_images are {size}")
    return classes
