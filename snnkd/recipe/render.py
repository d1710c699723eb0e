"""The recipe that `snnkd check` prints: with its sweep, or one task in full."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from snnkd.errors import UsageError
from snnkd.recipe.keys import PIPELINE_KEYS, STAGES, applies, stages_in
from snnkd.recipe.merge import merge_stage
from snnkd.recipe.overrides import apply_settings
from snnkd.recipe.resolve import Pipeline
from snnkd.recipe.sweep import Tasks, tasks_of
from snnkd.schema.fields import copy_plain, to_plain

Values = dict[str, Any]


def full_recipe(pipeline: Pipeline) -> Values:
    """Every key of a resolved pipeline, dataclasses by section; a single stage has no sections."""
    stages = {name: stage for name in STAGES if (stage := getattr(pipeline, name)) is not None}
    others = {name: getattr(pipeline, name) for name in ("eval", "export", "compare")}
    others = {name: section for name, section in others.items() if section is not None}
    keys = {
        name: {f.name: getattr(stage, f.name) for f in dataclasses.fields(stage)}
        for name, stage in stages.items()
    }
    if len(keys) == 1 and not others:
        return next(iter(keys.values()))
    for section in keys.values():
        del section["schema"], section["stage"]
    return {"schema": 1, **keys, **others}


def sweep_recipe(tasks: Tasks, settings: Sequence[str] = ()) -> Values:
    """The recipe after `extends`, with its sweep, and `settings` (`KEY=VALUE`) applied.

    Raises UsageError for settings that a swept section would replace.
    """
    document = copy_plain(tasks.document)
    try:
        write_settings(document, settings)
        document["sweep"] = to_plain(tasks.axes)
        if tasks.search:
            document["search"] = to_plain(tasks.search)
        if settings and repr(tasks_of(document, tasks.recipe).all) != repr(tasks.all):
            raise UsageError("a swept section replaces the value")
    except UsageError as error:
        raise UsageError(
            f"{tasks.recipe}: --set and its sweep set the same section; add --task K to print one task"
        ) from error
    return document


def write_settings(document: Values, settings: Sequence[str]) -> None:
    """Apply settings in place, without those of the sweep and its search."""
    keys = [setting.partition("=")[0] for setting in settings]
    if "data.name" in keys:  # each stage gets its section, which another name would start over
        for stage in stages_in(document):
            data = copy_plain(merge_stage(document, stage).get("data", {}))
            document[stage] = {**(document[stage] or {}), "data": data}
    own = [
        written
        for key, setting in zip(keys, settings, strict=True)
        if key.split(".")[0] not in ("sweep", "search")
        for written in _written(document, key, setting)
    ]
    apply_settings(document, own)


def _written(document: Values, key: str, setting: str) -> list[str]:
    """The setting; of a shared key once for each stage, whose section would override it."""
    if "stage" in document or key.split(".", maxsplit=1)[0] in PIPELINE_KEYS:
        return [setting]
    return [f"{stage}.{setting}" for stage in stages_in(document) if applies(key, stage)]
