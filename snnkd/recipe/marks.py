"""Marks on the fields of the recipe's dataclasses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bounds:
    """The range of a number: `low` and `high` belong to it unless `open_low` / `open_high`."""

    low: float | None = None
    high: float | None = None
    open_low: bool = False
    open_high: bool = False


@dataclass(frozen=True)
class Added:
    """A key that came later: at its default it is no part of a run's identity, so that runs begun before keep their names."""


ADDED = Added()


@dataclass(frozen=True)
class Named:
    """An item that is a name, or a mapping of `name` and the options of that name.

    `kinds` are the dataclasses by name. What has only usual options becomes the name.
    """

    kinds: tuple[tuple[str, type], ...]
