"""Integrate the events of one sample into frames of event counts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from snnkd.data.sets.event_files import dataset_class, spikingjelly_datasets
from snnkd.errors import FileError, UsageError
from snnkd.files import open_npz
from snnkd.schema.events import EventConfig

MAX_COUNT = 255
"""Larger event counts are clipped to it, so that a count fits into a byte."""


@dataclass(frozen=True)
class Integrated:
    """Frames uint8 `[T, 2, H, W]`, and the number of their pixels whose count was clipped."""

    frames: np.ndarray
    clipped: int


def integrate(path: Path, config: EventConfig) -> Integrated:
    """Integrate the sample in `path` into `config.frames` frames of equal event number or equal time.

    SpikingJelly's function counts the events. At a smaller size each event is counted at floor(x * size /
    sensor size), so that none is lost and counts stay integers. Raises FileError for a damaged file,
    UsageError when a frame of equal time would have no events.
    """
    height, width = dataset_class(config.name).get_H_W()
    events = _read_events(path, height, width)
    scaled = {
        "x": events["x"].astype(np.int64) * config.size // width,
        "y": events["y"].astype(np.int64) * config.size // height,
    }
    by_number_or_time = spikingjelly_datasets("utils").integrate_events_by_fixed_frames_number
    try:
        counts = by_number_or_time(
            {**events, **scaled}, config.split_by, config.frames, config.size, config.size
        )
    except IndexError as error:  # how it fails for a frame without events
        raise UsageError(
            f"data.frames: some of {config.frames} frames of equal time are empty in {path}; "
            "use data.split_by=number"
        ) from error
    return Integrated(np.minimum(counts, MAX_COUNT).astype(np.uint8), int((counts > MAX_COUNT).sum()))


def _read_events(path: Path, height: int, width: int) -> dict[str, np.ndarray]:
    """Integer arrays t, x, y, p of equal length, x and y on the sensor. Raises FileError."""
    with open_npz(path) as file:
        events = {key: file[key] for key in ("t", "x", "y", "p")}
    if len({values.shape for values in events.values()}) > 1 or events["t"].ndim != 1:
        raise FileError(f"{path}: damaged: its arrays t, x, y and p differ in length")
    if any(values.dtype.kind not in "biu" for values in events.values()):
        raise FileError(f"{path}: damaged: its events are not integers")
    for key, side in (("x", width), ("y", height)):
        if events[key].size and not 0 <= int(events[key].min()) <= int(events[key].max()) < side:
            low, high = int(events[key].min()), int(events[key].max())
            raise FileError(f"{path}: damaged: {key} is {low} to {high} on a {width}x{height} sensor")
    return events
