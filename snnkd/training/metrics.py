"""metrics.jsonl: one line per finished epoch, never a test accuracy."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from snnkd.files import parse_json, write_atomic

NAME = "metrics.jsonl"


def append_metrics(folder: Path, values: dict[str, Any]) -> None:
    """Add one line."""
    line = json.dumps({k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in values.items()})
    with (folder / NAME).open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())  # the checkpoint that follows says that the line is there


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of the file; a line torn by a kill is left out."""
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


def rewind_metrics(folder: Path, epochs: int) -> None:
    """Keep the lines of the first `epochs` epochs: those after the checkpoint are about to be made again."""
    if not (folder / NAME).exists():
        return
    rows = read_metrics(folder)
    kept = [row for row in rows if row["epoch"] <= epochs]
    text = "".join(json.dumps(row) + "\n" for row in kept)
    write_atomic(folder / NAME, text.encode())
