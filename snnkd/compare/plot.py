"""Plot of a comparison: one panel per table and T, one line per row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from snnkd.compare.report import Column, Line, Report, Table
from snnkd.compare.sections import heading
from snnkd.measure.plot import save_figure, wrap_label

LABEL_WIDTH = 28
"""Characters per line of a row label; longer lines would leave the panels too narrow."""
ROW, LINE, MARGIN = 0.32, 0.15, 0.1
"""Inches: the height of a row, of a line of its label, and the space around a label of several lines."""


def plot_report(report: Report, path: Path) -> None:
    """Plot mean ± sample standard deviation of every row, its seeds as dots, and the teacher.

    The suffix of `path` selects PNG, SVG or PDF.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    panels = [(table, column) for table in report.tables for column in table.columns]
    columns = max(len(table.columns) for table in report.tables)
    heights = [1.5 + max(sum(_row_heights(column)) for column in table.columns) for table in report.tables]
    figure, axes = plt.subplots(
        len(report.tables),
        columns,
        figsize=(2.2 + 4.2 * columns, sum(heights) + 0.4),
        height_ratios=heights,
        layout="constrained",
        squeeze=False,
        sharex="row",
    )
    try:
        for i, table in enumerate(report.tables):
            for k in range(columns):
                if k < len(table.columns):
                    _panel(axes[i][k], table, table.columns[k], first=k == 0)
                else:
                    axes[i][k].set_axis_off()
        spread = any(line.top1.n > 1 for _, column in panels for line in column.rows)
        handles = {
            label: line
            for panel in axes.flat
            for line, label in zip(*panel.get_legend_handles_labels(), strict=True)
        }
        figure.legend(
            handles.values(),
            handles.keys(),
            loc="outside lower center",
            ncols=3,
            frameon=False,
            fontsize="small",
            title="bar: ± 1 s.d. over n seeds" if spread else None,
            title_fontsize="small",
        )
        save_figure(figure, path)
    finally:
        plt.close(figure)


def _panel(axes: Any, table: Table, column: Column, first: bool) -> None:
    """Draw rows from top to bottom, the baseline's mean dotted, the teacher's accuracy dashed."""
    heights = _row_heights(column)
    centres = [sum(heights[:k]) + height / 2 for k, height in enumerate(heights)]
    for y, line in zip(centres, column.rows, strict=True):
        colour = "C1" if line.label == column.baseline else "C0"
        axes.errorbar(
            line.top1.mean,
            y,
            xerr=line.top1.sd,
            fmt="|",
            color=colour,
            markersize=9,
            markeredgewidth=2,
            capsize=3,
        )
        axes.plot(
            line.values,
            [y + 0.25 * ROW] * len(line.values),
            "o",
            color=colour,
            alpha=0.5,
            markersize=3,
            linestyle="none",
        )
        if line.label == column.baseline:
            axes.axvline(line.top1.mean, color=colour, linestyle=":", linewidth=1, label="baseline")
    if table.teacher:
        axes.axvline(float(table.teacher["top1"]), color="0.4", linestyle="--", linewidth=1, label="teacher")
    axes.set_yticks(centres, [_tick_label(line) for line in column.rows], fontsize="small")
    axes.set_ylim(sum(heights) + 0.1 * ROW, -0.1 * ROW)
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel(f"top-1 accuracy (%), {table.split}")
    axes.set_title(
        f"{heading(table)}\nT = {column.T}" if first else f"T = {column.T}", fontsize="small", loc="left"
    )


def _tick_label(line: Line) -> str:
    return wrap_label(f"{line.label} (n = {line.top1.n})", LABEL_WIDTH)


def _row_heights(column: Column) -> list[float]:
    return [max(ROW, LINE * len(_tick_label(line).splitlines()) + MARGIN) for line in column.rows]
