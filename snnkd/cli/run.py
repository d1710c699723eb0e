"""`snnkd run`."""

from __future__ import annotations

from typing import Annotated

import typer

from snnkd.cli import options as o
from snnkd.errors import UsageError
from snnkd.recipe import resolve_tasks


def run(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A shipped recipe's name or a YAML file.")],
    task: Annotated[
        str | None, typer.Option("--task", metavar="K", help="Only this cell of the recipe's sweep, from 0.")
    ] = None,
    list_tasks: Annotated[
        bool, typer.Option("--tasks", help="List the cells of the sweep, run nothing.")
    ] = False,
    settings: o.Set = None,
    code: o.Code = None,
    max_time: o.MaxTime = None,
    as_json: o.Json = False,
) -> None:
    """Run the stages that a recipe names, print one run directory a line."""
    o.permit(code, settings=settings)
    if list_tasks and task is not None:
        raise UsageError(f"--task {task} runs a task, --tasks lists them all; give one of the two")
    tasks = resolve_tasks(recipe, settings or ())
    if list_tasks:
        if as_json:
            o.say_json(
                {
                    "schema": 1,
                    "tasks": [{"task": each.number, "settings": each.settings} for each in tasks.all],
                }
            )
        else:
            o.say("\n".join(each.line for each in tasks.all))
        return
    chosen = tasks.chosen(task)
    with o.stopping(max_time) as stop:
        from snnkd import pipeline

        options = o.make_context(stop)
        done = pipeline.run(chosen, options)
    if as_json:
        o.say_json({"schema": 1, "runs": [finished.result for finished in done]})
    else:
        o.say("\n".join(str(finished.folder) for finished in done))
    if tasks.compare:
        pipeline.compare(tasks.compare, done, len(chosen) == len(tasks.all), options)
