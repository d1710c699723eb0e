"""A comparison as headings, sentences and cells, the same for every kind of table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from snnkd.compare.paper_results import USUAL_NEURON, Reported
from snnkd.compare.report import Column, Line, Report, Table
from snnkd.compare.statistics import LEVEL, Difference, Spread
from snnkd.recipe.data_section import data_label

PERCENT = f"{100 * LEVEL:g} %"
PAPER = "paper*"
"""Head of the papers' numbers; what the star means is a closing line."""
Row = list[str]


@dataclass(frozen=True)
class TextTable:
    """One table of text: rows under a head, the first column to the left, and notes below."""

    title: str
    head: Row
    rows: list[Row]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """All that is said of one `Table`: heading, caption, sheets and closing lines."""

    heading: str
    caption: str
    sheets: tuple[TextTable, ...]
    closing: tuple[str, ...]


def parts(report: Report) -> list[Part]:
    return [_part(table, report) for table in report.tables]


def left_out(report: Report, most: int = 6) -> str:
    """One line on the runs (and files of logits) that are in no table; empty when there are none."""
    if not report.left_out:
        return ""
    count = len(report.left_out)
    shown = "; ".join(f"{each.place} ({each.why})" for each in report.left_out[:most])
    return f"left out, {count}: {shown}{'; ...' if count > most else ''}"


def _part(table: Table, report: Report) -> Part:
    sheets: list[TextTable] = []
    if len(table.columns) > 1:
        sheets.append(_grid(table))
    for column in table.columns:
        title = f"T = {column.T}"
        sheets.append(TextTable(title, *_accuracy(column, report), notes=column.notes))
        if any(line.over_images for line in column.rows):
            sheets.append(TextTable(f"{title}, over {table.split} images", *_images(column)))
        sheets.append(TextTable(f"{title}, cost", *_cost(column)))
    return Part(heading(table), caption(table, report), tuple(sheets), tuple(_closing(table, report)))


def heading(table: Table) -> str:
    """What all rows have in common."""
    model = " ".join(
        [str(table.model["name"]), *(f"{key}={value}" for key, value in table.model.items() if key != "name")]
    )
    taught = f", teacher {table.teacher['sha256'][:12]}" if table.teacher else ", no teacher"
    held = f", {100 * table.val_fraction:g} % of the training images held out" if table.val_fraction else ""
    return f"{data_label(table.data, table.part)} ({table.data_sha256[:12]}), {model}{taught}{held}"


def caption(table: Table, report: Report) -> str:
    """What was compared, in one sentence."""
    epochs = f" (epoch {table.epochs[0]})" if len(table.epochs) == 1 and table.selection == "last" else ""
    chosen = {
        "last": f"the last epoch counts{epochs}",
        "best": "each run's epoch was chosen on validation images",
    }["best" if table.selection == "best" else "last"]
    ranked = "each loss's setting was chosen by validation accuracy, " if report.rank_on else ""
    if table.split == "test":
        honest = "nothing was selected on the test split"
    else:
        seen = report.rank_on or table.selection == "best"
        honest = (
            "these are the images that the choice was made on, so the numbers flatter"
            if seen
            else "no test image was looked at"
        )
    return (
        f"Top-1 accuracy in percent on the {table.images} {table.split} images after the T timesteps trained "
        f"with, mean ± sample "
        f"standard deviation over n seeds; {chosen}, {ranked}{honest}."
    )


def _closing(table: Table, report: Report) -> list[str]:
    said = []
    if table.usual:
        said.append(
            f"Where a row does not say otherwise: "
            f"{', '.join(f'{key}={value}' for key, value in table.usual.items())}."
        )
    if any(line.difference for column in table.columns for line in column.rows):
        said.append(
            f"Differences are paired by seed, each with its own {PERCENT} interval by Student's t; p is "
            f"two-sided, corrected by Holm over "
            f"the rows of a column; below {1 - LEVEL:.2g} a row counts as above or below."
        )
        said += _images_said(table)
    if any(line.settings > 1 for column in table.columns for line in column.rows):
        said.append("settings: how many of that loss are among the runs given, with these data, model and T.")
    said += _published_said(table)
    if table.teacher:
        energy = table.teacher.get("energy_mj")
        cost = "" if energy is None else f", {1000 * float(energy):.3f} µJ an image"
        said.append(
            f"teacher {table.teacher.get('run', '')}: {float(table.teacher['top1']):.2f} % on the test "
            f"split{cost}."
        )
    return [*said, *table.notes]


def _images_said(table: Table) -> list[str]:
    found = [line.over_images for column in table.columns for line in column.rows if line.over_images]
    if found:
        return [
            f"Over images: percentile interval ({PERCENT}) of a paired bootstrap, {found[0].draws:,} draws "
            f"of {found[0].images} images; "
            "of these trained networks, not of other seeds."
        ]
    return [
        "No interval over images: `snnkd eval RUN --save-logits FILE.npz` saves what it needs, --logits "
        "reads it."
    ]


