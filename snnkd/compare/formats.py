"""A comparison as text: for terminals, Markdown, CSV, JSON and LaTeX."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from snnkd.compare.report import Column, Line, Report, Table
from snnkd.compare.text import PAPER, Part, TextTable, parts

if TYPE_CHECKING:  # what another format than the terminal's needs not wait for
    from rich.console import Console
    from rich.table import Table as RichTable

LEAST_LABEL, GAP = 6, 2
"""Letters that the names of rows keep (where numbers leave them fewer, a table goes on below), and those
between two cells."""


def as_table(report: Report, width: int = 80) -> str:
    """For a terminal of `width` columns; long cells fold, and columns that find no room stand below."""
    from rich.console import Console
    from rich.text import Text

    out = io.StringIO()
    console = Console(file=out, width=width, highlight=False, markup=False, no_color=True)
    for part in parts(report):
        blocks: list[Any] = [part.heading + "\n" + part.caption]
        for sheet in part.sheets:
            fitting = [_fitted(each, console) for each in _split(sheet, width)]
            blocks += [f"{sheet.title}\n", *fitting, *([" ".join(sheet.notes)] if sheet.notes else [])]
        blocks.append("\n".join(part.closing))
        for block in blocks:
            console.print(Text(block) if isinstance(block, str) else block)
            if not (isinstance(block, str) and block.endswith("\n")):
                console.print()
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip().splitlines())


def _fitted(sheet: TextTable, console: Console) -> RichTable:
    """As Rich lays it out; where that is too wide for the console (a least width counts for more), with
    widths of our own."""
    made = _rich_table(sheet, [None] * len(sheet.head))
    with console.capture() as said:
        console.print(made, crop=False)
    if max(len(line.rstrip(" ─")) for line in said.get().splitlines()) <= console.width:
        return made
    widths = [LEAST_LABEL, *(_least(sheet, k) for k in range(1, len(sheet.head)))]
    words = [k for k in range(len(widths)) if _is_words(sheet, k)]
    numbers = [k for k in range(len(widths)) if k not in words]
    # what there is more goes to the longest word of a label, to heads, to whole labels, to verdicts
    for k, most in [(0, _least(sheet, 0)), *((k, _most(sheet, k)) for k in (*numbers, *words))]:
        spare = console.width - sum(widths) - GAP * (len(widths) - 1)
        widths[k] += max(0, min(most - widths[k], spare))
    return _rich_table(sheet, widths)


def _rich_table(sheet: TextTable, widths: Sequence[int | None]) -> RichTable:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    made = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for k, (name, width) in enumerate(zip(sheet.head, widths, strict=True)):
        # labels fold before numbers and verdicts do
        least = _longest(sheet, k) if k else 0
        made.add_column(
            Text(name),
            justify="left" if _is_words(sheet, k) else "right",
            overflow="fold",
            min_width=least,
            width=width,
        )
    for row in sheet.rows:
        made.add_row(*map(Text, row))
    return made


def _is_words(sheet: TextTable, k: int) -> bool:
    return k == 0 or sheet.head[k] == "verdict"


def _longest(sheet: TextTable, k: int) -> int:
    """Letters of what must not fold in the cells of column k: a number, a word."""
    return max(
        len(word) for row in sheet.rows for word in (row[k].split() if _is_words(sheet, k) else [row[k]])
    )


def _least(sheet: TextTable, k: int) -> int:
    return max(_longest(sheet, k), *map(len, sheet.head[k].split()))


def _most(sheet: TextTable, k: int) -> int:
    return max(len(row[k]) for row in (sheet.head, *sheet.rows))


def _split(sheet: TextTable, width: int) -> list[TextTable]:
    """The sheet as one, or as several below each other that have room in `width` columns, each with the names
    of the rows."""
    together: list[list[int]] = []
    for k, name in enumerate(sheet.head[1:], 1):
        if name == PAPER:  # stays beside the number that it belongs to
            together[-1].append(k)
        else:
            together.append([k])
    blocks: list[list[int]] = [[0]]
    for columns in together:
        needed = LEAST_LABEL + sum(GAP + _least(sheet, k) for k in (*blocks[-1][1:], *columns))
        blocks = (
            [*blocks[:-1], [*blocks[-1], *columns]]
            if needed <= width or blocks[-1] == [0]
            else [*blocks, [0, *columns]]
        )
    return [
        TextTable(
            sheet.title, [sheet.head[k] for k in block], [[row[k] for k in block] for row in sheet.rows]
        )
        for block in blocks
    ]


def as_markdown(report: Report) -> str:
    """GitHub's tables under headings."""
    return "\n\n".join(
        _blocks(report, _markdown_sheet, _markdown_text, lambda heading: f"### {_markdown_text(heading)}")
    )


def _blocks(
    report: Report,
    sheet: Callable[[TextTable], str],
    text: Callable[[str], str],
    heading: Callable[[str], str],
) -> Iterator[str]:
    for part in parts(report):
        yield heading(part.heading)
        yield text(part.caption)
        for each in part.sheets:
            yield sheet(each)
            yield from map(text, each.notes)
        yield from map(text, part.closing)


