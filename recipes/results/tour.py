"""Run the README's tour and store it; render it.

    python recipes/results/tour.py      run `teach`, `distill` and `eval` in an empty folder, store tour.json

Minutes on two cores; run it on an idle machine, since its time is stored, too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

STORED = Path(__file__).resolve().parent / "tour.json"
COMMANDS = ["snnkd teach", "snnkd distill --loss hta-kl --T 4", "snnkd eval"]
HIDDEN = ("balanced accuracy", "rate", "early exit", "confidence", "0.")
"""Starts of the lines of `snnkd eval` that the README leaves out."""


def run(folder: Path) -> dict[str, Any]:
    """Run the commands in `folder`; return their output, their time, and the two results."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SNNKD_")}
    begin = time.perf_counter()
    outputs = [
        subprocess.run(
            [sys.executable, "-m", *command.split()],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        for command in COMMANDS
    ]
    seconds = time.perf_counter() - begin
    teacher, student = (
        json.loads((folder / text.strip() / "result.json").read_text()) for text in outputs[:2]
    )
    return {
        "schema": 1,
        "command": "python recipes/results/tour.py",
        "outputs": outputs,
        "seconds": round(seconds),
        "teacher": teacher,
        "student": student,
    }


def load() -> dict[str, Any]:
    """Load the stored tour."""
    stored: dict[str, Any] = json.loads(STORED.read_text())
    return stored


def console() -> str:
    """Render the commands with what they print."""
    stored = load()
    lines = []
    for command, output in zip(COMMANDS, stored["outputs"], strict=True):
        lines += [f"$ {command}", *output.splitlines()]
    return "\n".join(["```console", *_shortened(lines), "```"])


def _shortened(lines: list[str]) -> list[str]:
    """`...` in place of each group of hidden lines."""
    shown: list[str] = []
    for line in lines:
        if not line.lstrip().startswith(HIDDEN):
            shown.append(line)
        elif shown[-1] != "...":
            shown.append("...")
    return shown


def conditions() -> str:
    """Say where and how long the tour ran."""
    stored = load()
    hardware = stored["student"]["hardware"]
    minutes, seconds = divmod(stored["seconds"], 60)
    return f"{hardware['threads']} threads of {hardware['cpu']}, {minutes}:{seconds:02d} in all"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        STORED.write_text(json.dumps(run(Path(folder)), indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
