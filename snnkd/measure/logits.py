"""The .npz file of logits that `snnkd eval --save-logits` writes and `snnkd compare` reads.

Its keys are the fields of `Logits`, strings as 0-d arrays. Reading it never unpickles.
"""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from snnkd import distributed
from snnkd.errors import FileError, UsageError
from snnkd.files import from_os_error, open_npz, write_atomic

if TYPE_CHECKING:  # compare reads logits without torch
    from snnkd.measure.curve import Curve


@dataclass(frozen=True)
class Logits:
    """Logits of one network on one split."""

    logits: NDArray[np.float32]
    """Per timestep, `[T, N, C]`; the prediction at t is the argmax of their mean over timesteps 1..t."""
    labels: NDArray[np.int64]
    """`[N]`."""
    weights_sha256: str
    data_sha256: str
    split: str


KEYS = tuple(field.name for field in dataclasses.fields(Logits))


def check_logits_path(path: Path) -> None:
    """Check an output path: raise UsageError for another suffix or file, FileError for a missing folder."""
    if path.suffix != ".npz":
        raise UsageError(f"--save-logits {path}: the file name must end in .npz")
    if not path.parent.is_dir():
        raise FileError(f"--save-logits {path}: the folder {path.parent} does not exist")
    if path.exists() and not _is_logits(path):
        raise UsageError(f"--save-logits {path}: exists and is not a logits file; choose another name")


def _is_logits(path: Path) -> bool:
    try:
        with open_npz(path) as file:
            return set(KEYS) <= set(file.files)
    except (FileError, OSError):
        return False


@distributed.on_rank0
def save_logits(path: Path, curve: Curve, weights_sha256: str, data_sha256: str, split: str) -> None:
    """Write the logits of `curve`. Raises FileError or RunError."""
    content = Logits(curve.logits.numpy(), curve.labels.numpy(), weights_sha256, data_sha256, split)
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {key: np.asarray(value) for key, value in vars(content).items()}
    np.savez(buffer, **arrays)
    try:
        write_atomic(path, buffer.getvalue())
    except OSError as error:
        raise from_os_error(error, f"--save-logits {path}") from error


def read_logits(path: Path) -> Logits:
    """Read and check a logits file. Raises FileError for one that is unreadable or malformed."""
    with open_npz(path) as file:
        missing = [key for key in KEYS if key not in file.files]
        if missing:
            raise FileError(
                f"{path}: lacks {', '.join(missing)}; write it with `snnkd eval RUN --save-logits FILE`"
            )
        logits, labels, *texts = (np.asarray(file[key]) for key in KEYS)
    if logits.dtype != np.float32 or logits.ndim != 3 or 0 in logits.shape:
        raise FileError(f"{path}: logits are {logits.dtype} {logits.shape}; they must be float32 [T, N, C]")
    if labels.dtype.kind not in "iu" or labels.shape != (logits.shape[1],):
        raise FileError(
            f"{path}: labels are {labels.dtype} {labels.shape}; they must be integers [{logits.shape[1]}]"
        )
    if not np.isfinite(logits).all():
        raise FileError(f"{path}: logits are not finite")
    if any(text.ndim or text.dtype.kind != "U" for text in texts):
        raise FileError(f"{path}: {', '.join(KEYS[2:])} must be strings (0-d arrays)")
    return Logits(logits, labels.astype(np.int64), *map(str, texts))
