"""The best setting of each loss in a finished search, by validation accuracy alone.

No result is read: a run's existence, its identity and its log of validation accuracy are enough.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snnkd.compare.statistics import Spread, spread
from snnkd.console import Console
from snnkd.errors import FileError, UsageError
from snnkd.recipe.axes import format_value
from snnkd.recipe.sweep import Task, Tasks, check_validation
from snnkd.runs.find import RecordedRun, recorded_runs
from snnkd.runs.folder import identity
from snnkd.runs.metrics import read_metrics
from snnkd.schema.fields import to_plain
from snnkd.schema.run import DistillRecipe

NEAR = 0.5
"""Percentage points below the best within which a setting counts as equally good."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The best setting of a loss (and T, where it is swept)."""

    settings: dict[str, Any]
    """Swept keys without seeds."""
    val_top1: Spread
    """Validation accuracy in percent over the search's seeds."""
    tried: int
    others: tuple[float, ...]
    """Mean validation accuracy of the other settings, best first."""
    runs: tuple[str, ...]

    @property
    def near(self) -> int:
        """Other settings within NEAR points of the best."""
        return sum(value >= self.val_top1.mean - NEAR for value in self.others)

    @property
    def line(self) -> str:
        """What was chosen among how many, and how flat the top is."""
        name = ", ".join(f"{key}={format_value(key, value)}" for key, value in self.settings.items())
        text = f"{name}: {self.val_top1.mean:.2f} % of validation images, best of {self.tried}"
        if not self.others:
            return text
        next_best, median = (value - self.val_top1.mean for value in (self.others[0], self.median))
        return f"{text}; {self.near} more within {NEAR:g} points, next {next_best:+.2f}, median {median:+.2f}"

    @property
    def median(self) -> float:
        """Of all settings tried."""
        return statistics.median([self.val_top1.mean, *self.others])


def select_settings(tasks: Tasks, folder: Path, console: Console) -> list[Selection]:
    """The best setting of each loss and T among the finished runs in `folder`, in the order of the tasks.

    Raises UsageError for a recipe without a sweep or validation images, or runs with several teachers;
    FileError for unfinished tasks, or a run without validation accuracy.
    """
    if not tasks.axes:
        raise UsageError(f"pick: {tasks.recipe} has no sweep to choose from; add sweep and search")
    check_validation(tasks.all, "pick")
    runs = _runs_of(tasks, folder, console)
    groups: dict[str, dict[str, list[tuple[Task, RecordedRun]]]] = {}
    for task, run in zip(tasks.all, runs, strict=True):
        settings = _without_seeds(task.settings)
        condition = {key: value for key, value in settings.items() if _is_condition(key)}
        groups.setdefault(repr(condition), {}).setdefault(repr(settings), []).append((task, run))
    return [_best(list(settings.values())) for settings in groups.values()]


def _best(settings: Sequence[Sequence[tuple[Task, RecordedRun]]]) -> Selection:
    """The setting with the highest mean; on a tie, the first."""
    scores = [spread([_validation_top1(task, run) for task, run in runs]) for runs in settings]
    best = max(range(len(scores)), key=lambda i: scores[i].mean)
    others = sorted((score.mean for i, score in enumerate(scores) if i != best), reverse=True)
    return Selection(
        settings=_without_seeds(settings[best][0][0].settings),
        val_top1=scores[best],
        tried=len(settings),
        others=tuple(others),
        runs=tuple(str(run.folder) for _, run in settings[best]),
    )


def _is_condition(key: str) -> bool:
    """Whether a swept key is a row, column or table of its own, in which a setting is chosen."""
    path = key.removeprefix("distill.")
    return path == "loss" or path.split(".")[0] in ("model", "data")


def _without_seeds(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key.rpartition(".")[2] != "seed"}


def _student(task: Task) -> DistillRecipe:
    if task.pipeline.distill is None:
        raise UsageError("pick: the recipe trains no student; add a section distill")
    return task.pipeline.distill


def _runs_of(tasks: Tasks, folder: Path, console: Console) -> list[RecordedRun]:
    """The finished run of each task."""
    finished: dict[str, list[RecordedRun]] = {}
    for run in recorded_runs(folder, console):
        if run.finished:
            finished.setdefault(_settings_key(run.identity, run.data), []).append(run)
    matches = []
    for task in tasks.all:
        student = _student(task)
        values = json.loads(json.dumps(identity(student, "", None)))
        matches.append(finished.get(_settings_key(values, to_plain(student.data)), []))
    lacking = [task for task, runs in zip(tasks.all, matches, strict=True) if not runs]
    if lacking:
        remedy = "run them, or lower search.samples" if tasks.search else "run them"
        raise FileError(
            f"{folder}: {len(lacking)} of {len(tasks.all)} tasks are not finished, "
            f"first {lacking[0].name}; {remedy}"
        )
    for runs in matches:
        if len(runs) > 1:
            raise UsageError(f"{runs[0].folder} and {runs[1].folder} have the same settings; move one away")
    chosen = [runs[0] for runs in matches]
    teachers = {sha256: run.folder for run in chosen if (sha256 := _teacher_sha256(run.identity))}
    if len(teachers) > 1:
        first, second = list(teachers.values())[:2]
        raise UsageError(f"{first} and {second} have different teachers; pick compares runs of one")
    return chosen


def _settings_key(identity: Mapping[str, Any], data: Any) -> str:
    """Equal for runs of the same recipe, whatever their data and teacher are by content."""
    parts = {**identity, "data": data, "teacher": {**(identity.get("teacher") or {}), "sha256": None}}
    return json.dumps(parts, sort_keys=True)


def _teacher_sha256(identity: Mapping[str, Any]) -> str | None:
    teacher = identity.get("teacher")
    return teacher.get("sha256") if isinstance(teacher, dict) else None


def _validation_top1(task: Task, run: RecordedRun) -> float:
    """Validation accuracy in percent of the epoch that the run keeps, from its log."""
    train = _student(task).train
    logged = {
        row["epoch"]: row["val_top1"]
        for row in read_metrics(run.folder)
        if isinstance(row.get("val_top1"), (int, float))
    }
    if train.select == "best" and logged:
        return float(max(logged.values()))
    if train.epochs not in logged:
        raise FileError(f"{run.folder}: metrics.jsonl has no validation accuracy of epoch {train.epochs}")
    return float(logged[train.epochs])
