"""`snnkd compare`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from snnkd.cli import complete
from snnkd.cli import options as o
from snnkd.errors import UsageError, did_you_mean
from snnkd.schema import fields
from snnkd.schema.run import CompareConfig

FORMATS = ("table", "md", "csv", "json", "latex")
PIPE_WIDTH = 100
"""Columns of the table where stdout is no terminal and COLUMNS is not set."""

EXAMPLES = (
    "snnkd compare runs --baseline kl --format md",
    "snnkd compare --equivalent 0.5",
    "snnkd compare RUN RUN --logits logits/ --plot compared.svg",
)


def compare(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN|DIR",
            autocompletion=complete.runs,
            help="Runs, folders of runs, or result files; runs/ by default.",
            show_default=False,
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            metavar="LOSS",
            help="Row that differences are computed against; kl, else none, by default.",
        ),
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            "--split",
            metavar="test|val",
            help="Images to compare on; val needs `snnkd eval --split val` first.",
        ),
    ] = "test",
    rank_on: Annotated[
        str | None,
        typer.Option(
            "--rank-on",
            metavar="val",
            help="Show only the setting of highest validation accuracy of each loss.",
        ),
    ] = None,
    equivalent: Annotated[
        str | None,
        typer.Option(
            "--equivalent",
            metavar="POINTS",
            help="Also test each row for equivalence to the baseline within this difference.",
        ),
    ] = None,
    logits: Annotated[
        list[Path] | None,
        typer.Option(
            "--logits",
            metavar="FILE|DIR",
            help="Saved logits, for intervals over images; RUN/eval/*.npz are read anyway.",
        ),
    ] = None,
    format: Annotated[
        str, typer.Option("--format", metavar="NAME", help="table, md, csv, json or latex.")
    ] = "table",
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Plot every row (png, svg or pdf).")
    ] = None,
    as_json: o.Json = False,
) -> None:
    """Compare finished students: spread over seeds, paired differences.

    One table for each data set, split, model, selection and teacher, one column for each T.
    """
    settings = fields.build(
        CompareConfig,
        {"baseline": baseline, "split": split, "rank_on": rank_on, "equivalent": equivalent},
        "compare",
    )
    if format not in FORMATS:
        raise UsageError(f"unknown --format {format!r}{did_you_mean(format, FORMATS)}")
    if as_json and format not in ("table", "json"):
        raise UsageError(f"--format {format} and --json are two formats; give one")
    from snnkd.compare import formats
    from snnkd.compare.report import make_report
    from snnkd.compare.sections import left_out_line
    from snnkd.measure.plot import check_plot_path

    if plot:
        check_plot_path(plot)
    report = make_report(runs or (), settings, logits or ())
    if report.left_out:
        o.note(left_out_line(report))
    if plot:
        from snnkd.compare.plot import plot_report

        plot_report(report, plot)
        o.note(f"plot written to {plot}")
    if format == "table" and not as_json:
        o.echo(formats.as_table(report, shutil.get_terminal_size((PIPE_WIDTH, 24)).columns))
    else:
        o.echo(formats.FORMATS["json" if as_json else format](report))
