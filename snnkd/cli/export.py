"""`snnkd export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from snnkd import processes
from snnkd.cli import options as o


def export(
    run: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="A finished run; the one finished student by default.", show_default=False)
    ] = None,
    format: Annotated[
        str, typer.Option("--format", metavar="F", help="safetensors: a folder with model.safetensors and config.json.")
    ] = "safetensors",
    out: Annotated[Path | None, typer.Option("--out", metavar="PATH", help="Where to; RUN/export/<format> by default.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an export that stands there.")] = False,
    latest: Annotated[bool, typer.Option("--latest", help="The newest finished student when there are several.")] = False,
    code: o.Code = None,
    as_json: o.Json = False,
) -> None:
    """Write a network to a file for others, read it back, compare, and print its path."""
    o.permit(code)
    processes.alone("export")
    with o.stopping() as stop:
        from snnkd import pipeline

        options = o.make_options(stop)
        found = pipeline.export(run, format, out, force, options, latest=latest)
    if as_json:
        o.say_json(found)
        return
    options.report.note(f"agreement {found['agreement']:.4f} on {found['images']} images, largest difference {found['max_difference']:g}")
    o.say(found["path"])
