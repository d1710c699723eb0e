"""Stands in for drawing the picture of a run, which takes longer than to train the networks of these tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from snnkd.files import write_atomic

DOT = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c"
    "49444154789c63606060000000040001f61738550000000049454e44ae426082"
)
"""A PNG file of one black pixel."""


def write_dot(groups: Any, path: Path, epochs: Any = ()) -> None:
    """Write a file in place of `plot_curves`."""
    write_atomic(path, DOT)
