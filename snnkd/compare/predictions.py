"""The correctly classified images of each student, from saved logits, for the bootstrap over images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snnkd.compare.students import LeftOut, Student
from snnkd.errors import FileError, counted
from snnkd.measure.logits import Logits, read_logits

TOLERANCE = 0.5
"""Allowed difference to the result's accuracy in percentage points: other kernels flip a few images."""

Predictions = dict[str, NDArray[np.bool_]]
"""Whether each image is classified correctly, bool `[N]`, by the sha256 of the weights."""
_Labels = dict[tuple[str, str, float | None], tuple[Path, NDArray[np.int64]]]
"""First file and its labels, by data sha256, split and validation fraction."""


def read_predictions(paths: Sequence[Path], students: Sequence[Student]) -> tuple[Predictions, list[LeftOut]]:
    """Read predictions from files and folders and from RUN/eval/*.npz; also return unusable files of runs.

    Raises FileError for a file of `paths` that is missing or damaged, or whose data, images or accuracy
    differ from the run's result. Files of other runs or splits are skipped.
    """
    files = [file for path in paths for file in _npz_files(path)]
    in_runs = {
        path for student in students if student.is_run for path in (student.path / "eval").glob("*.npz")
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
                _check_match(path, saved, student, labels)
                predictions[saved.weights_sha256] = _correct(path, saved, student)
        except FileError as error:
            if path in files:
                raise
            left_out.append(LeftOut(str(path), str(error).removeprefix(f"{path}: ")))
    return predictions, left_out


def _npz_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(path.glob("*.npz"))
    if not files:
        raise FileError(f"--logits {path}: the folder has no .npz files")
    return files


def _check_match(path: Path, saved: Logits, student: Student, labels: _Labels) -> None:
    if saved.data_sha256 != student.data_sha256:
        raise FileError(
            f"{path}: data sha256 {saved.data_sha256[:12]}... differs from that of {student.path}"
        )
    if len(saved.labels) != student.images:
        raise FileError(
            f"{path}: {len(saved.labels)} images, but {student.path} was measured on {student.images}"
        )
    first, expected = labels.setdefault(
        (student.data_sha256, student.split, student.val_fraction), (path, saved.labels)
    )
    if not np.array_equal(saved.labels, expected):
        raise FileError(
            f"{path}: labels differ from those of {first}; save both from the same images in the same order"
        )
    if len(saved.logits) < student.T:
        raise FileError(
            f"{path}: {counted(len(saved.logits), 'timestep')}, "
            f"but {student.path} was trained with {student.T}"
        )


def _correct(path: Path, saved: Logits, student: Student) -> NDArray[np.bool_]:
    """Whether each image is classified correctly at the trained T, bool `[N]`."""
    correct: NDArray[np.bool_] = saved.logits[: student.T].sum(0).argmax(-1) == saved.labels
    top1 = 100 * float(correct.mean())
    if abs(top1 - student.top1) > TOLERANCE:
        raise FileError(
            f"{path}: accuracy {top1:.2f} %, but the result of {student.path} has {student.top1:.2f} %"
        )
    return correct
