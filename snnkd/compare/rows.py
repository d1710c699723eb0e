"""What may stand in one table, column and row.

A table has one data set (by content), split, share of validation images, model, rule of selection and teacher
(by
content); runs of losses that look for no teacher stand in any table that is otherwise theirs. A column has
one T, a
row the runs that differ in nothing but their seed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snnkd.catalog.losses import LOSSES
from snnkd.compare.labels import label_of, loss_name, make_labels, settings_of
from snnkd.compare.students import Student
from snnkd.errors import UsageError


@dataclass(frozen=True)
class Row:
    """The runs of one recipe by seed."""

    label: str
    loss: str
    """The loss's name without options, under which settings are counted."""
    students: dict[int, Student]

    @property
    def first(self) -> Student:
        return next(iter(self.students.values()))


@dataclass(frozen=True)
class Group:
    """What one table is made of: its rows by T, in the order of the losses."""

    teacher: dict[str, Any] | None
    columns: dict[int, list[Row]]
    usual: dict[str, str]
    """The values of keys in which rows differ, where a label does not say them."""

    @property
    def first(self) -> Student:
        return next(iter(self.columns.values()))[0].first


def group(students: Sequence[Student]) -> list[Group]:
    """One group for each table. Raises UsageError for two different results of one recipe and seed."""
    found = []
    for alike in _by(students, _common):
        taught = [student for student in alike if student.teacher]
        untaught = [student for student in alike if not student.teacher]
        for own in _by(taught, lambda student: student.teacher_key) or [[]]:
            found.append(_group([*untaught, *own], own[0].teacher if own else None))
    return found


def _by(students: Sequence[Student], key: Any) -> list[list[Student]]:
    made: dict[str, list[Student]] = {}
    for student in students:
        made.setdefault(json.dumps(key(student), sort_keys=True), []).append(student)
    return [made[text] for text in sorted(made)]


def _common(student: Student) -> list[Any]:
    return [student.data_sha256, student.split, student.val_fraction, student.model, student.rule]


def _group(students: Sequence[Student], teacher: dict[str, Any] | None) -> Group:
    rows = [
        _of_seeds(same)
        for same in _by(students, lambda student: [student.recipe_hash, student.T, label_of(student.loss)])
    ]
    labels, usual = make_labels([next(iter(row.values())) for row in rows])
    made = [
        Row(label, loss_name(next(iter(row.values())).loss), row)
        for label, row in zip(labels, rows, strict=True)
    ]
    columns: dict[int, list[Row]] = {}
    for row in sorted(made, key=_order):
        columns.setdefault(row.first.T, []).append(row)
    return Group(teacher, dict(sorted(columns.items())), usual)


def _of_seeds(same: Sequence[Student]) -> dict[int, Student]:
    """By seed; the same weights twice count once."""
    found: dict[int, Student] = {}
    for student in same:
        twin = found.setdefault(student.seed, student)
        if twin.weights_sha256 != student.weights_sha256:
            raise UsageError(
                f"{twin.place} and {student.place} are two results of one recipe and seed ({twin.top1:.2f} "
                f"and {student.top1:.2f} %), "
                "made by other versions, devices or threads; compare one of them"
            )
    return dict(sorted(found.items()))


def _order(row: Row) -> tuple[int, str]:
    """As `snnkd list losses` has them."""
    names = [entry.name for entry in LOSSES]
    return names.index(row.loss) if row.loss in names else len(names), row.label


def settings_tried(students: Sequence[Student]) -> dict[tuple[str, str, int, str], int]:
    """How many settings of a loss there are among all runs given, by data, model, T and loss name.

    Settings that differ only in seed, teacher, share of validation images or rule of selection are one: to
    tune on
    held-out images and then to train on all is no further trial.
    """
    seen: dict[tuple[str, str, int, str], set[str]] = {}
    for student in students:
        told = student.recipe_hash
        if student.identity is not None:
            told = json.dumps([settings_of(student), student.identity.get("loss")], sort_keys=True)
        seen.setdefault(trial_key(student), set()).add(told)
    return {key: len(told) for key, told in seen.items()}


def trial_key(student: Student) -> tuple[str, str, int, str]:
    return student.data_sha256, json.dumps(student.model, sort_keys=True), student.T, loss_name(student.loss)


def places(row: Row) -> list[Path]:
    return [student.place for student in row.students.values()]
