"""Plot of a comparison: one panel per table and T, one line per row; accuracy against T and searched keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

from snnkd.compare.report import Column, Line, Report, Table
from snnkd.compare.sections import heading
from snnkd.measure.plot import save_figure, wrap_label

LABEL_WIDTH = 28
"""Characters per line of a row label; longer lines would leave the panels too narrow."""
VALUE_WIDTH = 14
"""Characters per line of a value under an axis."""
TITLE_WIDTH = 66
ROW, LINE, MARGIN = 0.32, 0.15, 0.1
"""Inches: the height of a row, of a line of its label, and the space around a label of several lines."""
WIDE_RANGE = 8
"""A key whose values span a larger factor has a logarithmic axis."""


Draw = Callable[[Any], None]
"""Draws one panel."""


@dataclass(frozen=True)
class Strip:
    """Panels side by side; `shared` ones have the same x axis and their lines in the figure's legend."""

    panels: Sequence[Draw]
    height: float
    """Inches."""
    shared: bool = False


def plot_report(report: Report, path: Path) -> None:
    """Plot mean ± sample standard deviation of every row, its seeds as dots, and the teacher.

    Of several T also accuracy against T, of three or more settings accuracy against each key that differs
    between them. The suffix of `path` selects PNG, SVG or PDF.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    columns = max(len(table.columns) for table in report.tables)
    strips = [strip for table in report.tables for strip in _strips(table, columns)]
    heights = [strip.height for strip in strips]
    figure, axes = plt.subplots(
        len(strips),
        columns,
        figsize=(2.2 + 4.2 * columns, sum(heights) + 0.4),
        height_ratios=heights,
        layout="constrained",
        squeeze=False,
    )
    try:
        handles: dict[str, Any] = {}
        for row, strip in zip(axes, strips, strict=True):
            for panel, draw in zip_longest(row, strip.panels):
                if draw is None:
                    panel.set_axis_off()
                    continue
                draw(panel)
                if strip.shared:
                    panel.sharex(row[0])
                    lines, labels = panel.get_legend_handles_labels()
                    handles |= dict(zip(labels, lines, strict=True))
        spread = any(line.top1.n > 1 for table in report.tables for line in _lines(table))
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


def _strips(table: Table, columns: int) -> list[Strip]:
    """The rows of a table, one panel for each T, and below them what they depend on."""
    rows = [
        partial(_panel, table=table, column=column, first=k == 0) for k, column in enumerate(table.columns)
    ]
    height = 1.5 + max(sum(_row_heights(column)) for column in table.columns)
    keys = Counter(key for line in _lines(table) for key in line.varied)
    others: list[Draw] = [partial(_against_timesteps, table=table)] if len(table.columns) > 1 else []
    others += [
        partial(_against_key, table=table, key=key) for key, rows_of_key in keys.items() if rows_of_key > 2
    ]
    return [
        Strip(rows, height, shared=True),
        *(Strip(others[i : i + columns], 2.8) for i in range(0, len(others), columns)),
    ]


def _lines(table: Table) -> list[Line]:
    return [line for column in table.columns for line in column.rows]


def _against_timesteps(axes: Any, table: Table) -> None:
    """Draw a line over T for each row; for each loss where it has one row at every T, such as the best."""
    one_each = all(len({line.loss for line in column.rows}) == len(column.rows) for column in table.columns)
    points: dict[str, list[tuple[int, Line]]] = {}
    for column in table.columns:
        for line in column.rows:
            points.setdefault(line.loss if one_each else line.label, []).append((column.T, line))
    for k, (label, pairs) in enumerate(points.items()):
        T = [T for T, _ in pairs]
        means = [line.top1.mean for _, line in pairs]
        spreads = [line.top1.sd or 0.0 for _, line in pairs]
        axes.plot(T, means, "-o", color=f"C{k % 10}", label=wrap_label(label, LABEL_WIDTH), markersize=4)
        low, high = ([m + side * s for m, s in zip(means, spreads, strict=True)] for side in (-1, 1))
        axes.fill_between(T, low, high, color=f"C{k % 10}", alpha=0.2, linewidth=0)
    axes.set_xticks([column.T for column in table.columns])
    axes.set_xlabel("T")
    _finish(axes, f"top-1 accuracy (%), {table.split}", "band: ± 1 s.d.")


def _against_key(axes: Any, table: Table, key: str) -> None:
    """Draw each setting over its value of a searched key, by validation accuracy where all have it."""
    lines = [(column.T, line) for column in table.columns for line in column.rows if key in line.varied]
    validated = all(line.val_top1 for _, line in lines)
    groups: dict[str, list[Line]] = {}
    for T, line in lines:
        groups.setdefault(f"{line.loss}, T = {T}" if len(table.columns) > 1 else line.loss, []).append(line)
    values = [line.varied[key] for _, line in lines]
    numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    for k, (label, same) in enumerate(groups.items()):
        scores = [(line.val_top1 if validated else None) or line.top1 for line in same]
        axes.errorbar(
            [
                line.varied[key] if numeric else wrap_label(str(line.varied[key]), VALUE_WIDTH)
                for line in same
            ],
            [score.mean for score in scores],
            yerr=[score.sd or 0.0 for score in scores] if any(score.sd for score in scores) else None,
            fmt="o",
            color=f"C{k % 10}",
            label=label,
            markersize=4,
        )
    if numeric and min(values) > 0 and max(values) > WIDE_RANGE * min(values):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel(key)
    _finish(axes, f"top-1 accuracy (%), {'val' if validated else table.split}", None)


def _finish(axes: Any, y_label: str, title: str | None) -> None:
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    axes.legend(
        frameon=False,
        fontsize="small",
        title=title,
        title_fontsize="small",
        loc="lower left",
        bbox_to_anchor=(0, 1),  # above the panel: inside it would cover points and bars
        ncols=2,
    )


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
    title = f"{wrap_label(heading(table), TITLE_WIDTH)}\nT = {column.T}" if first else f"T = {column.T}"
    axes.set_title(title, fontsize="small", loc="left")


def _tick_label(line: Line) -> str:
    return wrap_label(f"{line.label} (n = {line.top1.n})", LABEL_WIDTH)


def _row_heights(column: Column) -> list[float]:
    return [max(ROW, LINE * len(_tick_label(line).splitlines()) + MARGIN) for line in column.rows]
