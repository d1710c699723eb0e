"""The interface of an export format: a module with four functions, found through its catalogue entry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, cast

from torch import Tensor

from snnkd.catalog.formats import FormatEntry
from snnkd.exports.source import Source

Forward = Callable[[Tensor], Tensor]
"""Images in 0..1 `[B, C, H, W]`, or event frames `[frames, B, C, H, W]`, to logits `[T, B, classes]`."""


class Format(Protocol):
    """A module of this package."""

    TOLERANCE: float
    """Largest accepted difference of a logit without flipped spikes; times the largest logit if above 1."""

    def check(self, source: Source) -> None:
        """Raise UsageError, before any work, if the format does not support this network or T."""

    def write(self, path: Path, source: Source) -> None:
        """Write the export to `path`, which does not exist yet."""

    def read_back(self, path: Path) -> Forward:
        """Load the network from the file alone, with another implementation than wrote it."""

    def reference(self, source: Source) -> Forward:
        """The network that the file was exported from."""


def load_format(entry: FormatEntry) -> Format:
    """Import the module of a format, which imports its optional packages on use."""
    return cast(Format, entry.load())
