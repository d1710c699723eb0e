"""`snnkd check`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from snnkd.cli import options as o
from snnkd.cli.text import preflight_lines
from snnkd.recipe import resolve_tasks
from snnkd.recipe.render import write_out

EXAMPLES = (
    "snnkd check glyphs",
    "snnkd check glyphs --set distill.model.T=2 > mine.yaml",
)


def check(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="Name of a shipped recipe, or a YAML file.")
    ],
    settings: o.Set = None,
    code: o.Code = None,
    as_json: o.Json = False,
) -> None:
    """Print the resolved recipe; report its cost and what is missing.

    The recipe goes to stdout; parameters, MACs, memory, steps, data and teacher to stderr.
    """
    o.permit(code, settings=settings)
    tasks = resolve_tasks(recipe, settings or ())
    written = write_out(tasks)
    from snnkd import pipeline

    stages = pipeline.check(tasks.all[0].pipeline)
    if as_json:
        o.echo_json({"schema": 1, "recipe": written.plain, "tasks": len(tasks.all), "stages": stages})
        return
    o.echo(f"# from: {o.command_line()}")
    o.echo(written.text)
    for line in [*tasks.about, *preflight_lines(stages)]:
        print(line, file=sys.stderr)
