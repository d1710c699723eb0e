"""The names of runs and what makes two runs the same."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path
from typing import Any

from snnkd.catalog.models import MODELS
from snnkd.files import read_json, sha256
from snnkd.recipe.loss_section import user_code
from snnkd.schema import fields
from snnkd.schema.fields import to_plain
from snnkd.schema.marks import Since
from snnkd.schema.run import DistillRecipe, StageRecipe
from snnkd.usercode import source_sha256

RECIPE = "recipe.yaml"
RUN = "run.json"
"""Identity and what the bytes depend on; its presence says that the run has begun."""
RESULT = "result.json"
"""Written last: its presence says that the run is finished."""


_INPUT_KEYS = ("model", "size", "mean", "std")


def runs_folder() -> Path:
    """SNNKD_RUNS, else runs/ here."""
    return Path(os.environ.get("SNNKD_RUNS") or "runs")


def identity(recipe: StageRecipe, data_sha256: str, teacher_sha256: str | None) -> dict[str, Any]:
    """What makes this run this run: data and teacher by content, and every key but `execution`."""
    made: dict[str, Any] = identity_values(recipe)
    del made["execution"]
    made["data"] = {
        "sha256": data_sha256,
        "val_fraction": recipe.data.val_fraction,
        "augment": identity_values(recipe.data.augment),
    }
    if "teacher" in made:
        # a finished teacher's weights say how they see an image; of a plain file the recipe says it
        made["teacher"] = {
            "sha256": teacher_sha256,
            **{key: made["teacher"][key] for key in _INPUT_KEYS if key in made["teacher"]},
        }
    code = {name: source_sha256(name) for name in _user_code(recipe)}
    return {**made, "code": code} if code else made


def identity_values(value: Any) -> Any:
    """`to_plain` without keys that a later release added and that hold their default (`Since`)."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints, plain = fields.hints(type(value)), to_plain(value)
        return {
            f.name: identity_values(getattr(value, f.name))
            for f in dataclasses.fields(value)
            if f.name in plain and not (_is_later(hints[f.name]) and getattr(value, f.name) == f.default)
        }
    return [identity_values(item) for item in value] if isinstance(value, (list, tuple)) else value


def _is_later(hint: Any) -> bool:
    return any(isinstance(mark, Since) for mark in getattr(hint, "__metadata__", ()))


def _user_code(recipe: StageRecipe) -> list[str]:
    """The functions of the user's that decide what a run computes; data count by their content."""
    named = [recipe.model.name] if MODELS.is_users(recipe.model.name) else []
    if not isinstance(recipe, DistillRecipe):
        return named
    teacher = recipe.teacher.model
    named += [teacher.name] if teacher is not None and MODELS.is_users(teacher.name) else []
    return named + user_code(recipe.loss)


def run_name(recipe: StageRecipe, same: dict[str, Any]) -> str:
    """`<stage>-<data>-<model>[-<loss>-T<T>]-<hash>-s<seed>`; the hash is over the identity keys other than seed."""
    parts = [recipe.stage, _data_label(recipe.data.name), _file_name(recipe.model.name)]
    if isinstance(recipe, DistillRecipe):
        parts += [_file_name(recipe.loss.name), f"T{recipe.model.T}"]
    return "-".join([*parts, recipe_hash(same), f"s{recipe.seed}"])


def _file_name(name: str) -> str:
    """A name as part of a file name: `mine:my_loss` becomes `mine_my_loss`."""
    return re.sub(r"[^\w-]+", "_", name)


def recipe_hash(same: dict[str, Any]) -> str:
    """The first 6 hex digits over the identity keys other than seed: equal for runs that differ only in seed."""
    content = {key: value for key, value in same.items() if key != "seed"}
    return sha256(json.dumps(content, sort_keys=True).encode())[:6]


def _data_label(name: str) -> str:
    kind, _, rest = name.partition(":")
    label = re.sub(r"[^a-z0-9]+", "_", Path(rest).stem.lower()).strip("_") if rest else ""
    return f"{kind}_{label}" if label else kind


def difference(old: Any, new: Any, where: str = "") -> tuple[str, Any, Any] | None:
    """The first key at which two identities differ, with both values; None when they are equal."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*new, *(key for key in old if key not in new)]:
            found = difference(old.get(key), new.get(key), f"{where}.{key}" if where else key)
            if found:
                return found
        return None
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, pair in enumerate(zip(old, new, strict=True)):
            found = difference(*pair, f"{where}.{i}")
            if found:
                return found
        return None
    return None if old == new else (where, old, new)


def is_finished(folder: Path) -> bool:
    return (folder / RESULT).is_file()


def read_result(folder: Path) -> dict[str, Any]:
    """result.json of a finished run; raises FileError when it is missing or damaged."""
    return read_json(folder / RESULT)
