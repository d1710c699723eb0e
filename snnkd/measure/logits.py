"""Logits in a file, for paired comparisons and for analyses elsewhere."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from snnkd.errors import FileError, UsageError
from snnkd.files import from_os_error, write_atomic
from snnkd.measure.curve import Curve


def check_logits_path(path: Path) -> None:
    """Raise UsageError unless it ends in .npz, or for a file of something else, FileError for a folder that is not there."""
    if path.suffix != ".npz":
        raise UsageError(f"--save-logits {path}: the file must end in .npz")
    if not path.parent.is_dir():
        raise FileError(f"--save-logits {path}: the folder {path.parent} does not exist")
    if path.exists() and not _is_ours(path):
        raise UsageError(
            f"--save-logits {path}: a file that is not of logits stands there; choose another name"
        )


def _is_ours(path: Path) -> bool:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as held:
            return {"logits", "labels", "weights_sha256"} <= set(held.files)
    except Exception:  # whatever else it is
        return False


def save_logits(path: Path, curve: Curve, weights_sha256: str, data_sha256: str, split: str) -> None:
    """Write `logits` float32 `[T, N, C]` (of each timestep; the answer at t is the mean until t), `labels` int64 `[N]`, and the texts
    `weights_sha256`, `data_sha256`, `split`, for numpy.load without pickle. Raises FileError or RunError."""
    texts = {"weights_sha256": weights_sha256, "data_sha256": data_sha256, "split": split}
    whole = io.BytesIO()
    arrays = {
        "logits": curve.logits.numpy(),
        "labels": curve.labels.numpy(),
        **{key: np.array(text) for key, text in texts.items()},
    }
    np.savez(whole, **arrays)  # type: ignore[arg-type]
    try:
        write_atomic(path, whole.getvalue())
    except OSError as error:
        raise from_os_error(error, f"--save-logits {path}") from error
