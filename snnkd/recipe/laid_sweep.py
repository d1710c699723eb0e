"""The sweep of a recipe that extends another: its axes over the base's, and what may not be said beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from snnkd.errors import UsageError, did_you_mean
from snnkd.recipe.stages import PIPELINE_KEYS, Path, leaves, takers

Values = dict[str, Any]
Place = tuple[str, Path]
"""The section of a pipeline (empty for a key beside the sections, and in a recipe of one stage), and the path in it."""


def lay_sweep(base: Values, own: Values, stages: Sequence[str], name: str) -> Values:
    """`{"sweep": axes}` of the two, or nothing without a sweep. `stages`: the sections of stages that the two make together.

    An axis of `own` replaces the base's of that key in its place, null removes it, new ones come last; `sweep: null` removes
    all. Raises UsageError for a null where there is nothing, and for a key that `own` says while the base sweeps it: every
    task would overwrite it. What is no sweep at all stays, to be refused as in any recipe.
    """
    under, over = base.get("sweep", {}), own.get("sweep", {})
    if over is None:
        if "sweep" not in base:
            raise UsageError(f"sweep: null takes the base's sweep away, and {name} has none; remove the line")
        return {}
    if not isinstance(over, Mapping):
        return {"sweep": over}
    if not isinstance(under, Mapping):
        return {"sweep": under}
    for key, values in over.items():
        if values is None and key not in under:
            hint = did_you_mean(str(key), map(str, under)) or "; it has no sweep"
            raise UsageError(
                f"sweep: null takes {str(key)!r} out of the base's sweep, and {name} does not sweep it{hint}"
            )
    for key in base_axes(base, own):
        _check_not_said(key, own, stages, name)
    axes = {key: values for key, values in {**under, **over}.items() if values is not None or key not in over}
    written = "sweep" in base or "sweep" in own
    return {"sweep": axes} if axes or (written and None not in over.values()) else {}


def base_axes(base: Values, own: Values) -> list[str]:
    """The keys that the base sweeps and that `own` says nothing of in its sweep."""
    under, over = base.get("sweep", {}), own.get("sweep", {})
    if not isinstance(under, Mapping) or not isinstance(over, Mapping):
        return []
    return [str(key) for key in under if key not in over]


def place_of(axis: str) -> Place:
    head, *rest = axis.split(".")
    return (head, tuple(rest)) if head in PIPELINE_KEYS else ("", (head, *rest))


def covers(axis: Path, path: Path) -> bool:
    """Whether putting a swept value at `axis` hides what stands at `path`; of a model that is replaced, T is kept."""
    return path[: len(axis)] == axis and not (axis == ("model",) and path == ("model", "T"))


def _check_not_said(axis: str, own: Values, stages: Sequence[str], name: str) -> None:
    section, swept = place_of(axis)
    for (where, path), value in _said(own):
        if _stage_of(where, path, stages) != _stage_of(section, swept, stages):
            continue
        gone = path == () and value is None  # the section in which it lies
        within = swept[:1] == path == ("loss",) and swept[-1] in _keys_in(value)
        if gone or within or covers(swept, path):
            said = ".".join((where, *path) if where else path)
            raise UsageError(
                f"{said}: {name} sweeps {axis!r}, and every task would overwrite it; "
                f"take that out of the sweep (sweep: {{{axis}: null}}), or leave the key out"
            )


def _said(own: Values) -> Iterator[tuple[Place, Any]]:
    """Where `own` says what."""
    for key, value in own.items():
        if key == "sweep":
            continue
        if key not in PIPELINE_KEYS:
            yield from ((("", path), leaf) for path, leaf in leaves(key, value))
        elif not isinstance(value, Mapping):
            yield (key, ()), value
        else:
            yield from (
                ((key, path), leaf)
                for inner, held in value.items()
                for path, leaf in leaves(str(inner), held)
            )


def _stage_of(section: str, path: Path, stages: Sequence[str]) -> str:
    """The section, or of a key beside the sections that only one stage takes, that stage."""
    taking = takers(".".join(path), stages) if not section else []
    return taking[0] if len(taking) == 1 else section


def _keys_in(value: Any) -> set[str]:
    """All keys of a section, at any depth."""
    if isinstance(value, Mapping):
        return {str(key) for key in value} | {key for held in value.values() for key in _keys_in(held)}
    return {key for item in value for key in _keys_in(item)} if isinstance(value, list) else set()
