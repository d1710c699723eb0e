"""Marks on the fields of the recipe's dataclasses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bounds:
    """Range of a number, including `low` and `high` unless `open_low` / `open_high`."""

    low: float | None = None
    high: float | None = None
    open_low: bool = False
    open_high: bool = False


@dataclass(frozen=True)
class Since:
    """Release that added a key, after 0.1.0: at its default the key is exempt from a run's identity.

    Runs of earlier releases then keep their names and can be resumed: `Annotated[float, Since("0.2.0")] =
    0.0`.
    """

    version: str


@dataclass(frozen=True)
class Named:
    """An item that is a name, or a mapping of `name` and the options of that name.

    `kinds` are the dataclasses by name. An item whose options are all defaults is reduced to its name.
    """

    kinds: tuple[tuple[str, type], ...]
