"""`snnkd check`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from snnkd.cli import options as o
from snnkd.recipe import resolve_pipeline
from snnkd.recipe.commented import commented_yaml


def check(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A shipped recipe's name or a YAML file.")],
    settings: o.Set = None,
    code: o.Code = None,
    as_json: o.Json = False,
) -> None:
    """Print the resolved recipe; say what it costs and whether its data and teacher are here on stderr."""
    o.permit(code, settings=settings)
    resolved = resolve_pipeline(recipe, settings or ())
    from snnkd.inspection import facts, lines, plain, sections

    found = facts(resolved)
    if as_json:
        o.say_json({"schema": 1, "recipe": plain(resolved), "stages": found})
        return
    o.say(f"# from: {o.command_line()}")
    o.say(commented_yaml(sections(resolved)))
    for line in lines(found):
        print(line, file=sys.stderr)
