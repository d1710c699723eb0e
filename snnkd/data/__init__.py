"""Image data as in-memory uint8 tensors, and the batches that training and measuring draw from them."""

from __future__ import annotations

from snnkd import processes
from snnkd.data.imageset import ImageSet, Split, hold_out
from snnkd.errors import RequestError
from snnkd.recipe.catalogue import DATA
from snnkd.recipe.data_schema import DataConfig
from snnkd.recipe.schema import TrainConfig
from snnkd.report import Reporter

__all__ = ["ImageSet", "Split", "check_fit", "load_data"]


def load_data(config: DataConfig, report: Reporter, fetch: bool = True) -> ImageSet:
    """The data set that a `data:` section names, with its validation split held out.

    What is not here is downloaded with `fetch`. Raises PlaceError when files are missing, damaged or cannot be fetched.
    """
    load = DATA[config.name].load()
    # of several processes the first fetches and caches, the others then find it here
    data: ImageSet = processes.in_all(lambda: load(config, report, fetch), first_alone=True)
    return hold_out(data, config.val_fraction)


def check_fit(train: TrainConfig, data: ImageSet) -> None:
    """What of a request can only be checked with the data in hand. Raises RequestError."""
    if train.select == "best" and data.val is None:
        raise RequestError("train.select: best needs validation images; set data.val_fraction above 0")
    if train.batch_size > len(data.train):
        raise RequestError(f"train.batch_size: {train.batch_size} is above the number of training images, {len(data.train)}")
