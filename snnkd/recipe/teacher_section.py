"""The `teacher:` section, built from flags or plain values and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from snnkd.catalog.hub import check_address, is_address
from snnkd.catalog.models import LIBRARIES, MODELS
from snnkd.errors import UsageError
from snnkd.files import user_path
from snnkd.schema import fields
from snnkd.schema.model import ModelConfig
from snnkd.schema.run import TeacherConfig

TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".tar")
"""Suffixes of files written by torch.save."""


def teacher_from_flags(teacher: str | None, model: str | None, weights: str | None) -> dict[str, Any] | None:
    """Build the section from `--teacher`, `--teacher-model` and `--teacher-weights`; None without any."""
    if teacher is not None and teacher.partition(":")[0] in LIBRARIES:
        if model is not None:
            raise UsageError(f"--teacher {teacher} and --teacher-model {model} both name a network; give one")
        teacher, model = None, teacher
    if teacher is not None and weights is not None:
        raise UsageError(
            f"--teacher {teacher} and --teacher-weights {weights} both name the weights; give one"
        )
    run = teacher if weights is None else weights
    section = {"run": run, "model": None if model is None else {"name": model}}
    return {key: value for key, value in section.items() if value is not None} or None


def build_teacher(values: Any) -> TeacherConfig:
    """Build the section from plain values. Raises UsageError for keys that contradict each other."""
    if isinstance(values, str):
        values = teacher_from_flags(values, None, None)
    if not isinstance(values, Mapping):
        raise UsageError(f"teacher: {values!r} is neither a run nor a section")
    config = fields.build(TeacherConfig, {**values, "model": _model(values.get("model"))}, "teacher")
    if config.run is not None and config.run.startswith("~"):
        config = replace(config, run=str(user_path(config.run)))
    run, model = config.run, config.model
    _check_published(run, model)
    if model is None:
        for key in ("state_dict", "size", "mean", "std", "class_names"):
            if getattr(config, key) is not None:
                raise UsageError(
                    f"teacher.{key}: applies to a plain weights file only; name its network in teacher.model"
                )
        if run is not None and run.partition(":")[0] in LIBRARIES:
            raise UsageError(
                f"teacher.run: {run!r} is a network; write it as teacher.model, its weights as teacher.run"
            )
        if run is not None and run.endswith(TORCH_SUFFIXES):
            raise UsageError(
                f"teacher.run: {run} has only weights; "
                "name the network with --teacher-model (`snnkd list models`)"
            )
        return config
    if run is None or run == "latest":
        raise UsageError(f"teacher.model: {model.name} needs weights; add --teacher-weights FILE")
    _check_statistics(config)
    return config


def _check_published(run: str | None, model: ModelConfig | None) -> None:
    """Refuse weights from a hub or library that do not go with the model."""
    if run == "pretrained" and (model is None or model.name.partition(":")[0] not in LIBRARIES):
        name = "no network" if model is None else model.name
        raise UsageError(f"teacher.run: pretrained weights exist for {' and '.join(LIBRARIES)}, not {name}")
    if run is None or not is_address(run):
        return
    check_address(run, "teacher.run")
    if model is not None:
        raise UsageError(f"teacher.model: {model.name}, but {run} has its own config; remove --teacher-model")


def _model(values: Any) -> ModelConfig | None:
    if values is None or isinstance(values, ModelConfig):
        return values
    values = {"name": values} if isinstance(values, str) else values
    if not isinstance(values, Mapping) or "name" not in values:
        raise UsageError(f"teacher.model: {values!r} is neither a name nor a section with one")
    library = str(values["name"]).partition(":")[0]
    config: ModelConfig = fields.build(MODELS[str(values["name"])].options, values, "teacher.model")
    if config.T is not None:
        raise UsageError(f"teacher.model.T: {config.T}, but a teacher has no timesteps; remove the key")
    if library in LIBRARIES and find_spec(library) is None:
        raise UsageError(
            f"teacher.model: {config.name} needs {library}, which is not installed: pip install {library}"
        )
    return config


def _check_statistics(config: TeacherConfig) -> None:
    if (config.mean is None) != (config.std is None) or (
        config.mean and config.std and len(config.mean) != len(config.std)
    ):
        raise UsageError("teacher.mean and teacher.std: give both, one number per channel")
    if config.std is not None and min(config.std, default=0.0) <= 0:
        raise UsageError(f"teacher.std: {list(config.std)} must be above 0")
