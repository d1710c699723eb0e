"""`snnkd eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from snnkd.cli import options as o
from snnkd.cli.tables import curve_text
from snnkd.recipe import fields
from snnkd.recipe.schema import EvalConfig, ExecutionConfig


def evaluate(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[RUN]...", help="Runs or exports; the one finished student by default.", show_default=False),
    ] = None,
    T: Annotated[
        str | None, typer.Option("--T", "--timesteps", "-T", metavar="N", help="Timesteps to measure, also beyond the trained ones.")
    ] = None,
    split: Annotated[str, typer.Option("--split", metavar="test|val", help="Which images.")] = "test",
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw accuracy against t (png, svg or pdf); seeds of one recipe become one line."),
    ] = None,
    latest: Annotated[bool, typer.Option("--latest", help="The newest finished student when there are several.")] = False,
    batch_size: Annotated[str, typer.Option("--batch-size", metavar="N", help="Images per forward pass.")] = "250",
    device: o.Device = None,
    code: o.Code = None,
    as_json: o.Json = False,
) -> None:
    """Measure accuracy, rate, SynOps and energy at every timestep from one forward pass."""
    o.permit(code)
    settings = fields.build(EvalConfig, {"split": split, "T": T}, "eval")
    execution = fields.build(ExecutionConfig, {"device": device or "auto", "eval_batch_size": batch_size}, "execution")
    with o.stopping() as stop:
        from snnkd import pipeline

        results = pipeline.evaluate_all(runs, latest, settings, execution, o.make_options(stop), plot)
    if as_json:
        o.say_json(results[0] if len(results) == 1 else {"schema": 1, "results": results})
        return
    for result in results:
        o.say(curve_text(result))