def _markdown_text(text: str) -> str:
    return re.sub(r"([\\|*_<])", r"\\\1", text)


def _markdown_sheet(sheet: TextTable) -> str:
    lines = [f"**{_markdown_text(sheet.title)}**", ""]
    lines += [_markdown_row(sheet.head), "|" + "---|" * len(sheet.head), *map(_markdown_row, sheet.rows)]
    return "\n".join(lines)


def _markdown_row(cells: list[str]) -> str:
    return f"| {' | '.join(map(_markdown_text, cells))} |"


def as_latex(report: Report) -> str:
    """`tabular`s with booktabs rules; headings as comments, notes as text."""
    return "\n\n".join(_blocks(report, _latex_sheet, _latex_text, lambda heading: f"% {heading}"))


_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$",
    "µ": r"$\mu$", "<": "$<$", ">": "$>$",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}  # fmt: skip


def _latex_text(text: str) -> str:
    escaped = "".join(_LATEX.get(letter, letter) for letter in text)
    escaped = re.sub(r"`([^`]*)`", r"\\texttt{\1}", escaped)
    return re.sub(r"(?<![\w-])([+-])(?=\d)", r"$\1$", escaped)


def _latex_sheet(sheet: TextTable) -> str:
    columns = "".join("l" if i == 0 or name == "verdict" else "r" for i, name in enumerate(sheet.head))
    rows = [" & ".join(map(_latex_text, row)) + r" \\" for row in [sheet.head, *sheet.rows]]
    head = [f"% {sheet.title}", f"\\begin{{tabular}}{{{columns}}}", r"\toprule", rows[0], r"\midrule"]
    return "\n".join([*head, *rows[1:], r"\bottomrule", r"\end{tabular}"])


def as_json(report: Report) -> str:
    """One object, `{"schema": 1, "split", "rank_on", "tables", "left_out"}`.

    A table: `data`, `part`, `data_sha256`, `split`, `images`, `val_fraction`, `model`, `selection`, `epochs`,
    `usual`, `teacher`
    (or null), `notes`, and `columns`, one for each T, of `T`, `baseline`, `notes`, `rows` and `published`. A
    row: `label`, `loss`,
    `recipe_hash`, `settings`, `seeds`, `runs`, `values` (top-1 in percent by seed), the spreads (`{"mean",
    "sd", "n"}`)
    `top1`, `val_top1`, `rate`, `synops`, `energy_mj` and `device_seconds`, `devices`, `difference` (`mean`,
    `low`,
    `high`, `p`, `p_holm`, `seeds`, `verdict`), `over_images` (`mean`, `low`, `high`, `seeds`, `images`,
    `draws`) and
    `published`: what the paper of this loss reports for these data, model and T, mostly of the best test
    epoch (`method`,
    `T`, `top1`, `rate` as a fraction, `neuron`, `source`, `bibtex`, the reference's key). A column's
    `published` is the list
    of all that papers report there, `T` being null where it is not told. What does not apply is null.
    """
    return json.dumps(
        {"schema": 1, **dataclasses.asdict(report)}, indent=2, ensure_ascii=False, allow_nan=False
    )


def as_csv(report: Report) -> str:
    """A line per row and T with all numbers; what does not apply is empty; `published_top1` is mostly of the
    best test epoch."""
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
    made: dict[str, Any] = {
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
        **{key: getattr(line, key) for key in ("label", "loss", "recipe_hash", "settings")},
        "n": line.top1.n,
        "seeds": " ".join(map(str, line.seeds)),
        "values": " ".join(map(repr, line.values)),
    }
    for key in ("top1", "val_top1", "rate", "synops", "energy_mj", "device_seconds"):
        found = getattr(line, key)
        made |= {f"{key}_{part}": getattr(found, part) if found else None for part in ("mean", "sd")}
    made |= {"devices": "; ".join(line.devices), "baseline": column.baseline}
    made |= {
        f"difference_{key}": getattr(line.difference, key, None)
        for key in ("mean", "low", "high", "p", "p_holm", "verdict")
    }
    made["difference_seeds"] = " ".join(map(str, line.difference.seeds)) if line.difference else None
    made |= {f"over_images_{key}": getattr(line.over_images, key, None) for key in ("mean", "low", "high")}
    made["over_images_seeds"] = " ".join(map(str, line.over_images.seeds)) if line.over_images else None
    made |= {f"published_{key}": getattr(line.published, key, None) for key in ("top1", "source")}
    return made


FORMATS: dict[str, Callable[[Report], str]] = {
    "table": as_table,
    "md": as_markdown,
    "csv": as_csv,
    "json": as_json,
    "latex": as_latex,
}
"""What `--format` takes."""

__all__ = ["FORMATS", "Part", "as_csv", "as_json", "as_latex", "as_markdown", "as_table"]
