"""Your own data from a Python function, which returns the arrays of an npz file."""

from __future__ import annotations

from collections.abc import Mapping

from snnkd.console import Console
from snnkd.data.download.archives import FetchOptions
from snnkd.data.imageset import ImageSet
from snnkd.data.sets.npz import SPLITS, check_frames, has_split, read_class_names, read_split, to_image_set
from snnkd.errors import FileError, UsageError
from snnkd.schema.data import UserData
from snnkd.usercode import load_function


def load(config: UserData, console: Console, fetch: FetchOptions | None = None) -> ImageSet:
    """Call the function with the section's options; it returns a mapping with the keys of npz.py.

    Raises UsageError that names the key and the rule.
    """
    name = config.name
    function = load_function(name)
    try:
        arrays = function(**config.options)
    except Exception as error:
        arguments = ", ".join(f"{key}={value!r}" for key, value in config.options.items())
        raise UsageError(f"{name}({arguments}) raised {type(error).__name__}: {error}") from error
    if not isinstance(arrays, Mapping):
        raise UsageError(
            f"{name}: returned {type(arrays).__name__}, not a mapping with train_images, train_labels, ..."
        )
    try:
        splits = {
            split: read_split(arrays, split, name) for split in SPLITS if has_split([*arrays], split, name)
        }
        check_frames(name, splits["train"][0], config.frames)
        return to_image_set(name, name, splits, read_class_names(arrays, name), console)
    except FileError as error:  # the function is wrong, not a file
        raise UsageError(str(error)) from error
