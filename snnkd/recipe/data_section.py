"""The `data:` section: resolved alone for `snnkd data`, checked, and labelled in reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from snnkd.catalog.data import DATA
from snnkd.errors import UsageError, counted
from snnkd.recipe.overrides import apply_setting
from snnkd.schema import fields
from snnkd.schema.data import DataConfig, SubsetConfig


def resolve_data(name: str, settings: Sequence[str] = ()) -> DataConfig:
    """Resolve data set `name` with its defaults and `data.KEY=VALUE` settings. Raises UsageError."""
    values: dict[str, Any] = {"data": {"name": name}}
    for setting in settings:
        if not setting.startswith("data.") or setting.startswith("data.name="):
            raise UsageError(
                f"--set {setting!r}: only data.KEY=VALUE applies here, for example --set data.size=32"
            )
        if setting.startswith("data.augment"):
            raise UsageError(f"--set {setting}: only training augments images; remove the setting")
        apply_setting(values, setting)
    config: DataConfig = fields.build(DATA[name].options, values["data"], "data")
    check_subset(config)
    return config


def check_subset(data: DataConfig) -> None:
    """Raise UsageError for more classes than a published data set has; others are checked on loading."""
    nominal = DATA[data.name].nominal
    if isinstance(data, SubsetConfig) and nominal is not None and (data.classes or 0) > nominal[0]:
        raise UsageError(f"data.classes: {data.classes} is too large; {data.name} has {nominal[0]} classes")


def data_label(name: str, part: object) -> str:
    """Label of a data set in reports: `cifar100`, or `cifar100 [20 classes, 100 training images each]`.

    `part` is as stored in result.json and config.json; a damaged one is ignored.
    """
    if not isinstance(part, Mapping) or "classes" not in part:
        return name
    each = part.get("train_per_class")
    images = f", {counted(each, 'training image')} each" if each else ""
    return f"{name} [{part['classes']} classes{images}]"
