"""`teacher:`: whose answers the student learns from, from flags and text to one checked section."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from snnkd.catalog.models import LIBRARIES, MODELS
from snnkd.errors import UsageError
from snnkd.schema import fields
from snnkd.schema.model import ModelConfig
from snnkd.schema.run import TeacherConfig

PLAIN = (".pt", ".pth", ".bin", ".ckpt", ".tar")
"""Endings of files that torch.save writes."""


def teacher_of_flags(teacher: str | None, model: str | None, weights: str | None) -> dict[str, Any] | None:
    """The section that `--teacher`, `--teacher-model` and `--teacher-weights` stand for; None when none was
    given."""
    if teacher is not None and teacher.partition(":")[0] in LIBRARIES:
        if model is not None:
            raise UsageError(
                f"--teacher {teacher} names a network, and so does --teacher-model {model}; give one"
            )
        teacher, model = None, teacher
    if teacher is not None and weights is not None:
        raise UsageError(
            f"--teacher {teacher} and --teacher-weights {weights} both say where the weights are; give one"
        )
    run = teacher if weights is None else weights
    said = {"run": run, "model": None if model is None else {"name": model}}
    return {key: value for key, value in said.items() if value is not None} or None


def build_teacher(values: Any) -> TeacherConfig:
    """The section from plain values. Raises UsageError for what does not go together."""
    if isinstance(values, str):
        values = teacher_of_flags(values, None, None)
    if not isinstance(values, Mapping):
        raise UsageError(f"teacher: {values!r} is neither a run nor a section")
    made = fields.build(TeacherConfig, {**values, "model": _model(values.get("model"))}, "teacher")
    run, model = made.run, made.model
    if model is None:
        for key in ("size", "mean", "std"):
            if getattr(made, key) is not None:
                raise UsageError(
                    f"teacher.{key}: goes with a plain file of weights, whose network teacher.model names"
                )
        if run is not None and run.partition(":")[0] in LIBRARIES:
            raise UsageError(
                f"teacher.run: {run!r} is a network; write it as teacher.model, and its file of weights as "
                f"teacher.run"
            )
        if run is not None and run.endswith(PLAIN):
            raise UsageError(
                f"teacher.run: {run} holds weights alone; name their network with --teacher-model (`snnkd "
                f"list models`)"
            )
        return made
    if run is None or run == "latest":
        raise UsageError(
            f"teacher.model: {model.name} needs its weights from a local file; add --teacher-weights FILE"
        )
    _check_statistics(made)
    return made


def _model(values: Any) -> ModelConfig | None:
    if values is None or isinstance(values, ModelConfig):
        return values
    values = {"name": values} if isinstance(values, str) else values
    if not isinstance(values, Mapping) or "name" not in values:
        raise UsageError(f"teacher.model: {values!r} is neither a name nor a section with one")
    library = str(values["name"]).partition(":")[0]
    made: ModelConfig = fields.build(MODELS[str(values["name"])].options, values, "teacher.model")
    if made.T is not None:
        raise UsageError(
            f"teacher.model.T: {made.T} given for a teacher, which has no timesteps; remove the key"
        )
    if library in LIBRARIES and find_spec(library) is None:
        raise UsageError(
            f"teacher.model: {made.name} needs {library}, which is not installed: pip install {library}"
        )
    return made


def _check_statistics(made: TeacherConfig) -> None:
    if (made.mean is None) != (made.std is None) or (
        made.mean and made.std and len(made.mean) != len(made.std)
    ):
        raise UsageError("teacher.mean and teacher.std go together, a number for each channel")
    if made.std is not None and min(made.std, default=0.0) <= 0:
        raise UsageError(f"teacher.std: {list(made.std)} must be above 0")
