"""A `data:` section by itself, as `snnkd data` takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from snnkd.catalog.data import DATA
from snnkd.errors import UsageError
from snnkd.recipe.overrides import apply_setting
from snnkd.schema import fields
from snnkd.schema.data import DataConfig, SubsetConfig


def resolve_data(name: str, settings: Sequence[str] = ()) -> DataConfig:
    """The data set `name` with its defaults, and `data.KEY=VALUE` of `settings`. Raises UsageError."""
    values: dict[str, Any] = {"data": {"name": name}}
    for setting in settings:
        if not setting.startswith("data.") or setting.startswith("data.name="):
            raise UsageError(
                f"--set {setting!r}: here only keys of data can be set, for example --set data.size=32"
            )
        apply_setting(values, setting)
    made: DataConfig = fields.build(DATA[name].options, values["data"], "data")
    check_part(made)
    return made


def check_part(data: DataConfig) -> None:
    """Raise UsageError for more classes than a published data set has; of others the files tell."""
    nominal = DATA[data.name].nominal
    if isinstance(data, SubsetConfig) and nominal is not None and (data.classes or 0) > nominal[0]:
        raise UsageError(f"data.classes: {data.classes} is more than {data.name} has, {nominal[0]}")


def data_label(name: str, part: object) -> str:
    """A data set as reports call it: `cifar100`, of a part `cifar100 [20 classes, 100 training images each]`.

    `part` as results and config.json hold it; one that is damaged says nothing.
    """
    if not isinstance(part, Mapping) or "classes" not in part:
        return name
    each = part.get("train_per_class")
    return f"{name} [{part['classes']} classes{f', {each} training images each' if each else ''}]"
