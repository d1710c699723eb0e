"""`--set KEY=VALUE` on the plain values of a recipe."""

from __future__ import annotations

from typing import Any

from snnkd.errors import PlaceError, RequestError
from snnkd.recipe.loss_section import expand_loss, replace_loss
from snnkd.recipe.text import parse_value

Values = dict[str, Any]
STAGE_SECTIONS = ("teach", "distill")


def apply_setting(values: Values, setting: str) -> None:
    """Put one setting into `values`, in place; a section named by it is expanded, so that the next may reach into it."""
    path, equals, text = setting.partition("=")
    if not equals or not path:
        raise RequestError(f"--set {setting!r} is not KEY=VALUE, for example --set train.weight_decay=1e-4")
    try:
        value = parse_value(text, "--set")
    except PlaceError as error:
        raise RequestError(f"--set {setting[:80]!r}: {str(error).removeprefix('--set: ')}") from None
    if path.split(".")[-1] == "stage":
        raise RequestError(f"--set {setting!r}: the stage is chosen by the command")
    holder = values if path == "loss" else values.get(path.removesuffix(".loss")) if path.endswith(".loss") else None
    if isinstance(value, str) and isinstance(holder, dict):
        replace_loss(holder, value)
    else:
        put(values, path.strip(), value)
    expand_sections(values)


def expand_sections(values: Values) -> Values:
    """`data: NAME`, `model: NAME` and `loss: NAME` as sections, in place, of a stage or of a pipeline and its stages."""
    for holder in (values, *(values.get(stage) for stage in STAGE_SECTIONS)):
        if not isinstance(holder, dict):
            continue
        for key in ("data", "model"):
            if isinstance(holder.get(key), str):
                holder[key] = {"name": holder[key]}
        if "loss" in holder:
            holder["loss"] = expand_loss(holder["loss"])
    return values


def put(values: Values, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    place: Any = values
    for i, key in enumerate(parents):
        if isinstance(place, list):
            place = place[_index(place, key, path)]
            if not isinstance(place, (dict, list)):
                raise RequestError(f"--set {path}: {'.'.join(parents[: i + 1])} is {place!r}, not a section")
            continue
        if not isinstance(place.get(key), (dict, list)):
            if place.get(key) is not None:
                raise RequestError(f"--set {path}: {'.'.join(parents[: i + 1])} is {place[key]!r}, not a section")
            place[key] = {}
        place = place[key]
    if isinstance(place, list):
        place[_index(place, last, path)] = value
    else:
        place[last] = value


def _index(items: list[Any], key: str, path: str) -> int:
    if not key.isdecimal() or int(key) >= len(items):
        held = f"0 to {len(items) - 1}" if items else "no item"
        raise RequestError(f"--set {path}: {key!r} is no item of the list, which has {held}")
    return int(key)
