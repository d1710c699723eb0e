"""The option `--sweep KEY=VALUES`: axes of a sweep from the command line, and the equivalent recipe.

KEY is a recipe key or the name of a flag (`T`, `lr`), of the student if the recipe has stages; VALUES are
separated by commas, `0-4` is a range of integers, and a YAML list or mapping is used as it is.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from snnkd.errors import FileError, UsageError
from snnkd.recipe.keys import PIPELINE_KEYS, Values
from snnkd.recipe.overrides import FLAGS
from snnkd.recipe.yaml_io import dump_yaml, parse_value
from snnkd.schema import fields
from snnkd.schema.run import DistillRecipe

MAX_RANGE = 10_000


def add_axes(document: Values, options: Sequence[str]) -> Values:
    """Add the axes of `options` to the sweep of a recipe, in place, replacing equal keys; return them.

    Raises UsageError for anything but KEY=VALUES, and for a key given twice.
    """
    axes: Values = {}
    for option in options:
        name, equals, text = option.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"--sweep {option!r} is not KEY=VALUES, for example --sweep seed=0-4")
        key = _axis_key(name.strip(), document)
        if key in axes:
            raise UsageError(f"--sweep {option!r}: {key!r} is swept twice; give all values at once")
        axes[key] = _parse_values(text.strip(), option)
    if axes and isinstance(sweep := document.setdefault("sweep", {}), dict):
        sweep |= axes
    return axes


def option_recipe(recipe: str, axes: Mapping[str, Any], settings: Sequence[str] = ()) -> str:
    """The recipe equivalent to `recipe` with these axes, as YAML; its first line is the command."""
    options = "".join(f" --set {shlex.quote(setting)}" for setting in settings)
    return f"# snnkd run FILE.yaml{options}\n{dump_yaml({'extends': recipe, 'sweep': dict(axes)}).rstrip()}"


def _axis_key(name: str, document: Values) -> str:
    """The key in the recipe's sweep: the one it has, else the student's, as flags apply to one stage."""
    key = FLAGS.get(name.replace("-", "_"), name)
    own = f"distill.{key}"
    swept = document.get("sweep")
    if isinstance(swept, Mapping) and key in swept:
        return key
    head = key.split(".")[0]
    shared = head in PIPELINE_KEYS or head == "data" or head not in fields.hints(DistillRecipe)
    return key if shared or "distill" not in document else own


def _parse_values(text: str, option: str) -> Any:
    try:
        if text.startswith(("[", "{")):
            return parse_value(text, "--sweep")
        return [value for part in text.split(",") for value in _parse_part(part.strip(), option)]
    except FileError as error:
        raise UsageError(f"--sweep {option!r}: {str(error).removeprefix('--sweep: ')}") from None


def _parse_part(part: str, option: str) -> list[Any]:
    if not part:
        raise UsageError(f"--sweep {option!r}: a value is empty; separate values by single commas")
    ends = re.fullmatch(r"([0-9]{1,18})-([0-9]{1,18})", part)
    if ends is None:
        return [parse_value(part, "--sweep")]
    first, last = int(ends[1]), int(ends[2])
    if not 0 <= last - first < MAX_RANGE:
        raise UsageError(f"--sweep {option!r}: the range {part} must go up, over at most {MAX_RANGE} numbers")
    return list(range(first, last + 1))
