"""The axes of a `sweep:` section: checked keys with a list of values or a distribution."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from snnkd.errors import UsageError
from snnkd.recipe.keys import PIPELINE_KEYS, STAGES, key_hint
from snnkd.recipe.loss_section import expand_loss, loss_label
from snnkd.recipe.resolve import stage_of
from snnkd.recipe.yaml_io import flow_yaml
from snnkd.schema import fields

Values = dict[str, Any]
Axes = dict[str, Any]
"""The list of values or the distribution of each swept key, in order."""
FIXED = ("sweep", "search", "compare", "schema", "stage")
"""Keys that are the same in every task."""
MAX_TASKS = 10_000
"""Each task of a job array first resolves all of them, which takes seconds at this number."""


def check_axes(section: Any, base: Values) -> Axes:
    """The checked `sweep:` section of a recipe whose other keys are `base`; distributions are not read."""
    if not isinstance(section, Mapping) or not section:
        raise UsageError(
            f"sweep: {section!r} is not a mapping of keys to lists; "
            "write sweep: {seed: [0, 1, 2]}, or remove it"
        )
    for key, values in section.items():
        check_key(key, base)
        if not is_distribution(values):
            _check_values(key, values)
    check_count(math.prod(len(values) for values in section.values() if not is_distribution(values)))
    return dict(section)


def is_distribution(values: Any) -> bool:
    return isinstance(values, Mapping)


def check_count(tasks: int) -> None:
    """Raise UsageError for too many tasks."""
    if tasks > MAX_TASKS:
        raise UsageError(f"sweep: {tasks} tasks are too many; at most {MAX_TASKS}; shorten a list")


def check_key(key: Any, base: Values) -> None:
    """Raise UsageError for a key that no task could set."""
    stage = stage_of(base) if "stage" in base else None
    stages = [stage] if stage else [name for name in STAGES if name in base]
    known = {name for each in stages for name in fields.hints(STAGES[each])} | (
        set() if stage else {*PIPELINE_KEYS}
    )
    head, _, rest = str(key).partition(".")
    if head in FIXED or str(key).split(".")[-1] == "stage":
        raise UsageError(f"sweep: the key {key!r} cannot be swept; remove it")
    if "execution" in str(key).split(".")[:2]:
        raise UsageError(f"sweep: the key {key!r} does not change the run; remove it")
    if head not in known:
        hint = (
            f"; a one-stage recipe has no sections, write {rest!r}"
            if stage and head in STAGES
            else key_hint(head, known - {*FIXED}, stages)
        )
        raise UsageError(f"sweep: unknown key {str(key)!r}{hint}")
    if head in PIPELINE_KEYS and head not in base:
        raise UsageError(
            f"sweep: the key {key!r} needs a section {head!r}, which the recipe lacks; "
            "add it, or remove the key"
        )


def _check_values(key: str, values: Any) -> None:
    if not isinstance(values, list):
        raise UsageError(f"sweep: the values of {key!r} are {values!r}, which is not a list; write [a, b]")
    if not values:
        raise UsageError(
            f"sweep: the list of {key!r} is empty; it needs at least one value, or remove the key"
        )
    for i, value in enumerate(values):
        if value in values[:i]:
            raise UsageError(f"sweep: {key!r} lists the value {format_value(key, value)} twice; remove one")


def format_value(key: str, value: Any) -> str:
    """A value on one line; a loss by its label, `hta-kl head=strict`."""
    if isinstance(value, Mapping) and key.rpartition(".")[2] == "loss":
        try:
            return loss_label(expand_loss(value))
        except UsageError:  # refused later
            pass
    return value if isinstance(value, str) and value.isprintable() else flow_yaml(value)
