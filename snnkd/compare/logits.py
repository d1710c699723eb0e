"""Saved logits: which test images a run has right, for the bootstrap over images.

An .npz of `logits` float32 `[T, N, C]` (of each timestep, not running means), `labels` int64 `[N]` and the texts
`weights_sha256`, `data_sha256` and `split` (0-d arrays). Nothing in it is ever unpickled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from snnkd.compare.students import LeftOut, Student
from snnkd.errors import FileError
from snnkd.files import open_npz

KEYS = ("logits", "labels", "weights_sha256", "data_sha256", "split")
FURTHEST = 0.5
"""Points by which logits may miss the accuracy that the result tells: other kernels decide a few images otherwise."""


@dataclass(frozen=True)
class Logits:
    """What a file holds."""

    path: Path
    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    weights_sha256: str
    data_sha256: str
    split: str


def read_logits(path: Path) -> Logits:
    """Raises FileError that names the rule for a file that cannot be read or is not of this form."""
    with open_npz(path) as file:
        missing = [key for key in KEYS if key not in file.files]
        if missing:
            raise FileError(
                f"{path}: lacks {', '.join(missing)}; `snnkd eval RUN --save-logits FILE` writes such a file"
            )
        logits, labels, *texts = (np.asarray(file[key]) for key in KEYS)
    if logits.dtype != np.float32 or logits.ndim != 3 or 0 in logits.shape:
        raise FileError(f"{path}: logits are {logits.dtype} {logits.shape}; they must be float32 [T, N, C]")
    if labels.dtype.kind not in "iu" or labels.shape != (logits.shape[1],):
        raise FileError(
            f"{path}: labels are {labels.dtype} {labels.shape}; they must be whole numbers [{logits.shape[1]}]"
        )
    if not np.isfinite(logits).all():
        raise FileError(f"{path}: logits are not finite")
    if any(text.ndim or text.dtype.kind != "U" for text in texts):
        raise FileError(f"{path}: {', '.join(KEYS[2:])} must be texts (0-d arrays)")
    return Logits(path, logits, labels.astype(np.int64), *map(str, texts))


Right = dict[str, NDArray[np.bool_]]
"""Which images are right, bool `[N]`, by the weights' sha256."""


def find_logits(given: Sequence[Path], students: Sequence[Student]) -> tuple[Right, list[LeftOut]]:
    """From the files and folders `given` and from RUN/eval/*.npz, with what of the latter could not be used.

    What is given must fit: FileError for a missing or damaged file, for other data or images than the run was measured
    on, and for logits that do not give the accuracy of its result. Of no run here, or of another split, is no error.
    """
    told = [path for place in given for path in _files(place)]
    beside = {
        path for student in students if student.is_run for path in (student.place / "eval").glob("*.npz")
    } - set(told)
    by_weights = {student.weights_sha256: student for student in students}
    right: Right = {}
    labels: Labels = {}
    left_out = []
    for path in [*told, *sorted(beside)]:
        try:
            found = read_logits(path)
            student = by_weights.get(found.weights_sha256)
            if student is not None and found.split == student.split:
                _check_fit(found, student, labels)
                right[found.weights_sha256] = _right(found, student)
        except FileError as error:
            if path in told:
                raise
            left_out.append(LeftOut(str(path), str(error).removeprefix(f"{path}: ")))
    return right, left_out


def _files(place: Path) -> list[Path]:
    if not place.is_dir():
        return [place]
    inside = sorted(place.glob("*.npz"))
    if not inside:
        raise FileError(f"--logits {place}: holds no .npz files")
    return inside


Labels = dict[tuple[str, str, float | None], tuple[Path, NDArray[np.int64]]]
"""Those of the first file of each data set and split."""


def _check_fit(found: Logits, student: Student, labels: Labels) -> None:
    if found.data_sha256 != student.data_sha256:
        raise FileError(
            f"{found.path}: of other data (sha256 {found.data_sha256[:12]}...) than {student.place}"
        )
    if len(found.labels) != student.images:
        raise FileError(
            f"{found.path}: of {len(found.labels)} images, {student.place} was measured on {student.images}"
        )
    first, held = labels.setdefault(
        (student.data_sha256, student.split, student.val_fraction), (found.path, found.labels)
    )
    if not np.array_equal(found.labels, held):
        raise FileError(
            f"{found.path}: other labels than {first}; save both from the same images in the same order"
        )
    if len(found.logits) < student.T:
        raise FileError(
            f"{found.path}: of {len(found.logits)} timesteps, {student.place} was trained with {student.T}"
        )


def _right(found: Logits, student: Student) -> NDArray[np.bool_]:
    right: NDArray[np.bool_] = found.logits[: student.T].sum(0).argmax(-1) == found.labels
    top1 = 100 * float(right.mean())
    if abs(top1 - student.top1) > FURTHEST:
        raise FileError(
            f"{found.path}: its logits give {top1:.2f} %, the result of {student.place} says {student.top1:.2f} %"
        )
    return right
