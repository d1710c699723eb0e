"""What a format is: a module with these names, found through its entry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, cast

from torch import Tensor

from snnkd.catalog.formats import FormatEntry
from snnkd.exports.source import Source

Forward = Callable[[Tensor], Tensor]
"""Images float 0..1 `[B, C, H, W]` to logits `[T, B, classes]`."""


class Format(Protocol):
    """A module of this folder."""

    TOLERANCE: float
    """Largest difference of a logit that no flipped spike explains; times the largest logit where that is above 1."""

    def check(self, source: Source) -> None:
        """Raise UsageError, before any work, for what the format cannot say."""

    def write(self, path: Path, source: Source) -> None:
        """Write the export to `path`, where nothing stands."""

    def read_back(self, path: Path) -> Forward:
        """The network from the file alone, run by another implementation than wrote it."""

    def reference(self, source: Source) -> Forward:
        """The network that the file was made from."""


def load_format(entry: FormatEntry) -> Format:
    """The module of a format; its packages are imported when it is used."""
    return cast(Format, entry.load())
