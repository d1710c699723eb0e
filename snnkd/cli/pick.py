"""`snnkd pick`."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from snnkd.cli import complete
from snnkd.cli import options as o
from snnkd.recipe import dump_yaml, resolve_tasks
from snnkd.recipe.sweep import tasks_of

EXAMPLES = (
    "snnkd pick search.yaml > chosen.yaml",
    "snnkd pick search.yaml --set search.samples=8",
)


def pick(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="The recipe of a finished search; see `snnkd run`.",
            autocompletion=complete.recipes,
        ),
    ],
    sweep: o.Sweep = None,
    settings: o.Set = None,
    code: o.Code = None,
    as_json: o.Json = False,
) -> None:
    """Choose each loss's best setting; print a recipe that confirms it.

    Choices are by validation accuracy (data.val_fraction) of the finished runs; test results are not read.
    The recipe runs the chosen settings with ten seeds on the whole training set.
    """
    o.permit(code, settings=settings, sweep=sweep)
    tasks = resolve_tasks(recipe, settings or (), sweep or ())
    from snnkd.compare.selection import select_settings
    from snnkd.recipe.confirmation import confirmation_recipe
    from snnkd.runs.folder import runs_folder

    console = o.make_console()
    selections = select_settings(tasks, runs_folder(), console)
    chosen = confirmation_recipe(tasks, [each.settings for each in selections], settings or ())
    tasks_of(chosen, recipe)
    if as_json:
        picked = [dataclasses.asdict(each) for each in selections]
        o.echo_json({"schema": 1, "recipe": chosen, "selections": picked})
        return
    o.echo("\n".join([f"# from: {o.command_line()}", *(f"# {each.line}" for each in selections)]))
    o.echo(dump_yaml(chosen).rstrip())
    for each in selections:
        o.note(each.line)
