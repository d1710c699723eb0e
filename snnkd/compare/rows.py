"""Grouping of students into tables, columns and rows.

A table has one data set and teacher (both by content), split, validation fraction, model and selection rule;
runs without a teacher appear in every table that matches them otherwise. A column has one T, a row the runs
that differ only in seed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snnkd.catalog.losses import LOSSES
from snnkd.compare.labels import find_label, loss_name, make_labels, settings_of, unknown_label
from snnkd.compare.students import Split, Student
from snnkd.errors import UsageError
from snnkd.recipe.loss_section import label_of

TrialKey = tuple[str, str, int, str]


@dataclass(frozen=True)
class Row:
    """The runs of one recipe by seed."""

    label: str
    loss: str
    """Name of the loss without options; its settings are counted under it."""
    students: dict[int, Student]

    @property
    def first(self) -> Student:
        return next(iter(self.students.values()))


@dataclass(frozen=True)
class Group:
    """The rows of one table by T, in the order of the catalogue of losses."""

    teacher: dict[str, Any] | None
    columns: dict[int, list[Row]]
    usual: dict[str, str]
    """Most frequent values of the keys that differ between rows; labels list the others."""

    @property
    def first(self) -> Student:
        return next(iter(self.columns.values()))[0].first


def group(students: Sequence[Student]) -> list[Group]:
    """Group students by table. Raises UsageError for two results of one recipe and seed."""
    groups = []
    for comparable in _group_by(students, _table_key):
        with_teacher = [student for student in comparable if student.teacher]
        without = [student for student in comparable if not student.teacher]
        for own in _group_by(with_teacher, lambda student: student.teacher_key) or [[]]:
            groups.append(_group([*without, *own], own[0].teacher if own else None))
    return groups


def _group_by(students: Sequence[Student], key: Any) -> list[list[Student]]:
    groups: dict[str, list[Student]] = {}
    for student in students:
        groups.setdefault(json.dumps(key(student), sort_keys=True), []).append(student)
    return [groups[text] for text in sorted(groups)]


def _table_key(student: Student) -> list[Any]:
    return [student.data_sha256, student.split, student.val_fraction, student.model, student.rule]


def _group(students: Sequence[Student], teacher: dict[str, Any] | None) -> Group:
    rows = [
        _by_seed(same)
        for same in _group_by(
            students, lambda student: [student.recipe_hash, student.T, label_of(student.loss)]
        )
    ]
    labels, usual = make_labels([next(iter(row.values())) for row in rows])
    labelled = [
        Row(label, loss_name(next(iter(row.values())).loss), row)
        for label, row in zip(labels, rows, strict=True)
    ]
    columns: dict[int, list[Row]] = {}
    for row in sorted(labelled, key=_order):
        columns.setdefault(row.first.T, []).append(row)
    return Group(teacher, dict(sorted(columns.items())), usual)


def _by_seed(same: Sequence[Student]) -> dict[int, Student]:
    """Map seeds to students; identical weights count once."""
    by_seed: dict[int, Student] = {}
    for student in same:
        first = by_seed.setdefault(student.seed, student)
        if first.weights_sha256 != student.weights_sha256:
            raise UsageError(
                f"{first.path} and {student.path} have the same recipe and seed but different results "
                f"({first.top1:.2f} and {student.top1:.2f} %); compare only one"
            )
    return dict(sorted(by_seed.items()))


def _order(row: Row) -> tuple[int, str]:
    """Sort key: the order of `snnkd list losses`, then the label."""
    names = [entry.name for entry in LOSSES]
    return names.index(row.loss) if row.loss in names else len(names), row.label


def check_baseline(
    groups: Sequence[Group], baseline: str | None, ranked: bool, option: str = "--baseline"
) -> None:
    """Raise UsageError for a baseline of no row or, unless rows are `ranked`, of several in a table."""
    columns = [rows for each in groups for rows in each.columns.values()]
    if baseline is None:
        return
    if not any(baseline in (row.label, row.loss) for rows in columns for row in rows):
        raise unknown_label(baseline, [row.label for rows in columns for row in rows], option)
    for rows in () if ranked else columns:
        find_label(baseline, [row.label for row in rows], [row.loss for row in rows], option)


@dataclass(frozen=True)
class Budget:
    """The settings of one loss among the given runs."""

    settings: int
    split: Split | None
    """Split that can choose between them: val if all have a validation accuracy; None for one setting."""


def count_settings(students: Sequence[Student]) -> dict[TrialKey, Budget]:
    """Count the settings of each loss among the given runs, by data, model, T and loss name.

    Settings that differ only in seed, teacher, validation fraction or selection rule count once: tuning on
    held-out images and then training on all images is one trial.
    """
    settings: dict[TrialKey, dict[str, bool]] = {}
    for student in students:
        setting = student.recipe_hash
        if student.identity is not None:
            setting = json.dumps([settings_of(student), student.identity.get("loss")], sort_keys=True)
        of_loss = settings.setdefault(trial_key(student), {})
        of_loss[setting] = of_loss.get(setting, False) or student.val_top1() is not None
    return {key: _budget(list(values.values())) for key, values in settings.items()}


def _budget(validated: Sequence[bool]) -> Budget:
    return Budget(len(validated), None if len(validated) == 1 else "val" if all(validated) else "test")


def trial_key(student: Student) -> TrialKey:
    return student.data_sha256, json.dumps(student.model, sort_keys=True), student.T, loss_name(student.loss)


def paths(row: Row) -> list[Path]:
    return [student.path for student in row.students.values()]
