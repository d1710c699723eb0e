"""Event frames as network input: one frame per timestep, or all frames merged into one image."""

from __future__ import annotations

from torch import Tensor

from snnkd.errors import UsageError, counted


def select_frames(images: Tensor, frames: int, T: int | None) -> Tensor:
    """The first `T` of event frames `[frames, B, C, H, W]`, one per timestep; with T None all of them.

    Raises UsageError for images without frames, for fewer than `T`, and, with T None, for other than
    `frames`.
    """
    if images.ndim != 5:
        raise UsageError(
            f"images of shape {list(images.shape)}; this network expects event frames [{frames}, B, C, H, W]"
        )
    if T is None and len(images) != frames:
        raise UsageError(
            f"{counted(len(images), 'event frame')}; this network expects exactly {frames} per sample"
        )
    if T is not None and len(images) < T:
        raise UsageError(f"T = {T}: each timestep takes one event frame, and there are {len(images)}")
    return images[:T]


def merge_frames(images: Tensor, stack: bool) -> Tensor:
    """Merge frames `[T, B, C, H, W]`: mean `[B, C, H, W]`, or stacked as channels `[B, T*C, H, W]`."""
    return images.movedim(0, 1).flatten(1, 2) if stack else images.mean(0)
