"""`snnkd export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from snnkd import distributed
from snnkd.catalog.formats import EXPORTS
from snnkd.cli import options as o
from snnkd.schema import fields

FORMATS = "; ".join(f"{entry.name}: {entry.help}" for entry in EXPORTS)


def export(
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RUN]", help="A finished run; the one finished student by default.", show_default=False
        ),
    ] = None,
    format: Annotated[str, typer.Option("--format", metavar="F", help=f"{FORMATS}.")] = "safetensors",
    timesteps: Annotated[
        str | None,
        typer.Option(
            "--T",
            "--timesteps",
            "-T",
            metavar="N",
            help="Timesteps in the file; the trained ones by default.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="PATH", help="Where to; RUN/export/<format> by default.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an export that stands there.")] = False,
    latest: Annotated[
        bool, typer.Option("--latest", help="The newest finished student when there are several.")
    ] = False,
    code: o.Code = None,
    as_json: o.Json = False,
) -> None:
    """Write a network to a file for others, read it back, compare, and print its path."""
    o.permit(code)
    distributed.refuse_torchrun("export")
    T = None if timesteps is None else fields.coerce(int, timesteps, "--T")
    with o.stopping() as stop:
        from snnkd import pipeline

        options = o.make_context(stop)
        found = pipeline.export(run, format, out, force, options, latest=latest, T=T)
    if as_json:
        o.say_json(found)
        return
    unfolded = (
        f", {found['agreement_unfolded']:.4f} with norms unfolded" if "agreement_unfolded" in found else ""
    )
    options.console.log(
        f"agreement {found['agreement']:.4f} on {found['images']} images{unfolded}, largest difference {found['max_difference']:g}"
    )
    o.say(found["path"])
