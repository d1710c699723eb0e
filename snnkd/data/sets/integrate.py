"""The events of one sample as frames of counts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from snnkd.data.sets.jelly import dataset_class, jelly
from snnkd.errors import FileError, UsageError
from snnkd.schema.events import EventConfig

MOST = 255
"""Events that one byte counts; more are set to it."""


@dataclass(frozen=True)
class Integrated:
    """Frames uint8 `[T, 2, H, W]`, and how many of their pixels had more events than a byte counts."""

    frames: np.ndarray
    clipped: int


def frames_of(path: Path, config: EventConfig) -> Integrated:
    """The sample in `path` in `config.frames` frames of equally many events (or equal times), by SpikingJelly's function.

    At a smaller size each event is counted at floor(x size / sensor size), so that none is lost and counts stay whole.
    Raises FileError for a damaged file, UsageError for times without events.
    """
    height, width = dataset_class(config.name).get_H_W()
    events = _events(path, height, width)
    small = {
        "x": events["x"].astype(np.int64) * config.size // width,
        "y": events["y"].astype(np.int64) * config.size // height,
    }
    integrate = jelly("utils").integrate_events_by_fixed_frames_number
    try:
        counts = integrate({**events, **small}, config.split_by, config.frames, config.size, config.size)
    except IndexError as error:  # so it fails where a frame would have no events
        raise UsageError(
            f"data.frames: {config.frames} equal times leave some without events in {path}; use data.split_by=number"
        ) from error
    return Integrated(np.minimum(counts, MOST).astype(np.uint8), int((counts > MOST).sum()))


def _events(path: Path, height: int, width: int) -> dict[str, np.ndarray]:
    """Arrays t, x, y, p of equal length. Raises FileError."""
    try:
        with (
            path.open("rb") as opened,
            np.load(opened, allow_pickle=False) as file,
        ):  # by name numpy leaves a damaged file open
            events = {key: file[key] for key in ("t", "x", "y", "p")}
    except Exception as error:  # whatever damaged bytes lead numpy, zipfile or zlib to
        raise FileError(f"{path}: damaged, or not a file of events ({type(error).__name__})") from error
    if len({values.shape for values in events.values()}) > 1 or events["t"].ndim != 1:
        raise FileError(f"{path}: damaged: t, x, y and p of its events have different lengths")
    if any(values.dtype.kind not in "biu" for values in events.values()):
        raise FileError(f"{path}: damaged: its events are not whole numbers")
    for key, side in (("x", width), ("y", height)):
        if events[key].size and not 0 <= int(events[key].min()) <= int(events[key].max()) < side:
            raise FileError(
                f"{path}: damaged: {key} reaches {int(events[key].max())} on a sensor of {width}x{height}"
            )
    return events
