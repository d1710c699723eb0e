"""`snnkd eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from snnkd.cli import options as o
from snnkd.cli.tables import print_table


def evaluate(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[RUN]...", help="Runs or exports; the one finished student by default.", show_default=False),
    ] = None,
    T: Annotated[
        int | None, typer.Option("--T", "--timesteps", "-T", metavar="N", min=1, help="Timesteps to measure, also beyond the trained ones.")
    ] = None,
    split: Annotated[str, typer.Option("--split", metavar="test|val", help="Which images.")] = "test",
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw accuracy against t (png, svg or pdf); seeds of one recipe become one line."),
    ] = None,
    latest: Annotated[bool, typer.Option("--latest", help="The newest finished student when there are several.")] = False,
    batch_size: Annotated[int, typer.Option("--batch-size", metavar="N", min=1, help="Images per forward pass.")] = 250,
    device: o.Device = None,
    as_json: o.Json = False,
) -> None:
    """Measure accuracy, rate, SynOps and energy at every timestep from one forward pass."""
    from snnkd import pipeline
    from snnkd.recipe.fields import coerce
    from snnkd.recipe.schema import ExecutionConfig

    settings = pipeline.Settings(split=coerce(Literal["test", "val"], split, "--split"), T=T)
    execution = ExecutionConfig(device=device or "auto", eval_batch_size=batch_size)
    options = o.make_options()
    with options.stop:
        results = pipeline.evaluate_all(runs, latest, settings, execution, options, plot)
    if as_json:
        o.print_json(results[0] if len(results) == 1 else {"schema": 1, "results": results})
        return
    for result in results:
        print_table(result)
