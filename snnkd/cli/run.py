"""`snnkd run`."""

from __future__ import annotations

from typing import Annotated

import typer

from snnkd.cli import options as o
from snnkd.cli.places import check_pipelines, note_other_run
from snnkd.compare.plan import check_compare
from snnkd.errors import UsageError
from snnkd.recipe import resolve_tasks
from snnkd.recipe.sweep_option import option_recipe

EXAMPLES = (
    "snnkd run glyphs --sweep loss=kl,hta-kl --sweep T=2,4 --sweep seed=0-4",
    "snnkd run mine.yaml --tasks",
    "snnkd run mine.yaml --task 3 --max-time 3:50:00",
)


def run(
    recipe: o.NamedRecipe,
    task: Annotated[
        str | None, typer.Option("--task", metavar="K", help="Run only task K of the recipe's sweep, from 0.")
    ] = None,
    list_tasks: Annotated[
        bool, typer.Option("--tasks", help="List the tasks of the sweep without running them.")
    ] = False,
    sweep: o.Sweep = None,
    settings: o.Set = None,
    code: o.Code = None,
    max_time: o.MaxTime = None,
    as_json: o.Json = False,
) -> None:
    """Run all stages of a recipe; print one run directory per line."""
    o.permit(code, settings=settings, sweep=sweep)
    if list_tasks and task is not None:
        raise UsageError(f"--task {task} runs one task, --tasks lists them; give one of the two")
    tasks = resolve_tasks(recipe, settings or (), sweep or ())
    check_compare(tasks)
    if tasks.option_axes:
        o.note(option_recipe(recipe, tasks.option_axes, settings or ()))
    if tasks.notes:
        o.note("\n".join(tasks.notes))
    if list_tasks:
        if as_json:
            o.echo_json(
                {
                    "schema": 1,
                    "tasks": [{"task": each.number, "settings": each.settings} for each in tasks.all],
                }
            )
        else:
            o.echo("\n".join(each.line for each in tasks.all))
        return
    selected = tasks.select(task)
    check_pipelines(each.pipeline for each in selected)
    if notes := note_other_run(recipe):
        o.note("\n".join(notes))
    with o.watch_signals(max_time) as stop:
        from snnkd import pipeline

        context = o.make_context(stop)
        done = pipeline.run(selected, context)
    if as_json:
        o.echo_json({"schema": 1, "runs": [finished.result for finished in done]})
    else:
        o.echo("\n".join(str(finished.folder) for finished in done))
    if tasks.compare:
        pipeline.compare(tasks.compare, done, len(selected) == len(tasks.all), context)
