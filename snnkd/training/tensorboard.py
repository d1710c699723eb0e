"""TensorBoard event files in the run directory, with the rows of metrics.jsonl."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from snnkd import distributed
from snnkd.errors import UsageError
from snnkd.files import check_guard
from snnkd.runs.metrics import read_metrics
from snnkd.schema.run import ExecutionConfig

NAME = "tensorboard"


def check_track(execution: ExecutionConfig) -> None:
    """Raise UsageError if the package for `execution.track` is missing."""
    if execution.track != "none" and find_spec(execution.track) is None:
        raise UsageError(
            f"execution.track: {execution.track} is not installed: pip install {execution.track}"
        )


Track = Callable[[dict[str, Any]], None]
"""Logs the row of a finished epoch."""


@contextmanager
def tracking(track: str, folder: Path) -> Iterator[Track]:
    """Yield the writer of an epoch's row, a no-op on ranks other than 0; `track` is execution.track.

    Earlier rows are rewritten, so that a resumed run, or one tracked later, shows each epoch once.
    """
    if track == "none" or not distributed.is_rank0():
        yield lambda row: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError(
            f"execution.track: {track} needs tensorboard ({error}): pip install tensorboard"
        ) from error
    check_guard(folder / NAME)
    # purge_step=1 discards older event files of this folder
    with SummaryWriter(str(folder / NAME), purge_step=1) as writer:

        def write(row: dict[str, Any]) -> None:
            check_guard(folder / NAME)
            for key, value in row.items():
                if key != "epoch" and isinstance(value, (int, float)):
                    writer.add_scalar(key, value, row["epoch"])
            writer.flush()

        for row in read_metrics(folder):
            write(row)
        yield write
