"""`snnkd eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from snnkd.cli import complete
from snnkd.cli import options as o
from snnkd.cli.places import check_networks
from snnkd.cli.text import curve_text
from snnkd.errors import RunError, counted
from snnkd.measure.plot import check_plot_path
from snnkd.recipe import resolve_execution
from snnkd.schema import fields
from snnkd.schema.run import EvalConfig

MAX_NAMED = 3
EXAMPLES = (
    "snnkd eval",
    "snnkd eval RUN --T 8 --recalibrate-bn",
    "snnkd eval runs/distill-* --plot curve.png",
)


def evaluate(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN",
            autocompletion=complete.runs,
            help="Runs, exports or hf-hub:OWNER/NAME; the only finished student by default.",
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
            help="Timesteps to measure; may exceed the trained ones.",
        ),
    ] = None,
    split: Annotated[str, typer.Option("--split", metavar="test|val", help="Images to measure on.")] = "test",
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="NAME",
            help="Measure on another data set, at its defaults.",
            autocompletion=complete.data_sets,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="data.KEY=VALUE", help="Set a key of the data, e.g. data.noise=0.2; repeatable."
        ),
    ] = None,
    recalibrate_bn: Annotated[
        bool,
        typer.Option("--recalibrate-bn", help="First re-estimate batch norm statistics on training images."),
    ] = False,
    save_logits: Annotated[
        Path | None,
        typer.Option(
            "--save-logits",
            metavar="FILE",
            help="Also write the logits of every timestep (.npz), for compare.",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            help="Plot accuracy, energy and rates (png, svg or pdf), seeds of one recipe as one line.",
        ),
    ] = None,
    all_runs: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Measure every finished run of the given folders (runs/ by default) without such a result.",
        ),
    ] = False,
    latest: Annotated[
        bool, typer.Option("--latest", help="Use the newest finished student if there are several.")
    ] = False,
    batch_size: Annotated[
        str, typer.Option("--batch-size", metavar="N", help="Images per forward pass.")
    ] = "250",
    device: o.Device = None,
    code: o.Code = None,
    as_json: o.Json = False,
) -> None:
    """Measure accuracy, rate, SynOps and energy at every timestep."""
    o.permit(code, data)
    config = fields.build(EvalConfig, {"split": split, "T": T, "recalibrate_bn": recalibrate_bn}, "eval")
    execution = resolve_execution(device or "auto", batch_size)
    if plot:
        check_plot_path(plot)
    # the rest of a request is checked with torch, before its networks are looked for
    unchecked = all_runs or data or settings or save_logits or (latest and runs)
    if execution.device in ("auto", "cpu") and not unchecked:
        check_networks(runs or (), latest)
    with o.watch_signals() as stop:
        from snnkd import pipeline
        from snnkd.evaluation import EvalRequest

        request = EvalRequest(
            settings=config, data=data, data_settings=settings or (), save_logits=save_logits
        )
        results, left_out = pipeline.evaluate_all(
            runs, request, execution, o.make_context(stop), latest=latest, all_runs=all_runs, plot=plot
        )
    if as_json:
        o.echo_json(results[0] if len(results) == 1 and not all_runs else {"schema": 1, "results": results})
    else:
        for result in results:
            o.echo(curve_text(result))
    if left_out:
        named = ", ".join(map(str, left_out[:MAX_NAMED])) + (", ..." if len(left_out) > MAX_NAMED else "")
        raise RunError(f"--all: {counted(len(left_out), 'run')} left out: {named}; the reasons are above")
