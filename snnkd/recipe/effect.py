"""Flags and keys without effect, which are refused with the reason.

Permissions that are not needed (execution.allow_weak_teacher, continue_anyway) are accepted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from snnkd.errors import UsageError
from snnkd.recipe.overrides import FLAGS, given_flags
from snnkd.schema.neuron import AnyNeuron, IzhikevichConfig
from snnkd.schema.run import DistillRecipe, StageRecipe


def check_effect(stages: Sequence[StageRecipe], flags: Mapping[str, Any] | None = None) -> None:
    """Raise UsageError for a key that all of `stages` ignore; if one of `flags` set it, name the flag."""
    ignored = [dict(_ignored_keys(stage)) for stage in stages if isinstance(stage, DistillRecipe)]
    for key in ignored[0] if ignored else ():
        if not all(key in keys for keys in ignored):
            continue
        value, reason = ignored[0][key]
        for flag in given_flags(flags or {}):
            if FLAGS[flag] == key:
                raise UsageError(f"{_flag_text(flag, (flags or {})[flag])}: {reason}; remove it")
        raise UsageError(f"{key}: {value}, but {reason}; remove it")


def _flag_text(flag: str, value: Any) -> str:
    return f"--{flag.replace('_', '-')} {value}"


def _ignored_keys(recipe: DistillRecipe) -> Iterator[tuple[str, tuple[Any, str]]]:
    """Keys that are set and change nothing in this stage, with value and reason."""
    loss, hard = recipe.loss, recipe.loss.hard
    if not recipe.needs_teacher:
        reason = f"loss {loss.name} uses no teacher"
        for f in dataclasses.fields(recipe.teacher):
            value = getattr(recipe.teacher, f.name)
            if value is not None:
                yield f"teacher.{f.name}", (getattr(value, "name", value), reason)
    if recipe.train.label_smoothing and not hard.weight and not hard.weight_end:
        yield "train.label_smoothing", (recipe.train.label_smoothing, "loss.hard.weight is 0")
    yield from _ignored_neuron_keys(recipe.neuron)


def _ignored_neuron_keys(neuron: AnyNeuron) -> Iterator[tuple[str, tuple[Any, str]]]:
    defaults: Any = type(neuron)()
    v_reset = getattr(neuron, "v_reset", None)
    if getattr(neuron, "reset", None) == "soft" and v_reset != getattr(defaults, "v_reset", None):
        yield "neuron.v_reset", (v_reset, "neuron.reset: soft never uses it")
    if isinstance(neuron, IzhikevichConfig) and neuron.a == neuron.b == 0 and neuron.tau_w != defaults.tau_w:
        yield "neuron.tau_w", (neuron.tau_w, "without neuron.a or neuron.b there is no recovery")
