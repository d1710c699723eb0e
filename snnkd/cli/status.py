"""`snnkd status`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from snnkd.cli import options as o
from snnkd.cli.text import columns
from snnkd.runs.find import all_status, exit_code
from snnkd.runs.folder import runs_folder

EXAMPLES = (
    "snnkd status",
    "snnkd status runs --json",
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
) -> None:
    """Print the state of every run in a folder.

    States: done, running, stopped, failed, or stale (killed; the same command continues it). Exit code: 0 if
    all are done, 4 if any failed, else 75.
    """
    runs = all_status(folder or runs_folder(), o.make_console())
    if as_json:
        o.echo_json(
            {"schema": 1, "runs": [{"run": str(s.folder), "state": s.state, "note": s.note} for s in runs]}
        )
    elif runs:
        o.echo(columns([[s.state, str(s.folder), s.note] for s in runs], left=3))
    raise typer.Exit(exit_code(runs))
