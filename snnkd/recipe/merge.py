"""Merging of a recipe into its base (`extends`), and of a stage's section into the shared keys.

Mappings merge, everything else replaces. A different `name` (a teacher's `run`) starts that section over; a
model keeps its T. With `extends`, null removes a key of the base, and a key without effect is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from snnkd.errors import UsageError, did_you_mean
from snnkd.recipe.keys import (
    DEFAULT_NAMES,
    PIPELINE_KEYS,
    STAGES,
    Path,
    Values,
    applies,
    expand_names,
    stages_in,
    value_at,
)
from snnkd.schema.fields import copy_plain

Names = Mapping[str, str]
NO_NAMES: Names = {}


def merge_recipes(base: Values, child: Values, name: str) -> Values:
    """Merge `child` into a copy of `base`, whose name in messages is `name`.

    Raises UsageError for a key without effect. Values are checked when the recipe is resolved.
    """
    _check_form(base, child, name)
    base, child = expand_names(copy_plain(base)), expand_names(copy_plain(child))
    merged = _merge(base, child, {**DEFAULT_NAMES, "loss": ""})
    if isinstance(merged.get("sweep"), Mapping):  # an axis is one value, also a distribution
        merged["sweep"] = {**_mapping(base.get("sweep")), **_mapping(child.get("sweep"))}
    _remove_nulls(merged, base, child, name)
    if "sweep" in base and merged.get("sweep") == {}:  # the last axis was removed
        del merged["sweep"]
    _check_effect(merged, child, name)
    return merged


def merge_stage(document: Mapping[str, Any], stage: str) -> Values:
    """The keys of `stage` in a pipeline: its section merged into the shared keys that apply to it."""
    section = document[stage] or {}
    shared = {
        key: value for key, value in document.items() if key not in PIPELINE_KEYS and applies(key, stage)
    }
    if stage == "teach" and isinstance(shared.get("model"), Mapping):  # a teacher has no T
        shared["model"] = {key: value for key, value in shared["model"].items() if key != "T"}
    if "loss" in section:  # both are expanded to terms by now
        shared.pop("loss", None)
    return _merge(shared, section)


def _merge(base: Mapping[str, Any], child: Mapping[str, Any], names: Names = NO_NAMES) -> Values:
    """`names`: default names of sections of `base` without one; without a default, any name is the same."""
    merged = dict(base)
    names = {
        **names,
        **{key: value["name"] for key, value in base.items() if value_at(value, ("name",)) is not ...},
    }
    for key, value in child.items():
        if isinstance(value, Mapping):
            section = merged.get(key)
            kept = _kept(section, value, names.get(key)) if isinstance(section, Mapping) else {}
            merged[key] = _merge(kept, value, names if names and key in STAGES else NO_NAMES)
        else:
            merged[key] = value
    return merged


def _kept(section: Mapping[str, Any], child: Mapping[str, Any], name: str | None) -> Mapping[str, Any]:
    """The keys of `section`, by default named `name`, that stay when `child` is merged into it."""
    for key, default in (("name", name), ("run", None)):
        new, old = child.get(key), section.get(key, default)
        if None not in (new, old) and new != old:
            return {"T": section["T"]} if "T" in section else {}
    return section


def check_taken(document: Values, name: str) -> None:
    """Refuse a shared key of a pipeline that none of its stages takes; `name` is its recipe's."""
    stages = stages_in(document)
    for path, _ in _leaves(document):
        key = ".".join(path)
        if stages and applies(key, "distill") and not any(applies(key, stage) for stage in stages):
            raise UsageError(f"{key}: only a student takes it, and {name} has no section distill; remove it")


def _check_form(base: Values, child: Values, name: str) -> None:
    sections = [key for key in PIPELINE_KEYS if key not in ("sweep", "search")]
    if "stage" in child and "stage" not in base and any(key in base for key in sections):
        raise UsageError(
            f"stage: the base {name} is a pipeline; write a section {str(child['stage'])!r} instead"
        )
    for key in (key for key in sections if "stage" in base and key in child):
        raise UsageError(
            f"{key}: the base {name} is a recipe of one stage and has no sections; extend a pipeline"
        )


def _remove_nulls(merged: Values, base: Any, child: Mapping[str, Any], name: str, where: str = "") -> None:
    for key, value in child.items():
        if isinstance(value, Mapping) and where != "sweep.":  # an axis is one value
            _remove_nulls(merged[key], value_at(base, (key,)), value, name, f"{where}{key}.")
        elif value is None and value_at(base, (key,)) is ...:
            known = [f"{where}{other}" for other in base] if isinstance(base, Mapping) else []
            raise UsageError(
                f"{where}{key}: null removes a key of {name}, "
                f"which does not set it{did_you_mean(f'{where}{key}', known)}"
            )
        elif value is None:
            del merged[key]


def _check_effect(merged: Values, child: Values, name: str) -> None:
    """Refuse a key of `child` that stages' sections or axes of the base's sweep override everywhere."""
    kept = [axis for axis in _mapping(merged.get("sweep")) if axis not in _mapping(child.get("sweep"))]
    axes = {tuple(str(axis).split(".")): axis for axis in kept}
    stages = {
        stage: merge_stage(merged, stage)
        for stage in stages_in(merged)
        if isinstance(merged[stage] or {}, Mapping)
    }
    for path, value in _leaves(child):
        if path[0] == "sweep" or value is None or value == {}:
            continue
        key = ".".join(path[:-1] if path[-1] == "name" else path)
        shared = path[0] not in PIPELINE_KEYS and "stage" not in merged
        users = [stage for stage in stages if applies(".".join(path), stage)] if shared else []
        places = [(stage, *path) for stage in users] if shared else [path]
        swept = [
            next((axis for axis in axes if _covers(axis, place) or _covers(axis, path)), None)
            for place in places
        ]
        overridden = [shared and value_at(stages[place[0]], path) != value for place in places]
        if not places or not all(axis or other for axis, other in zip(swept, overridden, strict=True)):
            continue
        for axis in filter(None, swept):
            raise UsageError(
                f"{key}: no effect, {name} sweeps {axes[axis]}; "
                f"remove the key, or the axis (sweep: {{{axes[axis]}: null}})"
            )
        raise UsageError(f"{key}: no effect, {users[0]}.{key} of {name} overrides it; write {users[0]}.{key}")


def _covers(axis: Path, path: Path) -> bool:
    """Whether a swept value replaces the value at `path`; a swept model keeps T."""
    return path[: len(axis)] == axis and not (axis[-1] == "model" and path[len(axis) :] == ("T",))


def _leaves(values: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from (((str(key), *path), leaf) for path, leaf in _leaves(value))
        else:
            yield (str(key),), value


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
