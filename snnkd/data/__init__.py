"""Image data as uint8 tensors in memory or in a mapped file, and the batches that training and measuring draw from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from snnkd import processes
from snnkd.data.archives import Way
from snnkd.data.augment import check_shape
from snnkd.data.imageset import ImageSet, Split, hold_out
from snnkd.data.part import take_part
from snnkd.errors import RequestError
from snnkd.recipe.augment_schema import Operation
from snnkd.recipe.catalogue import DATA
from snnkd.recipe.data_schema import DataConfig
from snnkd.recipe.schema import TrainConfig
from snnkd.report import Reporter

__all__ = ["ANYWHERE", "ImageSet", "Split", "Way", "check_fit", "load_data"]

ANYWHERE = Way()
"""What is missing is downloaded from where it was published."""


def load_data(config: DataConfig, report: Reporter, fetch: bool = True, way: Way = ANYWHERE) -> ImageSet:
    """The data set that a `data:` section names, or the part of it that is asked for, with its validation split held out.

    What is not here is fetched by `way`, and large data are unpacked, with `fetch` alone. Raises PlaceError when files
    are missing, damaged or cannot be fetched (NotReady when they are here and were not unpacked).
    """
    load = DATA[config.name].load()
    chosen = dataclasses.replace(way, data=config.name) if fetch else None
    # of several processes the first fetches and caches, the others then find it here
    data: ImageSet = processes.in_all(lambda: load(config, report, chosen), first_alone=True)
    return hold_out(take_part(data, config), config.val_fraction)


def check_fit(train: TrainConfig, data: ImageSet, operations: Sequence[Operation] = ()) -> None:
    """What of a request can only be checked with the data in hand. Raises RequestError."""
    if train.select == "best" and data.val is None:
        raise RequestError("train.select: best needs validation images; set data.val_fraction above 0")
    check_shape(operations, data.shape)
    if train.batch_size > len(data.train):
        raise RequestError(f"train.batch_size: {train.batch_size} is above the number of training images, {len(data.train)}")