def _published_said(table: Table) -> list[str]:
    """What the star means, the papers' numbers that stand beside no row, and where each is from."""
    found = list(dict.fromkeys(each for column in table.columns for each in column.published))
    if not found:
        return []
    shown = {line.published for column in table.columns for line in column.rows}
    others = [each for each in found if each.top1 is not None and each not in shown]
    rates = [each for each in found if each.rate is not None]
    what = f"for {table.data} and {table.model['name']}"
    said = [
        "* As the papers report it, mostly of the best test epoch, which snnkd never selects. Recipes and "
        "teachers are each paper's own."
    ]
    if others:
        said.append(
            f"Published* {what}, beside no row here: {_by_t(others, lambda each: f'{each.top1:.2f}')}."
        )
    if rates:
        said.append(f"Firing rates published* {what}: {_by_t(rates, lambda each: f'{each.rate:.4f}')}.")
    sources = dict.fromkeys(f"{_named(each)} {each.source}" for each in found)
    return [*said, f"Papers: {', '.join(sources)}."]


def _by_t(found: Sequence[Reported], number: Callable[[Reported], str]) -> str:
    told: dict[int | None, list[str]] = {}
    for each in found:
        told.setdefault(each.T, []).append(f"{_named(each)} {number(each)}")
    order = sorted(told, key=lambda T: (T is None, T or 0))
    return "; ".join(f"{', '.join(told[T])} ({'T not told' if T is None else f'T = {T}'})" for T in order)


def _named(each: Reported) -> str:
    return each.method if each.neuron == USUAL_NEURON else f"{each.method} ({each.neuron})"


def _paper(line: Line | None) -> str:
    return f"{line.published.top1:.2f}" if line and line.published else ""


def _has_paper(column: Column) -> bool:
    return any(line.published for line in column.rows)


def _grid(table: Table) -> TextTable:
    labels = list(dict.fromkeys(line.label for column in table.columns for line in column.rows))
    head, rows = ["loss"], [[label] for label in labels]
    for column in table.columns:
        lines = {line.label: line for line in column.rows}
        head += [f"T = {column.T}", *([PAPER] if _has_paper(column) else [])]
        for row in rows:
            line = lines.get(row[0])
            row.append(f"{of(line.top1, 1)} ({line.top1.n})" if line else "")
            row.extend([_paper(line)] if _has_paper(column) else [])
    return TextTable("top-1 % (n)", head, rows)


def _accuracy(column: Column, report: Report) -> tuple[Row, list[Row]]:
    head, baseline = ["loss", "n", "top-1 %"], column.baseline
    head += [PAPER] if _has_paper(column) else []
    head += ["val %"] if report.rank_on else []
    head += [f"minus {baseline} [{PERCENT}]", "p Holm", "verdict"] if baseline else []
    rows = []
    for line in column.rows:
        row = [line.label, str(line.top1.n), of(line.top1, 1)]
        row += [_paper(line)] if _has_paper(column) else []
        row += [of(line.val_top1, 1) if line.val_top1 else ""] if report.rank_on else []
        rows.append([*row, *(_against(line.difference, line.label == baseline) if baseline else [])])
    return head, rows


def _against(found: Difference | None, is_baseline: bool) -> Row:
    if found is None:
        return ["", "", "baseline" if is_baseline else "no shared seed"]
    return [interval(found.mean, found.low, found.high), p_text(found.p_holm), found.verdict]


def _images(column: Column) -> tuple[Row, list[Row]]:
    rows = [
        [line.label, ", ".join(map(str, found.seeds)), interval(found.mean, found.low, found.high)]
        for line in column.rows
        if (found := line.over_images)
    ]
    return ["loss", "seeds", f"minus {column.baseline} [{PERCENT}]"], rows


def _cost(column: Column) -> tuple[Row, list[Row]]:
    on_cpu = {on_cpu for line in column.rows for on_cpu in line.on_cpu}
    kind = "device" if len(on_cpu) > 1 else "CPU" if on_cpu == {True} else "GPU"
    head = ["loss", "rate", "SynOps (k)", "energy µJ", f"{kind}-s a run", "settings"]
    rows = [
        [
            line.label,
            of(line.rate, 3),
            of(_times(line.synops, 1e-3), 0),
            of(_times(line.energy_mj, 1e3), 3),
            of(line.device_seconds, 0) if line.device_seconds else "",
            str(line.settings),
        ]
        for line in column.rows
    ]
    return head, rows


def _times(found: Spread, factor: float) -> Spread:
    return Spread(factor * found.mean, None if found.sd is None else factor * found.sd, found.n)


def of(found: Spread, digits: int) -> str:
    """`mean ± sd`, the mean alone at n = 1."""
    return f"{found.mean:,.{digits}f}" + ("" if found.sd is None else f" ± {found.sd:,.{digits}f}")


def interval(mean: float, low: float | None, high: float | None) -> str:
    return f"{mean:+.1f}" if low is None else f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"


def p_text(p: float | None) -> str:
    return "" if p is None else "<0.001" if p < 0.0005 else f"{p:.3f}"
