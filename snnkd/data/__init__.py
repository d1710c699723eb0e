"""Image data as uint8 tensors, in memory or memory-mapped, and the batches for training and measuring."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence

from snnkd import distributed
from snnkd.catalog.data import DATA
from snnkd.console import Console
from snnkd.data.augment.pipeline import check_shape
from snnkd.data.download.archives import FetchOptions
from snnkd.data.imageset import ImageSet, hold_out
from snnkd.data.sanity import doubts
from snnkd.data.split import Split
from snnkd.data.subset import take_subset
from snnkd.errors import FileError, UsageError
from snnkd.files import data_folder, sweep
from snnkd.locks import local_locks
from snnkd.schema.augment import Operation
from snnkd.schema.data import DataConfig
from snnkd.schema.run import TrainConfig

__all__ = ["DEFAULT_FETCH", "FetchOptions", "ImageSet", "Split", "check_fit", "load_data"]

DEFAULT_FETCH = FetchOptions()
"""Download missing files from their published URLs."""


def load_data(config: DataConfig, console: Console, fetch: FetchOptions | None = DEFAULT_FETCH) -> ImageSet:
    """The data set, or the subset, that a `data:` section describes, with its validation split held out.

    Missing files are downloaded or copied, and large data sets unpacked, as `fetch` says; None does neither.
    Warns of images and labels that look wrong.
    Raises FileError when files are missing, damaged or cannot be fetched (NotPrepared when they only need
    unpacking).
    """
    data = _load(config, console, None if fetch is None else dataclasses.replace(fetch, data=config.name))
    data = hold_out(take_subset(data, config), config.val_fraction)
    for doubt in doubts(data):
        console.log(f"warning: {doubt}")
    return data


@distributed.local_rank0_first  # the first fetches and caches
def _load(config: DataConfig, console: Console, fetch: FetchOptions | None) -> ImageSet:
    if fetch is not None:
        _sweep(config.name)
    data: ImageSet = DATA[config.name].load()(config, console, fetch)
    return data


def _sweep(name: str) -> None:
    """Remove what killed decoding left in SNNKD_DATA, unless another machine's locks are not seen there."""
    with contextlib.suppress(FileError):  # without a home folder, files elsewhere can be read
        root = data_folder()
        if local_locks(root) is None:
            sweep(root)
            sweep(root / name)  # of event data


def check_fit(train: TrainConfig, data: ImageSet, operations: Sequence[Operation] = ()) -> None:
    """Raise UsageError for settings that do not fit the loaded data."""
    if train.select == "best" and data.val is None:
        raise UsageError("train.select: best needs validation images; set data.val_fraction above 0")
    check_shape(operations, data.shape)
    if train.batch_size > len(data.train):
        raise UsageError(
            f"train.batch_size: {train.batch_size} is above the number of training images, {len(data.train)}"
        )
