"""Results as text for people."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import Any


def columns(rows: Sequence[Sequence[str]], left: int = 0) -> str:
    """Rows aligned in columns, the first `left` columns to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) if i < left else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def fitted(text: str) -> str:
    """On a terminal each line cut to its width, elsewhere the text as it is."""
    if not sys.stdout.isatty():
        return text
    width = shutil.get_terminal_size().columns
    return "\n".join(line if len(line) <= width else line[: width - 1] + "…" for line in text.splitlines())


def curve_text(result: dict[str, Any]) -> str:
    """The timestep curve of one result."""
    from snnkd.measure.result import table

    teacher, rate = result["teacher"], result["rate"]
    lines = [f"{result['run']}: {result['data']} {result['split']}, {result['images']} images", columns(table(result))]
    if rate is not None:
        lines.append(f"rate {rate:.4f} spikes per neuron and timestep")
    if teacher:
        lines.append(f"teacher {teacher['top1']:.2f} %, {1000 * teacher['energy_mj']:.3f} µJ")
    return "\n".join(lines)
