"""The comparison of finished students as plain values, which every format of `snnkd compare` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from snnkd.compare.labels import find_label, loss_name, varied_keys
from snnkd.compare.paper_results import Reported, reported, reported_for
from snnkd.compare.power import seeds_needed
from snnkd.compare.predictions import Predictions, read_predictions
from snnkd.compare.rows import (
    Budget,
    Group,
    Row,
    TrialKey,
    check_baseline,
    count_settings,
    group,
    paths,
    trial_key,
)
from snnkd.compare.statistics import Difference, Resampled, Spread, corrected, over_images, paired, spread
from snnkd.compare.students import LeftOut, Student, gather
from snnkd.errors import FileError, counted
from snnkd.schema.run import CompareConfig

DEFAULT_BASELINES = ("kl", "none")
"""Losses used as baseline by default, the first that is present."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row of one column."""

    label: str
    loss: str
    recipe_hash: str
    settings: int
    """Number of settings of this loss among the given runs, with the same data, model and T."""
    settings_split: str | None
    """Images that could choose between them, val or test; None for one setting."""
    varied: dict[str, Any]
    """Values of the recipe keys that differ between the settings of its loss in this column."""
    seeds: tuple[int, ...]
    runs: tuple[str, ...]
    values: tuple[float, ...]
    """Top-1 in percent by seed."""
    top1: Spread
    val_top1: Spread | None
    """Validation accuracy over all seeds; None if a run has none."""
    difference: Difference | None
    """Difference to the baseline; None for the baseline itself, or without one."""
    over_images: Resampled | None
    """The difference with its bootstrap interval over images; None without saved logits."""
    rate: Spread
    synops: Spread
    energy_mj: Spread
    device_seconds: Spread | None
    """GPU seconds of the training, without a GPU its CPU time; None if a run did not record it."""
    devices: tuple[str, ...]
    published: Reported | None
    """The result of this loss's paper for the same data, model and T."""

    @property
    def on_cpu(self) -> set[bool]:
        return {"threads: " in device for device in self.devices}


