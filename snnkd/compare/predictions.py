"""Which images each student classifies correctly, from saved logits, for the bootstrap over images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snnkd.compare.students import LeftOut, Student
from snnkd.errors import FileError
from snnkd.measure.logits import Logits, read_logits

TOLERANCE = 0.5
"""Percentage points between the logits' accuracy and the result's: other kernels flip a few images."""

Predictions = dict[str, NDArray[np.bool_]]
"""Correctly classified images, bool `[N]`, by the sha256 of the weights."""
_Labels = dict[tuple[str, str, float | None], tuple[Path, NDArray[np.int64]]]
"""First file and its labels, by data sha256, split and validation fraction."""


def read_predictions(given: Sequence[Path], students: Sequence[Student]) -> tuple[Predictions, list[LeftOut]]:
    """Predictions from the files and folders `given` and from RUN/eval/*.npz, and which of the latter are
    unusable.

    Raises FileError for a `given` file that is missing, damaged, of other data or images than its run, or of
    another
    accuracy than the run's result. A file of no run here, or of another split, is skipped.
    """
    files = [path for place in given for path in _npz_files(place)]
    in_runs = {
        path for student in students if student.is_run for path in (student.place / "eval").glob("*.npz")
    } - set(files)
    by_weights = {student.weights_sha256: student for student in students}
    predictions: Predictions = {}
    labels: _Labels = {}
    left_out = []
    for path in [*files, *sorted(in_runs)]:
        try:
            saved = read_logits(path)
            student = by_weights.get(saved.weights_sha256)
            if student is not None and saved.split == student.split:
                _check_fit(path, saved, student, labels)
                predictions[saved.weights_sha256] = _correct(path, saved, student)
        except FileError as error:
            if path in files:
                raise
            left_out.append(LeftOut(str(path), str(error).removeprefix(f"{path}: ")))
    return predictions, left_out


def _npz_files(place: Path) -> list[Path]:
    if not place.is_dir():
        return [place]
    files = sorted(place.glob("*.npz"))
    if not files:
        raise FileError(f"--logits {place}: no .npz files in this folder")
    return files


def _check_fit(path: Path, saved: Logits, student: Student, labels: _Labels) -> None:
    if saved.data_sha256 != student.data_sha256:
        raise FileError(f"{path}: other data (sha256 {saved.data_sha256[:12]}...) than {student.place}")
    if len(saved.labels) != student.images:
        raise FileError(
            f"{path}: {len(saved.labels)} images, but {student.place} was measured on {student.images}"
        )
    first, expected = labels.setdefault(
        (student.data_sha256, student.split, student.val_fraction), (path, saved.labels)
    )
    if not np.array_equal(saved.labels, expected):
        raise FileError(
            f"{path}: other labels than {first}; save both from the same images in the same order"
        )
    if len(saved.logits) < student.T:
        raise FileError(
            f"{path}: {len(saved.logits)} timesteps, but {student.place} was trained with {student.T}"
        )


def _correct(path: Path, saved: Logits, student: Student) -> NDArray[np.bool_]:
    """At the trained T, bool `[N]`."""
    correct: NDArray[np.bool_] = saved.logits[: student.T].sum(0).argmax(-1) == saved.labels
    top1 = 100 * float(correct.mean())
    if abs(top1 - student.top1) > TOLERANCE:
        raise FileError(
            f"{path}: gives {top1:.2f} %, but the result of {student.place} has {student.top1:.2f} %"
        )
    return correct
