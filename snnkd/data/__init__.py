"""Image data as uint8 tensors in memory or in a mapped file, and the batches that training and measuring draw from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from snnkd import distributed
from snnkd.catalog.data import DATA
from snnkd.console import Console
from snnkd.data.augment.pipeline import check_shape
from snnkd.data.download.archives import Way
from snnkd.data.imageset import ImageSet, Split, hold_out
from snnkd.data.subset import take_subset
from snnkd.errors import UsageError
from snnkd.schema.augment import Operation
from snnkd.schema.data import DataConfig
from snnkd.schema.run import TrainConfig

__all__ = ["ANYWHERE", "ImageSet", "Split", "Way", "check_fit", "load_data"]

ANYWHERE = Way()
"""What is missing is downloaded from where it was published."""


def load_data(config: DataConfig, console: Console, fetch: bool = True, way: Way = ANYWHERE) -> ImageSet:
    """The data set that a `data:` section names, or the part of it that is asked for, with its validation split held out.

    What is not here is fetched by `way`, and large data are unpacked, with `fetch` alone. Raises FileError when files
    are missing, damaged or cannot be fetched (NotReady when they are here and were not unpacked).
    """
    load = DATA[config.name].load()
    chosen = dataclasses.replace(way, data=config.name) if fetch else None
    # of several processes the first fetches and caches, the others then find it here
    data: ImageSet = distributed.on_every_rank(lambda: load(config, console, chosen), first_alone=True)
    return hold_out(take_subset(data, config), config.val_fraction)


def check_fit(train: TrainConfig, data: ImageSet, operations: Sequence[Operation] = ()) -> None:
    """What of a request can only be checked with the data in hand. Raises UsageError."""
    if train.select == "best" and data.val is None:
        raise UsageError("train.select: best needs validation images; set data.val_fraction above 0")
    check_shape(operations, data.shape)
    if train.batch_size > len(data.train):
        raise UsageError(
            f"train.batch_size: {train.batch_size} is above the number of training images, {len(data.train)}"
        )
