"""Image data as in-memory uint8 tensors, and the batches that training and measuring draw from them."""

from __future__ import annotations

from snnkd.data.imageset import ImageSet, Split, hold_out
from snnkd.recipe.catalogue import DATA
from snnkd.recipe.schema import DataConfig
from snnkd.report import Reporter

__all__ = ["ImageSet", "Split", "load_data"]


def load_data(config: DataConfig, report: Reporter, fetch: bool = True) -> ImageSet:
    """The data set that a `data:` section names, with its validation split held out.

    What is not here is downloaded with `fetch`. Raises PlaceError when files are missing, damaged or cannot be fetched.
    """
    data: ImageSet = DATA[config.name].load()(config, report, fetch)
    return hold_out(data, config.val_fraction)
