"""A subset of a data set: its first classes, and the first training images of each class."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from snnkd.data.imageset import ImageSet
from snnkd.errors import UsageError
from snnkd.files import sha256
from snnkd.schema.data import DataConfig, SubsetConfig


def take_subset(data: ImageSet, config: DataConfig) -> ImageSet:
    """The first `config.classes` classes, with at most `config.train_per_class` training images each.

    Images are taken in the data's order. All test and validation images of these classes are kept; a subset
    of everything is `data` itself. Raises UsageError for more classes than the data set has, and when no
    training, test or validation image is left.
    """
    if not isinstance(config, SubsetConfig) or (config.classes is None and config.train_per_class is None):
        return data
    classes = data.classes if config.classes is None else config.classes
    if classes > data.classes:
        raise UsageError(f"data.classes: {classes} is above the {data.classes} classes of {data.name}")
    limit = config.train_per_class
    train = _rows_of_classes(data.train.labels, classes, limit)
    if len(train) == int((data.train.labels < classes).sum()):
        limit = None  # the same images are the same subset, whichever limit selects them
    if classes == data.classes and limit is None:
        return data
    rows = {"training": train, "test": _rows_of_classes(data.test.labels, classes)}
    if data.val is not None:
        rows["validation"] = _rows_of_classes(data.val.labels, classes)
    for split, chosen in rows.items():
        if not len(chosen):
            raise UsageError(
                f"data.classes: the first {classes} classes of {data.name} have no {split} image; raise it"
            )
    # the checksum of all images, and which of them: no image has to be read
    key = f"{data.sha256} classes={classes} train_per_class={limit}"
    return dataclasses.replace(
        data,
        classes=classes,
        train=data.train.select(train, data.mapped),
        test=data.test.select(rows["test"], data.mapped),
        val=None if data.val is None else data.val.select(rows["validation"], data.mapped),
        sha256=sha256(key.encode()),
        class_names=data.class_names and data.class_names[:classes],
        subset={"classes": classes, "train_per_class": limit},
    )


def _rows_of_classes(labels: Tensor, classes: int, limit: int | None = None) -> Tensor:
    """Indices of the first `limit` labels (all by default) of each class below `classes`, ascending."""
    if limit is None:
        return torch.nonzero(labels < classes).flatten()
    rows = [torch.nonzero(labels == label).flatten()[:limit] for label in range(classes)]
    return torch.cat(rows).sort().values
