"""`--set KEY=VALUE`, and the values of a sweep, on the plain values of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from snnkd.errors import FileError, UsageError
from snnkd.recipe.keys import STAGES, Values, expand_names, holders
from snnkd.recipe.loss_section import expand_loss, replace_loss
from snnkd.recipe.yaml_io import parse_value


def apply_setting(values: Values, setting: str) -> None:
    """Put one setting into `values`, in place; a section named by it is expanded, so that the next may reach into it."""
    path, equals, text = setting.partition("=")
    if not equals or not path:
        raise UsageError(f"--set {setting!r} is not KEY=VALUE, for example --set train.weight_decay=1e-4")
    try:
        value = parse_value(text, "--set")
    except FileError as error:
        raise UsageError(f"--set {setting[:80]!r}: {str(error).removeprefix('--set: ')}") from None
    if path.split(".")[-1] == "stage":
        raise UsageError(f"--set {setting!r}: the stage is chosen by the command")
    holder = (
        values
        if path == "loss"
        else values.get(path.removesuffix(".loss"))
        if path.endswith(".loss")
        else None
    )
    if isinstance(value, str) and isinstance(holder, dict):
        replace_loss(holder, value)
    else:
        put(values, path.strip(), value)
    expand_sections(values)


def expand_sections(values: Values) -> Values:
    """Write bare names as sections and losses term by term, in place, in a recipe and its stages."""
    for holder in holders(expand_names(values)):
        if "loss" in holder:
            holder["loss"] = expand_loss(holder["loss"])
    return values


def put_swept(values: Values, path: str, value: Any) -> None:
    """Put a swept value at its path, in place: a loss, data set, model or neuron replaces the whole section there (T kept)."""
    before, _, last = path.rpartition(".")
    for stage in STAGES:
        if stage in values and values[stage] is None:  # an empty section in YAML
            values[stage] = {}
    if before not in ("", *STAGES) or last not in ("data", "model", "neuron", "loss"):
        put(values, path, value, "sweep")
    else:
        holder = values[before] if before else values
        if not isinstance(holder, dict):
            raise UsageError(f"{before}: {holder!r} is not a mapping of keys to values")
        if last == "loss":
            student = values.get("distill") if not before else None
            replace_loss(holder, value, student if isinstance(student, dict) else None)
        else:
            old = holder.get(last)
            kept = {"T": old["T"]} if last == "model" and isinstance(old, Mapping) and "T" in old else {}
            named = {"name": value} if isinstance(value, str) else value
            holder[last] = {**kept, **named} if isinstance(named, Mapping) else named
    expand_sections(values)


def put(values: Values, path: str, value: Any, said: str = "--set") -> None:
    """Put a value at its path, in place; `said` names in a refusal who asked for it."""
    *parents, last = path.split(".")
    place: Any = values
    for i, key in enumerate(parents):
        if isinstance(place, list):
            place = place[_index(place, key, f"{said} {path}")]
            if not isinstance(place, (dict, list)):
                raise UsageError(f"{said} {path}: {'.'.join(parents[: i + 1])} is {place!r}, not a section")
            continue
        if not isinstance(place.get(key), (dict, list)):
            if place.get(key) is not None:
                raise UsageError(
                    f"{said} {path}: {'.'.join(parents[: i + 1])} is {place[key]!r}, not a section"
                )
            place[key] = {}
        place = place[key]
    if isinstance(place, list):
        place[_index(place, last, f"{said} {path}")] = value
    else:
        place[last] = value


def _index(items: list[Any], key: str, where: str) -> int:
    if not key.isdecimal() or int(key) >= len(items):
        held = f"0 to {len(items) - 1}" if items else "no item"
        raise UsageError(f"{where}: {key!r} is no item of the list, which has {held}")
    return int(key)
