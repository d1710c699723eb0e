"""`snnkd run`."""

from __future__ import annotations

from typing import Annotated

import typer

from snnkd.cli import options as o
from snnkd.recipe import resolve_pipeline


def run(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A shipped recipe's name or a YAML file.")],
    settings: o.Set = None,
    code: o.Code = None,
    max_time: o.MaxTime = None,
    as_json: o.Json = False,
) -> None:
    """Run the stages that a recipe names, print one run directory a line."""
    o.permit(code, settings=settings)
    resolved = resolve_pipeline(recipe, settings or ())
    with o.stopping(max_time) as stop:
        from snnkd import pipeline

        done = pipeline.run(resolved, o.make_options(stop))
    if as_json:
        o.say_json({"schema": 1, "runs": [finished.result for finished in done]})
        return
    for finished in done:
        o.say(finished.folder)
