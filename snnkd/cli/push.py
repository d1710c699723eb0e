"""`snnkd push`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from snnkd import distributed
from snnkd.catalog.hub import check_repository
from snnkd.cli import complete
from snnkd.cli import options as o
from snnkd.cli.places import check_finished
from snnkd.cli.text import columns

EXAMPLES = (
    "snnkd push RUN OWNER/NAME --dry-run",
    "snnkd push RUN OWNER/NAME --private",
)


def push(
    run: Annotated[Path, typer.Argument(metavar="RUN", autocompletion=complete.runs, help="A finished run.")],
    repository: Annotated[
        str, typer.Argument(metavar="OWNER/NAME", help="Repository of the hub; created if missing.")
    ],
    private: Annotated[bool, typer.Option("--private", help="Create a private repository.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Export and list the files; connect to nothing.")
    ] = False,
    code: o.Code = None,
    as_json: o.Json = False,
) -> None:
    """Upload a run's verified export to the Hugging Face hub.

    The files are those of `snnkd export`, with a model card; hf-hub:OWNER/NAME then names the network in
    `snnkd eval`, `distill --teacher` and snnkd.load. The token is that of `hf auth login`, or HF_TOKEN.
    """
    o.permit(code)
    distributed.refuse_torchrun("push")
    check_repository(repository)
    check_finished(run)
    with o.watch_signals() as stop:
        from snnkd import pipeline

        context = o.make_context(stop)
        pushed = pipeline.push(run, repository, private, dry_run, context)
    if as_json:
        o.echo_json(pushed)
    elif dry_run:
        o.echo(columns([(each["path"], f"{each['bytes']:,} bytes") for each in pushed["files"]], left=1))
    else:
        context.console.log(f"uploaded {len(pushed['files'])} files; load them as hf-hub:{repository}")
        o.echo(pushed["url"])
