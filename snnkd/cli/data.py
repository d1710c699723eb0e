"""`snnkd data`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from snnkd import distributed
from snnkd.cli import options as o
from snnkd.cli.text import columns
from snnkd.recipe.data_section import resolve_data


def data(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A data set of `snnkd list data`, or MODULE:FUNCTION.")
    ],
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="PATH",
            help="Your copy: its archive, or a folder that holds it; nothing is downloaded.",
        ),
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option(
            "--mirror", metavar="URL", help="Download from here instead: the archive's URL or its folder's."
        ),
    ] = None,
    settings: o.Set = None,
    as_json: o.Json = False,
) -> None:
    """Fetch a data set, verify it, and describe it.

    With --json: schema, name, part (if not all of it), classes, shape [channels, height, width], frames (of event
    data), images of each split, sha256 (that runs record), files, bytes (of these files), mapped (not read into
    memory), source, licence, rule (how test images were told). What is not known is null.
    """
    o.permit(None, name, settings=settings)
    distributed.refuse_torchrun("data")
    config = resolve_data(name, settings or ())
    with o.stopping() as stop:
        from snnkd import pipeline
        from snnkd.data.describe import lines

        found = pipeline.data(config, source, mirror, o.make_context(stop))
    if as_json:
        o.say_json({"schema": 1, **found})
    else:
        o.say(columns(lines(found), left=2))
