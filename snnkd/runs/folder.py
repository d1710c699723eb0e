"""Run directories: identity, name and hash, and the main files."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from snnkd.catalog.models import MODELS
from snnkd.files import read_json, sha256, user_path
from snnkd.recipe.loss_section import user_code
from snnkd.schema import fields
from snnkd.schema.fields import to_plain
from snnkd.schema.marks import Since
from snnkd.schema.run import DistillRecipe, StageRecipe
from snnkd.usercode import source_sha256

RECIPE = "recipe.yaml"
TAGS = "tags.json"
"""Words that the user gave a run."""
RESULT = "result.json"
"""Written last; its presence marks the run as finished."""
CHECKPOINT = "last.pt"
"""The newest checkpoint of a run in training."""
_PLAIN_KEYS = ("model", "state_dict", "size", "mean", "std", "class_names")
"""Keys of a teacher from a plain weights file; a run records them in its config."""


def runs_folder() -> Path:
    """SNNKD_RUNS, else runs/ in the working directory."""
    return user_path(os.environ.get("SNNKD_RUNS") or "runs")


def identity(
    recipe: StageRecipe,
    data_sha256: str,
    teacher_sha256: str | None,
    class_names: Sequence[str] | None = None,
    init_sha256: str | None = None,
) -> dict[str, Any]:
    """The keys that identify a run: data and teacher by content, the recipe's others except `execution`."""
    values: dict[str, Any] = identity_values(recipe)
    del values["execution"]
    if init_sha256 is not None:
        values["train"]["init"] = init_sha256
    values["data"] = {
        "sha256": data_sha256,
        "val_fraction": recipe.data.val_fraction,
        "augment": identity_values(recipe.data.augment),
        **({} if class_names is None else {"class_names": list(class_names)}),
    }
    if "teacher" in values:
        values["teacher"] = {
            "sha256": teacher_sha256,
            **{key: values["teacher"][key] for key in _PLAIN_KEYS if key in values["teacher"]},
        }
    code = {name: source_sha256(name) for name in _user_code(recipe)}
    return {**values, "code": code} if code else values


def identity_values(value: Any) -> Any:
    """`to_plain` without keys of a later release (`Since`) that have their default."""
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
    """Names of the user's functions in a run; data sets are identified by content instead."""
    names = [recipe.model.name] if MODELS.is_user_defined(recipe.model.name) else []
    if not isinstance(recipe, DistillRecipe):
        return names
    teacher = recipe.teacher.model
    names += [teacher.name] if teacher is not None and MODELS.is_user_defined(teacher.name) else []
    return names + user_code(recipe.loss)


def run_name(recipe: StageRecipe, identity: dict[str, Any]) -> str:
    """`<stage>-<data>-<model>[-<loss>-T<T>]-<hash>-s<seed>`, with `recipe_hash`."""
    parts = [recipe.stage, _data_label(recipe.data.name), _file_name(recipe.model.name)]
    if isinstance(recipe, DistillRecipe):
        parts += [_file_name(recipe.loss.name), f"T{recipe.model.T}"]
    return "-".join([*parts, recipe_hash(identity), f"s{recipe.seed}"])


def _file_name(name: str) -> str:
    """A name as part of a file name: `mine:my_loss` becomes `mine_my_loss`."""
    return re.sub(r"[^\w-]+", "_", name)


def recipe_hash(identity: dict[str, Any]) -> str:
    """6 hex digits over the identity keys other than seed: equal for runs that differ only in seed."""
    content = {key: value for key, value in identity.items() if key != "seed"}
    return sha256(json.dumps(content, sort_keys=True).encode())[:6]


def _data_label(name: str) -> str:
    kind, _, rest = name.partition(":")
    label = re.sub(r"[^a-z0-9]+", "_", Path(rest).stem.lower()).strip("_") if rest else ""
    return f"{kind}_{label}" if label else kind


def flatten(section: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by dotted recipe key; of a loss with one term `loss.KEY`, of several `loss.terms.NUMBER.KEY`."""
    flat: dict[str, Any] = {}
    for key, value in section.items():
        path = f"{prefix}.{key}" if prefix else str(key)
        if path == "loss.terms" and isinstance(value, list) and all(isinstance(t, Mapping) for t in value):
            for i, term in enumerate(value):
                flat |= flatten(term, prefix if len(value) == 1 else f"{path}.{i}")
        else:
            flat |= flatten(value, path) if isinstance(value, Mapping) else {path: value}
    return flat


def last_part(key: str) -> str:
    """The last part of a dotted key; of a section's name or hash, the section."""
    return key.removesuffix(".name").removesuffix(".sha256").rpartition(".")[2]


def difference(old: Any, new: Any, where: str = "") -> tuple[str, Any, Any] | None:
    """The first key that differs between two identities, with both values; None if they are equal."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*new, *(key for key in old if key not in new)]:
            change = difference(old.get(key), new.get(key), f"{where}.{key}" if where else key)
            if change:
                return change
        return None
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, pair in enumerate(zip(old, new, strict=True)):
            change = difference(*pair, f"{where}.{i}")
            if change:
                return change
        return None
    return None if old == new else (where, old, new)


def is_finished(folder: Path) -> bool:
    return (folder / RESULT).is_file()


def read_result(folder: Path) -> dict[str, Any]:
    """result.json of a finished run; raises FileError when it is missing or damaged."""
    return read_json(folder / RESULT)
