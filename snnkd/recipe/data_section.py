"""A `data:` section by itself, as `snnkd data` takes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from snnkd.errors import RequestError
from snnkd.recipe import fields
from snnkd.recipe.catalogue import DATA
from snnkd.recipe.data_schema import DataConfig
from snnkd.recipe.settings import apply_setting


def resolve_data(name: str, settings: Sequence[str] = ()) -> DataConfig:
    """The data set `name` with its defaults, and `data.KEY=VALUE` of `settings`. Raises RequestError."""
    values: dict[str, Any] = {"data": {"name": name}}
    for setting in settings:
        if not setting.startswith("data.") or setting.startswith("data.name="):
            raise RequestError(f"--set {setting!r}: here only keys of data can be set, for example --set data.size=32")
        apply_setting(values, setting)
    made: DataConfig = fields.build(DATA[name].options, values["data"], "data")
    return made
