"""`snnkd export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from snnkd import distributed
from snnkd.catalog.formats import EXPORTS
from snnkd.cli import complete
from snnkd.cli import options as o
from snnkd.cli.places import check_format, check_networks
from snnkd.cli.text import export_line
from snnkd.schema import fields

FORMATS = "; ".join(f"{entry.name}: {entry.help}" for entry in EXPORTS)

EXAMPLES = (
    "snnkd export",
    "snnkd export RUN --format onnx --T 2 --out student.onnx",
    "snnkd export --latest --format nir",
)


def export(
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="RUN",
            autocompletion=complete.runs,
            help="A finished run; the only finished student by default.",
            show_default=False,
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
            help="Timesteps in the file; as trained by default.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="PATH", help="Target path; RUN/export/FORMAT by default.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing export.")] = False,
    latest: Annotated[
        bool, typer.Option("--latest", help="Use the newest finished student if there are several.")
    ] = False,
    code: o.Code = None,
    as_json: o.Json = False,
) -> None:
    """Export a run's network to a file and verify the file."""
    o.permit(code)
    distributed.refuse_torchrun("export")
    T = None if timesteps is None else fields.coerce(int, timesteps, "--T")
    check_format(format)
    if not (latest and run):
        check_networks([run] if run else (), latest)
    with o.watch_signals() as stop:
        from snnkd import pipeline

        context = o.make_context(stop)
        exported = pipeline.export(run, format, out, force, context, latest=latest, T=T)
    if as_json:
        o.echo_json(exported)
        return
    context.console.log(export_line(exported))
    o.echo(exported["path"])
