"""`snnkd data`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from snnkd import distributed
from snnkd.cli import complete
from snnkd.cli import options as o
from snnkd.cli.places import check_data
from snnkd.cli.text import columns, description_rows
from snnkd.recipe.data_section import resolve_data

EXAMPLES = (
    "snnkd data cifar100",
    "snnkd data cifar100 --from cifar-100-python.tar.gz",
    "snnkd data npz:mine.npz --json",
)


def data(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="Name of a data set (`snnkd list data`), or MODULE:FUNCTION.",
            autocompletion=complete.data_sets,
        ),
    ],
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="PATH",
            help="Use your copy (the archive, or a folder with it); download nothing.",
        ),
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option(
            "--mirror", metavar="URL", help="Download from this URL, of the archive or of its folder."
        ),
    ] = None,
    settings: o.Set = None,
    as_json: o.Json = False,
) -> None:
    """Download a data set, verify it and describe it.

    Keys of --json: schema, name, part (null for all of it), classes, class_names, shape [channels,
    height, width], frames (event data), images by split, sha256 (as runs record it), files, bytes (their
    size), mapped (read from disk, not held in memory), source, licence, rule (how the test split is defined).
    Unknown: null.
    """
    o.permit(None, name, settings=settings)
    distributed.refuse_torchrun("data")
    config = resolve_data(name, settings or ())
    check_data(config)
    with o.watch_signals() as stop:
        from snnkd import pipeline

        description = pipeline.data(config, source, mirror, o.make_context(stop))
    if as_json:
        o.echo_json({"schema": 1, **description})
    else:
        o.echo(columns(description_rows(description), left=2))
