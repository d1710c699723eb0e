"""Apply flags, `--set KEY=VALUE` and swept values to the plain values of a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from snnkd.catalog.data import DATA
from snnkd.errors import FileError, UsageError
from snnkd.recipe.keys import NAMED, STAGES, Values, expand_names, holders, value_at
from snnkd.recipe.loss_section import expand_loss, replace_loss, set_temperature
from snnkd.recipe.teacher_section import teacher_from_flags
from snnkd.recipe.yaml_io import parse_value
from snnkd.schema import fields
from snnkd.schema.data import DataConfig
from snnkd.schema.events import EventConfig

FLAGS = {
    "data": "data",
    "model": "model",
    "neuron": "neuron",
    "loss": "loss",
    "T": "model.T",
    "epochs": "train.epochs",
    "batch_size": "train.batch_size",
    "lr": "train.lr",
    "init": "train.init",
    "seed": "seed",
    "device": "execution.device",
    "track": "execution.track",
    "allow_weak_teacher": "execution.allow_weak_teacher",
    "continue_anyway": "execution.continue_anyway",
    "teacher": "teacher.run",
    "teacher_model": "teacher.model",
    "teacher_weights": "teacher.run",
    "temperature": "loss.temperature",
}
"""The recipe key that each flag of a stage's command sets, in the order in which they are applied."""


def given_flags(flags: Mapping[str, Any]) -> Values:
    """The flags that are set; None and False mean not given. Raises TypeError for an unknown one."""
    given = {flag: value for flag, value in flags.items() if _is_given(value)}
    for flag in given:
        if flag not in FLAGS:
            raise TypeError(f"unknown flag {flag!r}; known: {', '.join(FLAGS)}")
    return given


def _is_given(value: Any) -> bool:
    return value is not None and value is not False and value != []


def apply_flags(values: Values, flags: Mapping[str, Any]) -> None:
    """Apply `flags` to the values of one stage, in place; None and False mean not given."""
    given = given_flags(flags)
    teacher = teacher_from_flags(
        *(given.get(flag) for flag in ("teacher", "teacher_model", "teacher_weights"))
    )
    if teacher is not None:
        values["teacher"] = teacher
    for flag, key in FLAGS.items():
        if flag not in given or key.startswith("teacher."):
            continue
        if key in NAMED:
            replace_section(values, key, given[flag])
        elif flag == "track":
            set_value(values, key, [given[flag]] if isinstance(given[flag], str) else list(given[flag]))
        elif flag == "temperature":
            set_temperature(values, given[flag])
        else:
            set_value(values, key, given[flag])


def replace_section(values: Values, key: str, value: Any) -> None:
    """Replace the data, model, neuron or loss section, in place, by a name or a section; a model keeps T."""
    if key == "loss":
        replace_loss(values, value)
        return
    section = {"name": value} if isinstance(value, str) else value
    model = values.get("model")
    if key == "model" and isinstance(section, Mapping) and isinstance(model, Mapping) and "T" in model:
        section = {"T": model["T"], **section}
    if key == "data" and isinstance(model, dict) and _is_event_data(section):
        model.pop("T", None)
    values[key] = section


def _is_event_data(section: Any) -> bool:
    name = section.get("name") if isinstance(section, Mapping) else None
    return isinstance(name, str) and name in DATA and issubclass(DATA[name].options, EventConfig)


def apply_settings(values: Values, settings: Sequence[str]) -> None:
    """Apply `KEY=VALUE` settings in their order, in place.

    Another `data.name` keeps of the recipe's section what every data set has (augment, val_fraction).
    """
    for setting in settings:
        path, _, name = setting.partition("=")
        section = value_at(values, tuple(path.strip().split("."))[:-1])
        if (
            f".{path.strip()}".endswith(".data.name")
            and isinstance(section, dict)
            and section.get("name") != name
        ):
            for key in section.keys() - fields.hints(DataConfig).keys():
                del section[key]
    for setting in settings:
        apply_setting(values, setting)


def apply_setting(values: Values, setting: str) -> None:
    """Set `KEY=VALUE` in `values`, in place; bare names become sections for the settings that follow."""
    path, equals, text = setting.partition("=")
    if not equals or not path:
        raise UsageError(f"--set {setting!r} is not KEY=VALUE, for example --set train.weight_decay=1e-4")
    try:
        value = parse_value(text, "--set")
    except FileError as error:
        raise UsageError(f"--set {setting[:80]!r}: {str(error).removeprefix('--set: ')}") from None
    if path.split(".")[-1] == "stage":
        raise UsageError(f"--set {setting!r}: the command chooses the stage")
    holder = (
        values
        if path == "loss"
        else values.get(path.removesuffix(".loss"))
        if path.endswith(".loss")
        else None
    )
    if isinstance(value, str) and isinstance(holder, dict):
        replace_loss(holder, value)
    else:
        set_value(values, path.strip(), value)
    expand_sections(values)


def expand_sections(values: Values) -> Values:
    """Expand bare names to sections and losses to terms, in place, in a recipe and its stages."""
    for holder in holders(expand_names(values)):
        if "loss" in holder:
            holder["loss"] = expand_loss(holder["loss"])
    return values


def set_swept_value(values: Values, path: str, value: Any) -> None:
    """Set a swept value, in place; named sections are replaced, but a model keeps its T."""
    before, _, last = path.rpartition(".")
    for stage in STAGES:
        if stage in values and values[stage] is None:  # an empty section in YAML
            values[stage] = {}
    holder = values[before] if before in STAGES else values
    if before not in ("", *STAGES) or last not in NAMED:
        set_value(values, path, value, "sweep")
    elif not isinstance(holder, dict):
        raise UsageError(f"{before}: {holder!r} is not a mapping of keys to values")
    elif last == "loss" and not before and isinstance(values.get("distill"), dict):
        replace_loss(values, value, values["distill"])
    else:
        replace_section(holder, last, value)
    expand_sections(values)


def set_value(values: Values, path: str, value: Any, source: str = "--set") -> None:
    """Set the value at a dotted path, in place; `source` opens error messages."""
    *parents, last = path.split(".")
    node: Any = values
    for i, key in enumerate(parents):
        if isinstance(node, list):
            node = node[_index(node, key, f"{source} {path}")]
            if not isinstance(node, (dict, list)):
                raise UsageError(f"{source} {path}: {'.'.join(parents[: i + 1])} is {node!r}, not a section")
            continue
        if not isinstance(node.get(key), (dict, list)):
            if node.get(key) is not None:
                raise UsageError(
                    f"{source} {path}: {'.'.join(parents[: i + 1])} is {node[key]!r}, not a section"
                )
            node[key] = {}
        node = node[key]
    if isinstance(node, list):
        node[_index(node, last, f"{source} {path}")] = value
    else:
        node[last] = value


def _index(items: list[Any], key: str, where: str) -> int:
    if not key.isdecimal() or int(key) >= len(items):
        valid = f"0 to {len(items) - 1}" if items else "none"
        raise UsageError(f"{where}: {key!r} is not an index of the list; valid: {valid}")
    return int(key)
