"""`snnkd check`."""

from __future__ import annotations

from typing import Annotated

import typer

from snnkd.cli import options as o
from snnkd.cli.text import preflight_lines
from snnkd.compare.plan import check_compare
from snnkd.recipe import dump_yaml, resolve_tasks
from snnkd.recipe.help_comments import commented_yaml
from snnkd.recipe.render import full_recipe, sweep_recipe
from snnkd.schema.fields import to_plain

EXAMPLES = (
    "snnkd check glyphs",
    "snnkd check glyphs --set distill.model.T=2 > mine.yaml",
    "snnkd check cifar100-resnet19 --task 0 --time",
)


def check(
    recipe: o.NamedRecipe,
    settings: o.Set = None,
    sweep: o.Sweep = None,
    task: Annotated[
        str | None,
        typer.Option("--task", metavar="K", help="Show only task K of the recipe's sweep, from 0."),
    ] = None,
    timed: Annotated[
        bool,
        typer.Option("--time", help="Also time a few training steps here, for minutes of training."),
    ] = False,
    code: o.Code = None,
    as_json: o.Json = False,
) -> None:
    """Print the resolved recipe; report its cost and what is missing.

    A sweep is printed as it is after `extends`, one of its tasks in full with --task K.
    The recipe goes to stdout; parameters, MACs, memory, steps, data and teacher to stderr.
    """
    o.permit(code, settings=settings, sweep=sweep)
    tasks = resolve_tasks(recipe, settings or (), sweep or ())
    check_compare(tasks)
    first = tasks.select(task)[0]
    swept = bool(tasks.axes) and task is None
    recipe_keys = sweep_recipe(tasks, settings or ()) if swept else full_recipe(first.pipeline)
    o.announce_torch()
    from snnkd import pipeline

    stages = pipeline.check(first.pipeline, timed)
    if as_json:
        o.echo_json({"schema": 1, "recipe": to_plain(recipe_keys), "tasks": len(tasks.all), "stages": stages})
        return
    o.echo(f"# from: {o.command_line()}")
    o.echo(dump_yaml(recipe_keys).rstrip() if swept else commented_yaml(recipe_keys))
    for line in [*(tasks.summary if swept else ()), *preflight_lines(stages)]:
        o.note(line)
