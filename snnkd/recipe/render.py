"""A resolved recipe written out: what `snnkd check` prints, and what resolves to the same tasks again."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snnkd.errors import UsageError
from snnkd.recipe.help_comments import commented_yaml
from snnkd.recipe.keys import PIPELINE_KEYS, STAGES
from snnkd.recipe.overrides import put, put_swept
from snnkd.recipe.resolve import Pipeline
from snnkd.recipe.sweep import Axes, Task, Tasks, tasks_of
from snnkd.recipe.yaml_io import dump_yaml, parse_yaml
from snnkd.schema.fields import to_plain
from snnkd.schema.run import StageRecipe

Values = dict[str, Any]
BY_NAME = ("data", "model", "neuron", "loss")
"""Sections that a swept name replaces as a whole."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """A recipe with every key, as a mapping of key to dataclass or value."""

    sections: Values
    without: frozenset[str] = frozenset()
    """Dotted paths that a sweep sets above the sections."""
    help: bool = True
    """Whether the help of every key is written beside it."""

    @property
    def plain(self) -> Values:
        made: Values = to_plain(self.sections)
        for path in self.without:
            *parents, last = path.split(".")
            holder = made
            for key in parents:
                holder = holder.get(key, {})
            holder.pop(last, None)
        return made

    @property
    def text(self) -> str:
        return (
            commented_yaml(self.sections, without=self.without)
            if self.help
            else dump_yaml(self.plain).rstrip()
        )


def write_out(tasks: Tasks) -> Written:
    """The recipe of `tasks` in full; with a sweep, the first task's keys and the sweep, where that says the
    same.

    Raises UsageError where --set reaches into what is swept in a way that one recipe cannot say.
    """
    if not tasks.axes:
        return Written(sections=_sections(tasks.all[0].pipeline))
    wanted = [(task.number, repr(task.pipeline)) for task in tasks.all]
    as_it_is = Written(sections={**tasks.document, "sweep": tasks.axes}, help=False)
    for made in (_with_sweep(tasks, tasks.axes), _with_sweep(tasks, _in_full(tasks)), as_it_is):
        try:
            again = tasks_of(parse_yaml(made.text.encode(), tasks.recipe), tasks.recipe)
        except UsageError:
            continue
        if [(task.number, repr(task.pipeline)) for task in again.all] == wanted:
            return made
    raise UsageError(
        f"{tasks.recipe}: its sweep with these --set cannot be written as one recipe; write their values "
        f"into the recipe"
    )


def _sections(pipeline: Pipeline, flat: bool | None = None) -> Values:
    """One stage flat, several as sections; left to itself, a pipeline of one stage and nothing else is
    written flat."""
    stages = {name: stage for name in STAGES if (stage := getattr(pipeline, name)) is not None}
    ends = {
        name: end for name in ("eval", "export", "compare") if (end := getattr(pipeline, name)) is not None
    }
    if flat or (flat is None and len(stages) == 1 and not ends):
        return _keys(next(iter(stages.values())), ())
    return {
        "schema": 1,
        **{name: _keys(stage, ("schema", "stage")) for name, stage in stages.items()},
        **ends,
    }


def _keys(stage: StageRecipe, but: tuple[str, ...]) -> Values:
    return {f.name: getattr(stage, f.name) for f in dataclasses.fields(stage) if f.name not in but}


def _with_sweep(tasks: Tasks, axes: Axes) -> Written:
    """The first task's sections; what a swept shared key decides stands above them, where the sweep can reach
    it."""
    flat = "stage" in tasks.document
    sections = _sections(tasks.all[0].pipeline, flat)
    if flat:
        return Written(sections={**sections, "sweep": axes})
    shared: Values = {}
    without: set[str] = set()
    for key, values in axes.items():
        if key.split(".")[0] in PIPELINE_KEYS:
            continue
        unit = _unit(key)
        if key == unit and isinstance(values[0], (str, Mapping)):
            put_swept(shared, key, values[0])
        for stage in (stage for stage in STAGES if stage in sections):
            held = [_units(getattr(task.pipeline, stage)) for task in _along(tasks, key)]
            moved = {
                name
                for units in held
                for name in units
                if any(other.get(name) != units[name] for other in held)
            }
            without |= {f"{stage}.{name}" for name in moved}
            if unit in moved and held[0].get(unit) is not None:
                put(shared, unit, held[0][unit])
    without |= _emptied(sections, without)
    first = sections.pop("schema")
    return Written(
        sections={"schema": first, **shared, **sections, "sweep": axes}, without=frozenset(without)
    )


def _along(tasks: Tasks, key: str) -> list[Task]:
    """The tasks that are the first one but for this key."""
    keys = list(tasks.axes)
    stride = math.prod(len(tasks.axes[later]) for later in keys[keys.index(key) + 1 :])
    return [tasks.all[i * stride] for i in range(len(tasks.axes[key]))]


def _unit(key: str) -> str:
    """The part of a stage that a key lies in and that is moved as a whole: a loss, else a section's key."""
    parts = key.split(".")
    return "loss" if parts[0] == "loss" else ".".join(parts[:2])


def _units(stage: StageRecipe) -> Values:
    made: Values = {}
    for key, held in to_plain(stage).items():
        made |= (
            {f"{key}.{name}": value for name, value in held.items()}
            if isinstance(held, dict) and key != "loss"
            else {key: held}
        )
    return made


def _emptied(sections: Values, without: set[str]) -> set[str]:
    """Sections of which nothing is left: written empty they would hide the shared ones."""
    found = set()
    for stage in (stage for stage in STAGES if stage in sections):
        for key, held in to_plain(sections[stage]).items():
            if isinstance(held, dict) and held and all(f"{stage}.{key}.{name}" in without for name in held):
                found.add(f"{stage}.{key}")
    return found


def _in_full(tasks: Tasks) -> Axes:
    """The sweep with the whole section in place of a name, as --set may have changed it."""
    made: Axes = {}
    for key, values in tasks.axes.items():
        head, _, rest = key.partition(".")
        stage, section = (head, rest) if head in STAGES else (_last_stage(tasks.all[0].pipeline), key)
        swept = (
            [getattr(getattr(task.pipeline, stage), section) for task in _along(tasks, key)]
            if section in BY_NAME
            else values
        )
        made[key] = to_plain(swept)
    return made


def _last_stage(pipeline: Pipeline) -> str:
    return "distill" if pipeline.distill else "teach"
