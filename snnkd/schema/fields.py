"""Dataclasses from plain mappings (YAML, --set): coercion to the field's type, ranges, did-you-mean."""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, TypeVar

from snnkd.errors import UsageError, closest, did_you_mean
from snnkd.schema.marks import Bounds, Named

C = TypeVar("C")
SEVERAL = re.compile(r"[-+.\de]+(,[-+.\de]+)+|\d+-\d+")
"""Numbers with commas between them, or the first and last of several."""


def build(cls: type[C], values: Any, where: str) -> C:
    """Build the dataclass `cls` from a mapping. Raises UsageError that names key, value and rule."""
    if not isinstance(values, Mapping):
        raise UsageError(f"{where}: {values!r} is not a mapping of keys to values")
    known = hints(cls)
    for key in values:
        if key not in known:
            path, paths = join(where, key), [join(where, k) for k in known]
            raise UsageError(f"unknown key {path!r}{did_you_mean(path, paths)}")
    arguments = {key: coerce(known[key], value, join(where, key)) for key, value in values.items()}
    try:
        return cls(**arguments)
    except TypeError as error:
        missing = [f.name for f in dataclasses.fields(cls) if f.name not in arguments and _required(f)]  # type: ignore[arg-type]
        raise UsageError(f"{where or 'recipe'}: lacks {', '.join(missing)}") from error


def _required(f: dataclasses.Field[Any]) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def hints(cls: type) -> Mapping[str, Any]:
    """Types of the fields of `cls` by name, with their marks."""
    return _hints(cls)


@cache  # a sweep builds the same sections thousands of times
def _hints(cls: Any) -> Mapping[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


def join(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)


def coerce(kind: Any, value: Any, where: str) -> Any:
    """Convert `value` to `kind`: a scalar, Literal, Annotated, tuple, dict, Optional or dataclass."""
    origin = typing.get_origin(kind)
    if origin is typing.Annotated:
        return _marked(*typing.get_args(kind), value=value, where=where)
    if origin in (types.UnionType, typing.Union):
        (inner,) = [arg for arg in typing.get_args(kind) if arg is not type(None)]
        return None if value is None else coerce(inner, value, where)
    if origin is Literal:
        return _choice(typing.get_args(kind), value, where)
    if origin in (tuple, dict):
        return _list(typing.get_args(kind)[0], value, where) if origin is tuple else _options(value, where)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return value if isinstance(value, kind) else build(kind, value, where)
    return _scalar(kind, value, where)


def _marked(inner: Any, *marks: Any, value: Any, where: str) -> Any:
    if isinstance(marks[0], Named):
        return _named(dict(marks[0].kinds), value, where)
    result = coerce(inner, value, where)
    for mark in marks:
        if isinstance(mark, Bounds) and result is not None:
            check_bounds(mark, result, where)
    return result


def _list(kind: Any, value: Any, where: str) -> tuple[Any, ...]:
    if isinstance(value, (str, Mapping)) or not hasattr(value, "__iter__"):
        raise UsageError(f"{where}: {value!r} is not a list; write [a, b]")
    return tuple(coerce(kind, item, f"{where}.{i}") for i, item in enumerate(value))


def _named(kinds: Mapping[str, type], value: Any, where: str) -> Any:
    """A name, or its dataclass if options differ from the defaults."""
    if type(value) in kinds.values():
        return value
    if isinstance(value, Mapping) and "name" not in value:
        raise UsageError(f"{where}: {value!r} lacks a name, one of {', '.join(kinds)}")
    keys = value if isinstance(value, Mapping) else {"name": value}
    name = _choice(tuple(kinds), keys["name"], where)
    item: Any = build(kinds[name], {**keys, "name": name}, where)
    return name if item == kinds[name]() else item


def _options(value: Any, where: str) -> dict[str, Any]:
    """Keyword arguments of a user's function: plain values by name."""
    if not isinstance(value, Mapping):
        raise UsageError(f"{where}: {value!r} is not a mapping of keys to values")
    for key in value:
        if not isinstance(key, str) or not key.isidentifier():
            raise UsageError(f"{where}: the key {key!r} is not an identifier")
    _check_plain(value, where)
    return dict(value)


def _check_plain(value: Any, where: str) -> None:
    """Raise UsageError for a number that JSON cannot store."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_plain(item, join(where, key))
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            _check_plain(item, join(where, i))
    elif isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{where}: {value} is not a finite number")


def check_bounds(bounds: Bounds, value: float, where: str) -> None:
    if bounds.low is not None and (value <= bounds.low if bounds.open_low else value < bounds.low):
        rule = "above" if bounds.open_low else "at least"
        raise UsageError(f"{where}: {value} is too small; it must be {rule} {bounds.low}")
    if bounds.high is not None and (value >= bounds.high if bounds.open_high else value > bounds.high):
        rule = "below" if bounds.open_high else "at most"
        raise UsageError(f"{where}: {value} is too large; it must be {rule} {bounds.high}")


def _choice(choices: tuple[Any, ...], value: Any, where: str) -> Any:
    if isinstance(value, bool):  # YAML 1.1 reads a bare on / off as a truth value
        value = "on" if value else "off"
    for choice in choices:
        if value == choice or str(value) == str(choice):
            return choice
    known = [str(choice) for choice in choices]
    if len(known) == 1:
        raise UsageError(f"{where}: {value!r} must be {known[0]}")
    guess = closest(str(value), known)
    hint = f"; did you mean {guess!r}?" if guess else ""
    raise UsageError(f"{where}: {value!r} is not one of {', '.join(known)}{hint}")


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is bool:
        truth = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}.get(
            str(value).lower()
        )
        if truth is None:
            raise UsageError(f"{where}: {value!r} is neither true nor false")
        return truth
    if kind is str:
        if isinstance(value, (Mapping, list, tuple, bool)) or value is None:
            raise UsageError(f"{where}: {value!r} is not text")
        return str(value)
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise UsageError(f"{where}: {value!r} is not {'a whole' if kind is int else 'a'} number")
    return _number(kind, value, where)


def _number(kind: Any, value: int | float | str, where: str) -> int | float:
    try:
        if kind is int and isinstance(value, str) and value.strip().lstrip("+-").isdecimal():
            value = int(value)  # exact, where a float has 53 bits
        number = float(value)
        if kind is int:
            integer = value if isinstance(value, int) else int(number)
            if integer != number and not isinstance(value, int):
                raise ValueError
            return integer
    except (ValueError, OverflowError):
        if isinstance(value, str) and SEVERAL.fullmatch(value) and not where.startswith(("eval.", "--")):
            raise UsageError(
                f"{where}: {value!r} is several numbers; for a run each: "
                f"snnkd run RECIPE --sweep {where}={value}"
            ) from None
        raise UsageError(f"{where}: {value!r} is not {'a whole' if kind is int else 'a'} number") from None
    if not math.isfinite(number):
        raise UsageError(f"{where}: {value!r} is not a finite number")
    return number


def copy_plain(value: Any) -> Any:
    """A copy of plain data: new dicts and lists, the rest shared; copy.deepcopy takes twice as long."""
    if isinstance(value, dict):
        return {key: copy_plain(item) for key, item in value.items()}
    return [copy_plain(item) for item in value] if isinstance(value, list) else value


def to_plain(value: Any) -> Any:
    """Convert dataclasses to mappings and tuples to lists, without optional keys that are None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: to_plain(getattr(value, f.name))
            for f in dataclasses.fields(value)
            if not (getattr(value, f.name) is None and f.default is None)
        }
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    return value
