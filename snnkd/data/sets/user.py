"""Data from a function of the user's own: the arrays of an npz file, returned instead of stored."""

from __future__ import annotations

from collections.abc import Mapping

from snnkd.console import Console
from snnkd.data.download.archives import Way
from snnkd.data.imageset import ImageSet
from snnkd.data.sets.npz import SPLITS, checked, has_split, read_split
from snnkd.errors import FileError, UsageError
from snnkd.schema.data import UserData
from snnkd.usercode import load_function


def load(config: UserData, console: Console, way: Way | None = None) -> ImageSet:
    """Call the function (with the section's options) and check what it returns, a mapping with the keys of an npz file.

    Raises UsageError that names the key and the rule.
    """
    name = config.name
    function = load_function(name)
    try:
        arrays = function(**config.options)
    except Exception as error:
        asked = ", ".join(f"{key}={value!r}" for key, value in config.options.items())
        raise UsageError(
            f"{name}: called with ({asked}) it raised {type(error).__name__}: {error}"
        ) from error
    if not isinstance(arrays, Mapping):
        raise UsageError(
            f"{name}: returned {type(arrays).__name__}; it must return a mapping with train_images, train_labels, ..."
        )
    try:
        splits = {
            split: read_split(arrays, split, name) for split in SPLITS if has_split([*arrays], split, name)
        }
        return checked(name, name, splits, console)
    except FileError as error:  # here it is the function that is wrong, not a file
        raise UsageError(str(error)) from error
