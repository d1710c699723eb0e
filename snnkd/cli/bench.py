"""`snnkd bench`."""

from __future__ import annotations

from typing import Annotated

import typer

from snnkd import distributed
from snnkd.cli import complete
from snnkd.cli import options as o
from snnkd.cli.text import bench_lines
from snnkd.errors import UsageError
from snnkd.recipe import resolve_stage
from snnkd.recipe.sweep import sweep_notice
from snnkd.schema.run import DistillRecipe

EXAMPLES = (
    "snnkd bench",
    "snnkd bench --model resnet20 --T 4 --batch-size 64 --baseline",
)


def bench(
    context: typer.Context,
    recipe: o.Recipe = "glyphs",
    loss: Annotated[
        str | None,
        typer.Option(
            "--loss",
            metavar="NAME",
            help="Loss (`snnkd list losses`), at its defaults.",
            autocompletion=complete.losses,
        ),
    ] = None,
    T: Annotated[
        str | None, typer.Option("--T", "--timesteps", "-T", metavar="N", help="Timesteps of the student.")
    ] = None,
    data: o.Data = None,
    model: o.Model = None,
    batch_size: o.BatchSize = None,
    device: o.Device = None,
    settings: o.Set = None,
    code: o.Code = None,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Also time the training loop of published code.")
    ] = False,
    ablations: Annotated[
        bool, typer.Option("--ablations", help="From that loop to this one, one change at a time.")
    ] = False,
    rounds: Annotated[
        int, typer.Option("--rounds", metavar="N", help="Timing rounds; the variants alternate.")
    ] = 7,
    as_json: o.Json = False,
) -> None:
    """Time the distillation step by part, on random images and weights."""
    o.permit(code, data, model, loss, settings=settings)
    distributed.refuse_torchrun("bench")
    if not 2 <= rounds <= 100_000:
        raise UsageError(f"--rounds {rounds} must be 2 to 100000")
    resolved = resolve_stage(recipe, "distill", settings=settings or (), **o.stage_flags(context))
    assert isinstance(resolved, DistillRecipe)
    notes = sweep_notice(recipe, resolved, "bench")
    with o.watch_signals():
        from snnkd import pipeline

        result = pipeline.bench(resolved, rounds, o.make_console(notes), baseline, ablations)
    if as_json:
        o.echo_json(result)
    else:
        o.echo("\n".join(bench_lines(result)))
