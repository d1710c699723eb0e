"""Options declared by a catalogue entry, and the recipe section generated from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from snnkd.schema.fields import hints
from snnkd.schema.marks import Bounds

S = TypeVar("S")


@dataclass(frozen=True)
class Option:
    """One key of a generated section: type (with range or choices), default and help."""

    kind: Any
    default: Any
    help: str


def option(
    default: float,
    low: float | None,
    high: float | None,
    help: str,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> Option:
    """A number from `low` to `high` (None: unbounded) without open ends; an integer if the default is one."""
    return Option(Annotated[type(default), Bounds(low, high, open_low, open_high)], default, help)


def make_section(name: str, base: type[S], options: Mapping[str, Any]) -> type[S]:
    """Subclass the section `base` with a key per option; a plain value is a new default of its key."""
    if not options:
        return base
    fields: list[Any] = []
    for key, value in options.items():
        if isinstance(value, Option):
            field = dataclasses.field(default=value.default, metadata={"help": value.help})
            fields.append((key, value.kind, field))
        else:
            fields.append((key, hints(base)[key], dataclasses.field(default=value)))
    section = dataclasses.make_dataclass(
        f"{name.title().replace('-', '')}Term", fields, bases=(base,), frozen=True, kw_only=True
    )
    section.__doc__ = f"A term of {name}."
    return section
