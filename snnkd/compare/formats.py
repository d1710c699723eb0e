"""A comparison as text: for terminals, Markdown, CSV, JSON and LaTeX."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from snnkd.compare.report import Column, Line, Report, Table
from snnkd.compare.sections import PAPER_HEAD, TextTable, make_sections

if TYPE_CHECKING:  # other formats do without rich
    from rich.console import Console
    from rich.table import Table as RichTable

MIN_LABEL_WIDTH, GAP = 6, 2
"""Minimum width of the row labels (below it the table is split), and the space between two cells."""


def as_table(report: Report, width: int = 80) -> str:
    """Format for a terminal of `width` columns; long cells wrap, columns that do not fit go below."""
    from rich.console import Console
    from rich.text import Text

    out = io.StringIO()
    console = Console(file=out, width=width, highlight=False, markup=False, no_color=True)
    for section in make_sections(report):
        blocks: list[Any] = [section.heading + "\n" + section.caption]
        for table in section.tables:
            fitting = [_fitted(each, console) for each in _split(table, width)]
            blocks += [f"{table.title}\n", *fitting, *([" ".join(table.notes)] if table.notes else [])]
        blocks.append("\n".join(section.closing))
        for block in blocks:
            console.print(Text(block) if isinstance(block, str) else block)
            if not (isinstance(block, str) and block.endswith("\n")):
                console.print()
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip().splitlines())


def _fitted(table: TextTable, console: Console) -> RichTable:
    """Use Rich's layout; where it exceeds the console's width, compute the column widths here."""
    layout = _rich_table(table, [None] * len(table.head))
    with console.capture() as output:
        console.print(layout, crop=False)
    if max(len(line.rstrip(" ─")) for line in output.get().splitlines()) <= console.width:
        return layout
    widths = [MIN_LABEL_WIDTH, *(_min_width(table, k) for k in range(1, len(table.head)))]
    words = [k for k in range(len(widths)) if _is_words(table, k)]
    numbers = [k for k in range(len(widths)) if k not in words]
    # spare width goes to the longest word of a label, then to headers, full labels and verdicts
    for k, target in [(0, _min_width(table, 0)), *((k, _max_width(table, k)) for k in (*numbers, *words))]:
        spare = console.width - sum(widths) - GAP * (len(widths) - 1)
        widths[k] += max(0, min(target - widths[k], spare))
    return _rich_table(table, widths)


def _rich_table(source: TextTable, widths: Sequence[int | None]) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    table = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for k, (name, width) in enumerate(zip(source.head, widths, strict=True)):
        # labels wrap before numbers and verdicts
        min_width = _longest(source, k) if k else 0
        table.add_column(
            Text(name),
            justify="left" if _is_words(source, k) else "right",
            overflow="fold",
            min_width=min_width,
            width=width,
        )
    for row in source.rows:
        table.add_row(*map(Text, row))
    return table


def _is_words(table: TextTable, k: int) -> bool:
    return k == 0 or table.head[k] == "verdict"


def _longest(table: TextTable, k: int) -> int:
    """Width of the longest unbreakable text in the cells of column k: a number or a word."""
    return max(
        len(word) for row in table.rows for word in (row[k].split() if _is_words(table, k) else [row[k]])
    )


def _min_width(table: TextTable, k: int) -> int:
    return max(_longest(table, k), *map(len, table.head[k].split()))


def _max_width(table: TextTable, k: int) -> int:
    return max(len(row[k]) for row in (table.head, *table.rows))


def _split(table: TextTable, width: int) -> list[TextTable]:
    """Split a table into tables that fit `width` columns, each with the row labels."""
    groups: list[list[int]] = []
    for k, name in enumerate(table.head[1:], 1):
        if name == PAPER_HEAD:  # stays next to its own number
            groups[-1].append(k)
        else:
            groups.append([k])
    blocks: list[list[int]] = [[0]]
    for columns in groups:
        needed = MIN_LABEL_WIDTH + sum(GAP + _min_width(table, k) for k in (*blocks[-1][1:], *columns))
        blocks = (
            [*blocks[:-1], [*blocks[-1], *columns]]
            if needed <= width or blocks[-1] == [0]
            else [*blocks, [0, *columns]]
        )
    return [
        TextTable(
            table.title, [table.head[k] for k in block], [[row[k] for k in block] for row in table.rows]
        )
        for block in blocks
    ]


def as_markdown(report: Report) -> str:
    """Format as GitHub tables under headings."""
    blocks = []
    for section in make_sections(report):
        blocks += [f"### {_markdown_text(section.heading)}", _markdown_text(section.caption)]
        for table in section.tables:
            blocks += [_markdown_table(table), *map(_markdown_text, table.notes)]
        blocks += map(_markdown_text, section.closing)
    return "\n\n".join(blocks)


def _markdown_text(text: str) -> str:
    return re.sub(r"([\\|*_<])", r"\\\1", text)


def _markdown_table(table: TextTable) -> str:
    lines = [f"**{_markdown_text(table.title)}**", ""]
    lines += [_markdown_row(table.head), "|" + "---|" * len(table.head), *map(_markdown_row, table.rows)]
    return "\n".join(lines)


def _markdown_row(cells: list[str]) -> str:
    return f"| {' | '.join(map(_markdown_text, cells))} |"


def as_latex(report: Report) -> str:
    """Format as `table`s with caption, label and booktabs rules; notes as text between them."""
    blocks = [r"% needs \usepackage{booktabs}"]
    sections = make_sections(report)
    for number, (table, section) in enumerate(zip(report.tables, sections, strict=True), 1):
        prefix = f"{table.data} {table.model['name']}" + (f" {number}" if len(sections) > 1 else "")
        for k, each in enumerate(section.tables):
            caption = f"{section.heading}: {each.title}." + (f" {section.caption}" if k == 0 else "")
            blocks += [_latex_table(each, caption, f"{prefix} {each.title}"), *map(_latex_text, each.notes)]
        blocks += map(_latex_text, section.closing)
    return "\n\n".join(blocks)


_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$",
    "µ": r"$\mu$", "<": "$<$", ">": "$>$",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}  # fmt: skip


def _latex_text(text: str) -> str:
    # pdflatex knows no letters of other scripts, which a path may have
    known = " ".join(text.split()).encode("latin-1", "backslashreplace").decode("latin-1")
    escaped = "".join(_LATEX.get(letter, letter) for letter in known)
    escaped = re.sub(r"`([^`]*)`", r"\\texttt{\1}", escaped)
    return re.sub(r"(?<![\w-])([+-])(?=\d)", r"$\1$", escaped)


def _latex_table(table: TextTable, caption: str, name: str) -> str:
    columns = "".join("l" if _is_words(table, k) else "r" for k in range(len(table.head)))
    head, *rows = [" & ".join(map(_latex_text, row)) + r" \\" for row in [table.head, *table.rows]]
    label = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"\centering",
            f"\\caption{{{_latex_text(caption)}}}",
            f"\\label{{tab:{label}}}",
            f"\\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            head,
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def as_json(report: Report) -> str:
    """Format as one object, `{"schema": 1, "split", "rank_on", "tables", "left_out"}`.

    A table: `data`, `part`, `data_sha256`, `split`, `images`, `val_fraction`, `model`, `selection`, `epochs`,
    `usual`, `teacher` (or null), `notes`, and `columns`, one for each T, of `T`, `baseline`, `notes`,
    `rows` and `published`. A row: `label`, `loss`, `recipe_hash`, `settings`, `settings_split`, `varied`
    (values of the keys that differ between the settings of its loss), `seeds`, `runs`, `values` (top-1 in
    percent by seed), the spreads (`{"mean", "sd", "n"}`) `top1`, `val_top1`, `rate`, `synops`, `energy_mj`
    and `device_seconds` (of GPUs, else CPU time), `devices`, `difference` (`mean`, `seeds`, `verdict`, `sd`
    of the pairs' differences, `low`, `high`, `p`, `p_holm`, `power` and
    `equivalence`), `over_images` (`mean`, `low`, `high`, `seeds`, `images`, `draws`) and `published`: the
    result of this loss's paper for these data, model and T, mostly of the best test epoch (`method`, `T`,
    `top1`, `rate` as a fraction, `neuron`, `source`, `bibtex`, the reference's key). A column's
    `published` is the list of all that papers report there, `T` being null where it is not reported.
    `power` has `level` (the uncorrected p below which Holm's correction leaves the row significant),
    `detectable` (points, with probability 0.8) and `seeds_needed` for the observed difference (null: above
    1000); `equivalence`, with --equivalent, `margin`, `p` and `p_holm`. What does not apply is null.
    """
    return json.dumps(
        {"schema": 1, **dataclasses.asdict(report)}, indent=2, ensure_ascii=False, allow_nan=False
    )


def as_csv(report: Report) -> str:
    """Format as one line per row and T with all numbers; what does not apply is empty.

    `published_top1` is mostly of the best test epoch.
    """
    out = io.StringIO()
    lines = [
        _flat(table, column, line)
        for table in report.tables
        for column in table.columns
        for line in column.rows
    ]
    writer = csv.DictWriter(out, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue().rstrip("\n")


def _flat(table: Table, column: Column, line: Line) -> dict[str, Any]:
    cells: dict[str, Any] = {
        "data": table.data,
        "data_sha256": table.data_sha256,
        "part": None if table.part is None else json.dumps(table.part),
        "split": table.split,
        "images": table.images,
        "val_fraction": table.val_fraction,
        "model": json.dumps(table.model),
        "selection": table.selection,
        "teacher_sha256": table.teacher["sha256"] if table.teacher else None,
        "teacher_top1": table.teacher["top1"] if table.teacher else None,
        "T": column.T,
        **{key: getattr(line, key) for key in ("label", "loss", "recipe_hash", "settings", "settings_split")},
        "n": line.top1.n,
        "seeds": " ".join(map(str, line.seeds)),
        "values": " ".join(map(repr, line.values)),
    }
    for key in ("top1", "val_top1", "rate", "synops", "energy_mj", "device_seconds"):
        spread = getattr(line, key)
        cells |= {f"{key}_{part}": getattr(spread, part, None) for part in ("mean", "sd")}
    cells |= {"devices": "; ".join(line.devices), "baseline": column.baseline}
    cells |= {
        f"difference_{key}": getattr(line.difference, key, None)
        for key in ("mean", "sd", "low", "high", "p", "p_holm", "verdict")
    }
    power, equivalence = (getattr(line.difference, key, None) for key in ("power", "equivalence"))
    cells |= {key: getattr(power, key, None) for key in ("level", "detectable", "seeds_needed")}
    cells |= {f"equivalence_{key}": getattr(equivalence, key, None) for key in ("margin", "p", "p_holm")}
    cells["difference_seeds"] = " ".join(map(str, line.difference.seeds)) if line.difference else None
    cells |= {f"over_images_{key}": getattr(line.over_images, key, None) for key in ("mean", "low", "high")}
    cells["over_images_seeds"] = " ".join(map(str, line.over_images.seeds)) if line.over_images else None
    cells |= {f"published_{key}": getattr(line.published, key, None) for key in ("top1", "source")}
    return cells


FORMATS: dict[str, Callable[[Report], str]] = {
    "table": as_table,
    "md": as_markdown,
    "csv": as_csv,
    "json": as_json,
    "latex": as_latex,
}
"""Values of `--format`."""

__all__ = ["FORMATS", "as_csv", "as_json", "as_latex", "as_markdown", "as_table"]