@dataclass(frozen=True, kw_only=True)
class Column:
    """The students of one T."""

    T: int
    baseline: str | None
    rows: tuple[Line, ...]
    notes: tuple[str, ...]
    published: tuple[Reported, ...]
    """All published numbers for these data and model at this T, or at a T that is not reported."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Comparable students: one data set, split, model, selection rule and teacher."""

    data: str
    part: object
    """Subset of the data set, as in result.json; None for the full data set."""
    data_sha256: str
    split: str
    images: int
    val_fraction: float | None
    model: dict[str, Any]
    selection: str
    epochs: tuple[int, ...]
    """Epochs of the measured weights: last, or best by validation."""
    usual: dict[str, str]
    teacher: dict[str, Any] | None
    columns: tuple[Column, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """All tables, and the runs left out of them."""

    split: str
    rank_on: str | None
    tables: tuple[Table, ...]
    left_out: tuple[LeftOut, ...]


def make_report(runs: Sequence[Path], settings: CompareConfig, logits: Sequence[Path] = ()) -> Report:
    """Compare the finished students among `runs` (see `gather`).

    Raises FileError if there is no student, or no validation accuracy for `rank_on`; UsageError for a
    baseline that matches no row or several, and for two results of one recipe and seed.
    """
    gathered = gather(runs, settings.split)
    groups, trials = group(gathered.students), count_settings(gathered.students)
    predictions, unused = read_predictions(logits, gathered.students)
    check_baseline(groups, settings.baseline, ranked=settings.rank_on is not None)
    tables = tuple(_table(each, settings, trials, predictions) for each in groups)
    return Report(
        split=settings.split, rank_on=settings.rank_on, tables=tables, left_out=(*gathered.left_out, *unused)
    )


def _table(
    group: Group, settings: CompareConfig, trials: Mapping[TrialKey, Budget], predictions: Predictions
) -> Table:
    first = group.first
    if settings.baseline is None:
        settings = replace(settings, baseline=_default_baseline(group, ranked=settings.rank_on is not None))
    columns = tuple(_column(T, rows, settings, trials, predictions) for T, rows in group.columns.items())
    students = [
        student for rows in group.columns.values() for row in rows for student in row.students.values()
    ]
    return Table(
        data=first.data,
        part=first.part,
        data_sha256=first.data_sha256,
        split=first.split,
        images=first.images,
        val_fraction=first.val_fraction,
        model=first.model,
        selection=first.rule,
        epochs=tuple(sorted({student.epoch for student in students})),
        usual=group.usual,
        teacher=group.teacher,
        columns=columns,
        notes=tuple(_differing_setups(students)),
    )


def _default_baseline(group: Group, ranked: bool) -> str | None:
    """Choose one for all columns: the first default that has one row in every column where it occurs."""
    for name in DEFAULT_BASELINES:
        labels = [[row.label for row in rows if row.loss == name] for rows in group.columns.values()]
        if any(labels) and all(ranked or len(matches) <= 1 or name in matches for matches in labels):
            return name
    return None


def _differing_setups(students: Sequence[Student]) -> list[str]:
    """List devices and package versions that differ between the runs of a table."""
    sentences = []
    devices = sorted({student.device for student in students})
    if len(devices) > 1:
        sentences.append(f"Runs used different devices: {'; '.join(devices)}.")
    for package in ("torch", "spikingjelly"):
        versions = sorted({student.versions.get(package, "?") for student in students})
        if len(versions) > 1:
            sentences.append(f"Runs used different versions of {package}: {', '.join(versions)}.")
    return sentences


def _column(
    T: int,
    rows: Sequence[Row],
    settings: CompareConfig,
    trials: Mapping[TrialKey, Budget],
    predictions: Predictions,
) -> Column:
    notes: list[str] = []
    if settings.rank_on:
        rows = _ranked(rows, notes)
    labels, names = [row.label for row in rows], [row.loss for row in rows]
    baseline = find_label(settings.baseline, labels, names) if settings.baseline else None
    base = next((row for row in rows if row.label == baseline), None)
    if base is None and len(rows) > 1:
        reason = (
            f"no row {settings.baseline!r} at T = {T}"
            if settings.baseline
            else "select a baseline with --baseline ROW"
        )
        notes.append(f"No differences: {reason}.")
    differences = corrected([_difference(row, base) for row in rows], settings.equivalent)
    notes += [*_unpaired(rows, base), *_too_few_seeds(rows, base, differences)]
    lines = [
        _line(row, varied, difference, base, trials, predictions)
        for row, varied, difference in zip(
            rows, varied_keys([row.first for row in rows]), differences, strict=True
        )
    ]
    several = sorted({line.loss for line in lines if sum(other.loss == line.loss for other in lines) > 1})
    if several and not settings.rank_on and settings.split == "test":
        shown = ", ".join(several)
        notes.append(f"Several settings of {shown}: choosing the best here would select on the test split.")
    return Column(
        T=T, baseline=baseline, rows=tuple(lines), notes=tuple(notes), published=reported(rows[0].first)
    )


def _ranked(rows: Sequence[Row], notes: list[str]) -> list[Row]:
    """Keep the setting with the highest mean validation accuracy of each loss (on a tie, the first).

    Appends to `notes` how it was selected.
    """
    selected: list[Row] = []
    for name in dict.fromkeys(row.loss for row in rows):
        same = [row for row in rows if row.loss == name]
        if len(same) > 1:
            scores = [_val_top1(row, required=True) for row in same]
            best = max(range(len(same)), key=lambda i: scores[i].mean if scores[i] else -1.0)  # type: ignore[union-attr]
            shown = ", ".join(
                f"{row.label} {score.mean:.2f} (n = {score.n})"
                for row, score in zip(same, scores, strict=True)
                if score
            )
            notes.append(
                f"{same[best].label} is the best of {len(same)} settings by validation accuracy: {shown}."
            )
            same = [same[best]]
        selected += same
    return selected


def _val_top1(row: Row, required: bool = False) -> Spread | None:
    values = [(student, student.val_top1()) for student in row.students.values()]
    for student, value in values:
        if value is None and required:
            raise FileError(
                f"{student.path}: no validation accuracy for --rank-on val; "
                f"train with data.val_fraction above 0, or run `snnkd eval {student.path} --split val`"
            )
    known = [value for _, value in values if value is not None]
    return spread(known) if len(known) == len(values) else None


def _difference(row: Row, base: Row | None) -> Difference | None:
    return None if base is None or row is base else paired(_top1(row), _top1(base))


def _top1(row: Row) -> dict[int, float]:
    return {seed: student.top1 for seed, student in row.students.items()}


def _unpaired(rows: Sequence[Row], base: Row | None) -> list[str]:
    """List the seeds that only one of a row and the baseline has."""
    sentences = []
    for row in rows if base else ():
        shared = row.students.keys() & base.students.keys()  # type: ignore[union-attr]
        alone = sorted((row.students.keys() | base.students.keys()) - shared)  # type: ignore[union-attr]
        if alone:
            seeds = ", ".join(map(str, alone))
            sentences.append(f"{row.label}: {counted(len(shared), 'pair')}; unpaired seeds: {seeds}.")
    return sentences


def _too_few_seeds(
    rows: Sequence[Row], base: Row | None, differences: Sequence[Difference | None]
) -> list[str]:
    """Warn of rows whose seeds could not distinguish even an accuracy of 100 % from the baseline's."""
    if base is None:
        return []
    mean = spread(list(_top1(base).values())).mean
    room = 100 - mean
    tested = [(row.label, each) for row, each in zip(rows, differences, strict=True) if each]
    lacking = [
        (label, each)
        for label, each in tested
        if each.verdict == "n = 1" or (each.power and each.power.detectable > room > 0)
    ]
    if not lacking:
        return []
    needed = [
        seeds_needed(room / each.sd, each.power.level) if each.sd and each.power else 2 for _, each in lacking
    ]
    shown = ", ".join(label for label, _ in lacking) if len(lacking) < len(tested) else "any row"
    remedy = "" if None in needed else f"; run at least {max(filter(None, needed))}"
    return [f"Too few seeds to distinguish even 100 % from {base.label}'s {mean:.1f} %, for {shown}{remedy}."]


def _line(
    row: Row,
    varied: dict[str, Any],
    difference: Difference | None,
    base: Row | None,
    trials: Mapping[TrialKey, Budget],
    predictions: Predictions,
) -> Line:
    students = list(row.students.values())
    seconds = [student.device_seconds for student in students if student.device_seconds is not None]
    return Line(
        label=row.label,
        loss=loss_name(row.first.loss),
        recipe_hash=row.first.recipe_hash,
        settings=trials[trial_key(row.first)].settings,
        settings_split=trials[trial_key(row.first)].split,
        varied=varied,
        seeds=tuple(row.students),
        runs=tuple(map(str, paths(row))),
        values=tuple(student.top1 for student in students),
        top1=spread([student.top1 for student in students]),
        val_top1=_val_top1(row),
        difference=difference,
        over_images=None if base is None or difference is None else _over_images(row, base, predictions),
        rate=spread([student.rate for student in students]),
        synops=spread([student.synops for student in students]),
        energy_mj=spread([student.energy_mj for student in students]),
        device_seconds=spread(seconds) if len(seconds) == len(students) else None,
        devices=tuple(sorted({student.device for student in students})),
        published=reported_for(row.first, row.loss),
    )


def _over_images(row: Row, base: Row, predictions: Predictions) -> Resampled | None:
    pairs = {}
    for seed in row.students.keys() & base.students.keys():
        ours, theirs = (
            predictions.get(row.students[seed].weights_sha256),
            predictions.get(base.students[seed].weights_sha256),
        )
        if ours is not None and theirs is not None:
            pairs[seed] = (ours, theirs)
    return over_images(pairs) if pairs else None
