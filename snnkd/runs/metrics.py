"""metrics.jsonl: one line per finished epoch, without any test accuracy."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from snnkd import distributed
from snnkd.files import check_guard, parse_json, write_atomic

NAME = "metrics.jsonl"


@distributed.on_rank0
def append_metrics(folder: Path, row: dict[str, Any]) -> None:
    """Add one line, floats with six significant digits."""
    line = json.dumps({k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in row.items()})
    check_guard(folder / NAME)
    with (folder / NAME).open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())  # must be on disk before the checkpoint that follows


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The rows of the file; lines truncated by a kill are skipped."""
    try:
        text = (folder / NAME).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    rows = []
    for line in text.splitlines():
        try:
            row = parse_json(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("epoch"), int):
            rows.append(row)
    return rows


@distributed.on_rank0
def rewind_metrics(folder: Path, epochs: int) -> None:
    """Keep the rows of the first `epochs` epochs; later epochs are trained again from the checkpoint."""
    if not (folder / NAME).exists():
        return
    rows = [row for row in read_metrics(folder) if row["epoch"] <= epochs]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    write_atomic(folder / NAME, text.encode())
