"""A part of a data set: its first classes, and the first training images of each."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from snnkd.data.imageset import ImageSet, rows_of
from snnkd.errors import UsageError
from snnkd.files import sha256
from snnkd.schema.data import DataConfig, PartConfig


def take_subset(data: ImageSet, config: DataConfig) -> ImageSet:
    """The classes 0 to `config.classes` - 1, with at most `config.train_per_class` training images of each, in the data's order.

    Test and validation images are all those of these classes. `data` itself where that leaves nothing out. Raises
    UsageError for more classes than there are, and where no training, test or validation image is left.
    """
    if not isinstance(config, PartConfig) or (config.classes is None and config.train_per_class is None):
        return data
    classes = data.classes if config.classes is None else config.classes
    if classes > data.classes:
        raise UsageError(f"data.classes: {classes} is more than {data.name} has, {data.classes}")
    most = config.train_per_class
    train = _first(data.train.labels, classes, most)
    if len(train) == int((data.train.labels < classes).sum()):
        most = None  # the same images are the same part, however they were asked for
    if classes == data.classes and most is None:
        return data
    places = {"training": train, "test": _first(data.test.labels, classes, None)}
    if data.val is not None:
        places["validation"] = _first(data.val.labels, classes, None)
    for kind, chosen in places.items():
        if not len(chosen):
            raise UsageError(
                f"data.classes: {classes} leaves no {kind} image of {data.name}; take more classes"
            )
    # the bytes of the whole and which of them: no image needs to be read
    told = f"{data.sha256} classes={classes} train_per_class={most}"
    return dataclasses.replace(
        data,
        classes=classes,
        train=rows_of(data.train, train, data.mapped),
        test=rows_of(data.test, places["test"], data.mapped),
        val=None if data.val is None else rows_of(data.val, places["validation"], data.mapped),
        sha256=sha256(told.encode()),
        part={"classes": classes, "train_per_class": most},
    )


def _first(labels: Tensor, classes: int, most: int | None) -> Tensor:
    """The places of the first `most` labels of each class below `classes`, in order."""
    if most is None:
        return torch.nonzero(labels < classes).flatten()
    return (
        torch.cat([torch.nonzero(labels == each).flatten()[:most] for each in range(classes)]).sort().values
    )
