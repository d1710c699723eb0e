"""`snnkd status`."""

from __future__ import annotations

import csv
import dataclasses
import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from snnkd.cli import options as o
from snnkd.cli.text import status_text
from snnkd.errors import UsageError
from snnkd.runs.folder import runs_folder
from snnkd.runs.status import Status, all_status, exit_code

UNLIMITED = 10**6
"""Columns where stdout is no terminal and COLUMNS is not set: other programs need the names in full."""

EXAMPLES = (
    "snnkd status",
    "snnkd status runs --csv > runs.csv",
    "snnkd status --json",
)


def status(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR",
            help="Folder of runs, or one run; runs/ by default.",
            show_default=False,
        ),
    ] = None,
    as_json: o.Json = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print a CSV table to stdout, with a column for each swept key.")
    ] = False,
) -> None:
    """Print the state of every run in a folder.

    States: done, running, stopped, failed, or stale (killed; the same command continues it). Exit code: 0 if
    all are done, 4 if any failed, else 75. Age: since the last epoch, or since the end.
    """
    if as_json and as_csv:
        raise UsageError("--csv and --json are two formats; give one")
    runs = all_status(folder or runs_folder(), o.make_console())
    if as_json:
        o.echo_json({"schema": 1, "runs": [_fields(run) for run in runs]})
    elif as_csv:
        o.echo(_csv(runs))
    else:
        o.echo(status_text(runs, shutil.get_terminal_size((UNLIMITED, 24)).columns))
    raise typer.Exit(exit_code(runs))


def _fields(run: Status) -> dict[str, Any]:
    values = {field.name: getattr(run, field.name) for field in dataclasses.fields(run)}
    return {"run": str(values.pop("folder")), **values, "tags": list(run.tags)}


def _csv(runs: Sequence[Status]) -> str:
    """A line per run; the keys of `settings` are columns."""
    rows = [_fields(run) for run in runs]
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*(name for name in rows[0] if name != "settings"), *keys])
    for row in rows:
        settings = row.pop("settings")
        row["tags"] = " ".join(row["tags"])
        writer.writerow([*row.values(), *map(settings.get, keys)])
    return out.getvalue().rstrip("\n")
