"""Event frames as a network sees them: one at each timestep, or all of a sample at once."""

from __future__ import annotations

from torch import Tensor

from snnkd.errors import UsageError


def select_frames(images: Tensor, frames: int, T: int | None) -> Tensor:
    """Of event frames `[frames, B, ...]` the first `T`, one a timestep; with T None all of them, which then have to be `frames`.

    Raises UsageError for images without frames, or with fewer than are needed.
    """
    if images.ndim != 5:
        raise UsageError(
            f"images of shape {list(images.shape)}; this network takes event frames [{frames}, B, C, H, W]"
        )
    if T is None and len(images) != frames:
        raise UsageError(f"{len(images)} event frames; this network sees {frames} of each sample together")
    if T is not None and len(images) < T:
        raise UsageError(
            f"T = {T}: every timestep sees a frame of its own, and these events have {len(images)}"
        )
    return images[:T]


def merge_frames(images: Tensor, stack: bool) -> Tensor:
    """Frames `[T, B, C, H, W]` as one image: their mean `[B, C, H, W]`, or `stack`ed as channels `[B, T*C, H, W]`, frame by frame."""
    return images.movedim(0, 1).flatten(1, 2) if stack else images.mean(0)
