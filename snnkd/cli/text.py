"""Results as text for people."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any


def columns(rows: Sequence[Sequence[str]], left: int = 0) -> str:
    """Rows aligned in columns, the first `left` columns to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
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
    from snnkd.recipe.data_section import data_label

    teacher, rate, dynamic = result["teacher"], result["rate"], result["dynamic"]
    data = data_label(result["data"], result.get("part"))
    lines = [f"{result['run']}: {data} {result['split']}, {result['images']} images", columns(table(result))]
    if rate is not None:
        lines.append(f"rate {rate:.4f} spikes per neuron and timestep")
    if dynamic:
        lines.append("stopping when sure:")
        rows = [["confidence", "mean t", "top-1 %"]]
        lines.append(
            columns(
                [
                    *rows,
                    *(
                        [f"{d['threshold']:.2f}", f"{d['timesteps']:.2f}", f"{d['top1']:.2f}"]
                        for d in dynamic
                    ),
                ]
            )
        )
    if teacher:
        lines.append(f"teacher {teacher['top1']:.2f} %, {1000 * teacher['energy_mj']:.3f} µJ")
    if result["energy_note"]:
        lines += textwrap.wrap(result["energy_note"], 80)
    return "\n".join(lines)


def export_line(exported: dict[str, Any]) -> str:
    """How well an export agrees with its network."""
    line = f"agreement {exported['agreement']:.4f} on {exported['images']} images"
    if "agreement_unfolded" in exported:
        line += f", {exported['agreement_unfolded']:.4f} with norms unfolded"
    return f"{line}, largest difference {exported['max_difference']:g}"
