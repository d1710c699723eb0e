"""The tables of a sweep before its runs, to check the compare section."""

from __future__ import annotations

from pathlib import Path

from snnkd.compare.rows import Group, check_baseline, group
from snnkd.compare.students import Student
from snnkd.files import sha256
from snnkd.recipe.resolve import Pipeline
from snnkd.recipe.sweep import Tasks
from snnkd.runs.folder import identity, recipe_hash
from snnkd.schema.fields import to_plain
from snnkd.schema.run import DistillRecipe


def check_compare(tasks: Tasks) -> None:
    """Raise UsageError where `compare.baseline` will match no row of the sweep's tables, or several."""
    settings = tasks.compare
    if settings is None or settings.baseline is None:
        return
    check_baseline(
        planned_groups(tasks), settings.baseline, settings.rank_on is not None, "compare.baseline:"
    )


def planned_groups(tasks: Tasks) -> list[Group]:
    """The tables that all tasks together will have."""
    return group(
        [_planned(task.pipeline, task.pipeline.distill) for task in tasks.all if task.pipeline.distill]
    )


def _planned(pipeline: Pipeline, recipe: DistillRecipe) -> Student:
    """The student of a task, as far as it is known before training; its sections stand for the checksums."""
    data = to_plain(recipe.data)
    data_sha256 = sha256(
        repr({key: data[key] for key in data if key not in ("val_fraction", "augment")}).encode()
    )
    teacher_sha256 = sha256(repr(pipeline.teach or recipe.teacher).encode()) if recipe.needs_teacher else None
    values = identity(recipe, data_sha256, teacher_sha256)
    return Student(
        path=Path(),
        seed=recipe.seed,
        recipe_hash=recipe_hash(values),
        T=recipe.model.T or 1,
        loss=to_plain(recipe.loss),
        model={key: value for key, value in values["model"].items() if key != "T"},
        neuron=recipe.neuron.name,
        data=recipe.data.name,
        part=None,
        data_sha256=data_sha256,
        split="test",
        images=0,
        rule=recipe.train.select,
        epoch=recipe.train.epochs,
        teacher=None if teacher_sha256 is None else {"sha256": teacher_sha256, "top1": 0.0},
        weights_sha256="",
        top1=0.0,
        rate=0.0,
        synops=0.0,
        energy_mj=0.0,
        device_seconds=None,
        device="",
        versions={},
        identity=values,
        is_run=False,
    )
