"""`snnkd eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from snnkd.cli import options as o
from snnkd.cli.text import curve_text
from snnkd.schema import fields
from snnkd.schema.run import EvalConfig, ExecutionConfig


def evaluate(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="Runs or exports; the one finished student by default.",
            show_default=False,
        ),
    ] = None,
    T: Annotated[
        str | None,
        typer.Option(
            "--T",
            "--timesteps",
            "-T",
            metavar="N",
            help="Timesteps to measure, also beyond the trained ones.",
        ),
    ] = None,
    split: Annotated[str, typer.Option("--split", metavar="test|val", help="Which images.")] = "test",
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="NAME", help="Another data set than the run's own, with its defaults."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="data.KEY=VALUE", help="A key of the data measured on, such as data.noise=0.2."
        ),
    ] = None,
    recalibrate_bn: Annotated[
        bool,
        typer.Option("--recalibrate-bn", help="First take batch norm's statistics anew on training images."),
    ] = False,
    save_logits: Annotated[
        Path | None,
        typer.Option(
            "--save-logits",
            metavar="FILE",
            help="Also write the logits of every timestep (npz), as for compare.",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            help="Draw accuracy, energy and rates (png, svg or pdf); seeds of one recipe become one line.",
        ),
    ] = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all", help="Every finished run in the folders given (the runs folder) not yet measured so."
        ),
    ] = False,
    latest: Annotated[
        bool, typer.Option("--latest", help="The newest finished student when there are several.")
    ] = False,
    batch_size: Annotated[
        str, typer.Option("--batch-size", metavar="N", help="Images per forward pass.")
    ] = "250",
    device: o.Device = None,
    code: o.Code = None,
    as_json: o.Json = False,
) -> None:
    """Measure accuracy, rate, SynOps and energy at every timestep from one forward pass."""
    o.permit(code, data)
    measured = fields.build(EvalConfig, {"split": split, "T": T, "recalibrate_bn": recalibrate_bn}, "eval")
    execution = fields.build(
        ExecutionConfig, {"device": device or "auto", "eval_batch_size": batch_size}, "execution"
    )
    with o.stopping() as stop:
        from snnkd import pipeline
        from snnkd.evaluation import EvalRequest

        asked = EvalRequest(
            settings=measured, data=data, data_settings=settings or (), save_logits=save_logits
        )
        results = pipeline.evaluate_all(
            runs, asked, execution, o.make_context(stop), latest=latest, every=every, plot=plot
        )
    if as_json:
        o.say_json(results[0] if len(results) == 1 and not every else {"schema": 1, "results": results})
        return
    for result in results:
        o.say(curve_text(result))
