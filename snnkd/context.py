"""Context of the pipeline's functions besides the recipe: output folder, console, stop requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from snnkd.console import Console
from snnkd.stopping import Stop


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """How a command runs: output folder, console, stop requests, and the command line that results record."""

    out: Path | None = None
    fresh: bool = False
    command: str = ""
    console: Console = field(default_factory=Console)
    stop: Stop = field(default_factory=Stop)
    wait: bool = False
    """Wait up to `execution.wait` seconds for a run that another process holds, instead of refusing it."""
