"""Every key of a recipe with its type, default and help, from the declarations in `snnkd.schema`."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from snnkd.catalog.data import DATA
from snnkd.catalog.losses import KINDS
from snnkd.catalog.models import MODELS
from snnkd.catalog.neurons import NEURONS
from snnkd.catalog.registry import Registry
from snnkd.errors import UsageError, did_you_mean
from snnkd.recipe.yaml_io import flow_yaml
from snnkd.schema import fields
from snnkd.schema.augment import OPERATIONS
from snnkd.schema.help import field_help
from snnkd.schema.loss import HardConfig, LossConfig
from snnkd.schema.marks import Bounds, Named
from snnkd.schema.run import (
    CompareConfig,
    EvalConfig,
    ExecutionConfig,
    ExportConfig,
    SearchConfig,
    StageRecipe,
    TeacherConfig,
    TrainConfig,
)

Kinds = list[tuple[str, type]]
"""Names that a section may have, each with its dataclass; one without a name for all."""


@dataclass(frozen=True)
class Key:
    """A key by its dotted path, as `--set` takes it; `default` is YAML, None where a value is required."""

    key: str
    type: str
    default: str | None
    help: str
    only: tuple[str, ...] = ()
    """Names of the section (`data.name`, ...) that have the key; empty if all do."""


@cache
def all_keys() -> tuple[Key, ...]:
    """The keys of every section, in the order of a recipe."""
    terms = [pair for registry in KINDS.values() for pair in _kinds(registry)]
    sections: list[tuple[str, Kinds]] = [
        ("", [("", StageRecipe)]),
        ("data", _kinds(DATA)),
        ("data.augment.0", list(OPERATIONS.items())),
        ("teacher", [("", TeacherConfig)]),
        ("model", _kinds(MODELS)),
        ("neuron", _kinds(NEURONS)),
        ("loss", [("", LossConfig)]),
        ("loss.hard", [("", HardConfig)]),
        ("loss.terms.0", terms),
        ("train", [("", TrainConfig)]),
        ("execution", [("", ExecutionConfig)]),
        ("eval", [("", EvalConfig)]),
        ("export", [("", ExportConfig)]),
        ("search", [("", SearchConfig)]),
        ("compare", [("", CompareConfig)]),
    ]
    return tuple(key for where, kinds in sections for key in _section(where, kinds))


def find_keys(wanted: str) -> list[Key]:
    """The keys of a section (`train`), one key (`train.lr`), or all keys called `lr`.

    Raises UsageError for an unknown one.
    """
    keys = all_keys()
    below = [key for key in keys if f"{key.key}.".startswith(f"{wanted}.")]
    same = below or [key for key in keys if key.key.rpartition(".")[2] == wanted]
    if not same:
        sections = {key.key.partition(".")[0] for key in keys}
        raise UsageError(
            f"no section or key {wanted!r}{did_you_mean(wanted, sections | {key.key for key in keys})}"
        )
    return same


def _kinds(registry: Registry[Any]) -> Kinds:
    entries = [*registry, *([registry.user] if registry.user else [])]
    return [(entry.usage, entry.options) for entry in entries]


def _section(where: str, kinds: Kinds) -> list[Key]:
    """The keys of a section; keys that several kinds declare alike are one."""
    owners: dict[Key, list[str]] = {}
    for name, cls in kinds:
        for f in dataclasses.fields(cls):
            hint = fields.hints(cls)[f.name]
            if not _is_section(hint):
                key = Key(fields.join(where, f.name), _type(hint), _default(f), field_help(cls, f.name))
                owners.setdefault(key, []).append(name)
    return [
        dataclasses.replace(key, only=() if len(names) == len(kinds) else tuple(names))
        for key, names in owners.items()
        if not (where == "data.augment.0" and key.key.endswith(".name"))
    ]


def _is_section(hint: Any) -> bool:
    """Whether a key holds a section or a list of them, which have keys of their own."""
    if typing.get_origin(hint) is tuple:
        return _is_section(typing.get_args(hint)[0])
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def _default(f: dataclasses.Field[Any]) -> str | None:
    if f.default_factory is not dataclasses.MISSING:
        return flow_yaml(f.default_factory())
    if f.default is dataclasses.MISSING:
        return None
    return "empty" if f.default is None else flow_yaml(f.default)


NUMBERS = {int: "whole number", float: "number", bool: "true or false", str: "text"}


def _type(hint: Any) -> str:
    """A type in words: `number above 0`, `a, b or c`, `list of text`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _marked(*arguments)
    if origin in (types.UnionType, typing.Union):
        return _type(next(argument for argument in arguments if argument is not type(None)))
    if origin is Literal:
        return _choices(arguments)
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return "keys and values"
    return NUMBERS.get(hint, "section")


def _marked(inner: Any, *marks: Any) -> str:
    if isinstance(marks[0], Named):
        return _choices([name for name, _ in marks[0].kinds])
    bounds = [text for mark in marks if isinstance(mark, Bounds) and (text := _range(mark))]
    return " ".join([_type(inner), *bounds])


def _range(bounds: Bounds) -> str:
    low = "" if bounds.low is None else f"{'above' if bounds.open_low else 'from'} {_number(bounds.low)}"
    high = "" if bounds.high is None else f"{'below' if bounds.open_high else 'to'} {_number(bounds.high)}"
    return f"{low} {high}".strip()


def _number(value: float) -> str:
    """A limit in digits, of a very large one only the size."""
    return str(value) if isinstance(value, int) and value < 10**10 else f"{value:g}"


def _choices(values: Iterable[Any]) -> str:
    *others, last = map(str, values)
    return f"{', '.join(others)} or {last}" if others else last


def described(keys: Sequence[Key]) -> list[dict[str, Any]]:
    """The keys as plain values."""
    return [dataclasses.asdict(key) | {"only": list(key.only)} for key in keys]
