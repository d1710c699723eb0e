"""A comparison as sections of text: headings, sentences and table cells, for all output formats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from snnkd.compare.paper_results import DEFAULT_NEURON, Reported
from snnkd.compare.power import MAX_SEEDS, POWER
from snnkd.compare.report import Column, Line, Report, Table
from snnkd.compare.statistics import LEVEL, Difference, Equivalence, Spread
from snnkd.compare.students import HOW_TO_CONTINUE, NOT_FINISHED
from snnkd.recipe.data_section import data_label

LEVEL_TEXT = f"{100 * LEVEL:g} %"
PAPER_HEAD = "paper*"
"""Header of the columns of published numbers; a closing sentence explains the star."""
Row = list[str]


@dataclass(frozen=True)
class TextTable:
    """Rows under a header, with notes below; the first column is left-aligned."""

    title: str
    head: Row
    rows: list[Row]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """The text of one `Table`: heading, caption, text tables and closing lines."""

    heading: str
    caption: str
    tables: tuple[TextTable, ...]
    closing: tuple[str, ...]


def make_sections(report: Report) -> list[Section]:
    """Make one section per table."""
    return [_section(table, report) for table in report.tables]


def left_out_line(report: Report, most: int = 6) -> str:
    """List the excluded runs and logits files on one line; empty if there are none."""
    if not report.left_out:
        return ""
    count = len(report.left_out)
    shown = "; ".join(f"{each.place} ({each.why})" for each in report.left_out[:most])
    unfinished = any(each.why == NOT_FINISHED for each in report.left_out)
    remedy = f"; {HOW_TO_CONTINUE}" if unfinished else ""
    return f"left out, {count}: {shown}{'; ...' if count > most else ''}{remedy}"


def _section(table: Table, report: Report) -> Section:
    tables: list[TextTable] = []
    if len(table.columns) > 1:
        tables.append(_grid(table))
    for column in table.columns:
        title = f"T = {column.T}"
        tables.append(TextTable(title, *_accuracy(column, report), notes=column.notes))
        if any(line.over_images for line in column.rows):
            tables.append(TextTable(f"{title}, over {table.split} images", *_images(column)))
        if any(line.difference and line.difference.power for line in column.rows):
            tables.append(TextTable(f"{title}, power", *_power(column)))
        tables.append(TextTable(f"{title}, cost", *_cost(column)))
    return Section(heading(table), caption(table, report), tuple(tables), tuple(_closing(table, report)))


def heading(table: Table) -> str:
    """Data, model, teacher and validation fraction, common to all rows."""
    model = " ".join(
        [str(table.model["name"]), *(f"{key}={value}" for key, value in table.model.items() if key != "name")]
    )
    teacher = f", teacher {table.teacher['sha256'][:12]}" if table.teacher else ", no teacher"
    held_out = (
        f", {100 * table.val_fraction:g} % of the training images held out" if table.val_fraction else ""
    )
    return f"{data_label(table.data, table.part)} ({table.data_sha256[:12]}), {model}{teacher}{held_out}"


def caption(table: Table, report: Report) -> str:
    """One sentence on what is compared and how epochs and settings were selected."""
    epochs = f" (epoch {table.epochs[0]})" if len(table.epochs) == 1 and table.selection == "last" else ""
    chosen = {
        "last": f"weights of the last epoch{epochs}",
        "best": "weights of the epoch with the best validation accuracy",
    }["best" if table.selection == "best" else "last"]
    ranked = "settings selected by validation accuracy, " if report.rank_on else ""
    if table.split == "test":
        bias = "no selection on the test split"
    else:
        selected = report.rank_on or table.selection == "best"
        bias = (
            "selected on these images, so the accuracies are optimistic"
            if selected
            else "test images not used"
        )
    return (
        f"Top-1 accuracy in percent on the {table.images} {table.split} images after the trained number "
        f"of timesteps T, mean ± sample standard deviation over n seeds; {chosen}, {ranked}{bias}."
    )


def _closing(table: Table, report: Report) -> list[str]:
    sentences = []
    if table.usual:
        settings = ", ".join(f"{key}={value}" for key, value in table.usual.items())
        sentences.append(f"Settings unless a label lists another value: {settings}.")
    lines = [line for column in table.columns for line in column.rows]
    if any(line.difference for line in lines):
        sentences.append(
            f"Differences are paired by seed, with {LEVEL_TEXT} intervals by Student's t; "
            f"p is two-sided, Holm-corrected over the rows of a column, significant below {1 - LEVEL:.2g}."
        )
        sentences += [*_power_sentences(lines), *_image_sentences(table)]
    if any(line.settings > 1 for line in lines):
        sentences.append(
            "settings: number of settings of the loss among the given runs of these data, model and T, "
            "and the images that could choose between them."
        )
    sentences += _paper_sentences(table)
    if table.teacher:
        energy = table.teacher.get("energy_mj")
        cost = "" if energy is None else f", {1000 * float(energy):.3f} µJ an image"
        sentences.append(
            f"teacher {table.teacher.get('run', '')}: "
            f"{float(table.teacher['top1']):.2f} % on the test split{cost}."
        )
    return [*sentences, *table.notes]


def _power_sentences(lines: Sequence[Line]) -> list[str]:
    differences = [line.difference for line in lines if line.difference]
    sentences = []
    if any(each.power for each in differences):
        sentences.append(
            "Power: a row is significant if its uncorrected p is below `p needed`; "
            f"`detectable` is the smallest difference that its pairs detect with probability {POWER:g}, "
            "`seeds needed` the number of seeds that detect the observed difference."
        )
    equivalence = next((each.equivalence for each in differences if each.equivalence), None)
    if equivalence:
        sentences.append(
            f"{_within(equivalence)}: Holm-corrected p of two one-sided t tests; "
            f"equivalent below {1 - LEVEL:.2g}."
        )
    return sentences


def _image_sentences(table: Table) -> list[str]:
    resampled = [line.over_images for column in table.columns for line in column.rows if line.over_images]
    if resampled:
        return [
            f"Over images: {LEVEL_TEXT} percentile interval of a paired bootstrap, {resampled[0].draws:,} "
            f"draws of {resampled[0].images} images, for these trained networks (not for other seeds)."
        ]
    return [
        "No interval over images: "
        "save logits with `snnkd eval RUN --save-logits FILE.npz`, then give --logits FILE.npz."
    ]


def _paper_sentences(table: Table) -> list[str]:
    """Explain the star, list published numbers of methods without a row, cite the papers."""
    numbers = list(dict.fromkeys(each for column in table.columns for each in column.published))
    if not numbers:
        return []
    shown = {line.published for column in table.columns for line in column.rows}
    others = [each for each in numbers if each.top1 is not None and each not in shown]
    rates = [each for each in numbers if each.rate is not None]
    task = f"for {table.data} and {table.model['name']}"
    sentences = [
        "* As reported by the papers, with their own recipes and teachers, mostly at the best test epoch; "
        "snnkd never selects on the test split."
    ]
    if others:
        sentences.append(
            f"Published* {task}, of methods without a row: {_by_t(others, lambda each: f'{each.top1:.2f}')}."
        )
    if rates:
        sentences.append(f"Published* firing rates {task}: {_by_t(rates, lambda each: f'{each.rate:.4f}')}.")
    sources = dict.fromkeys(f"{_method_text(each)} {each.source}" for each in numbers)
    return [*sentences, f"Papers: {', '.join(sources)}."]


def _by_t(numbers: Sequence[Reported], as_text: Callable[[Reported], str]) -> str:
    groups: dict[int | None, list[str]] = {}
    for each in numbers:
        groups.setdefault(each.T, []).append(f"{_method_text(each)} {as_text(each)}")
    order = sorted(groups, key=lambda T: (T is None, T or 0))
    return "; ".join(
        f"{', '.join(groups[T])} ({'T not reported' if T is None else f'T = {T}'})" for T in order
    )


def _method_text(each: Reported) -> str:
    return each.method if each.neuron == DEFAULT_NEURON else f"{each.method} ({each.neuron})"


def _paper_cell(line: Line | None) -> str:
    return f"{line.published.top1:.2f}" if line and line.published else ""


def _has_paper(column: Column) -> bool:
    return any(line.published for line in column.rows)


def _grid(table: Table) -> TextTable:
    labels = list(dict.fromkeys(line.label for column in table.columns for line in column.rows))
    head, rows = ["loss"], [[label] for label in labels]
    for column in table.columns:
        lines = {line.label: line for line in column.rows}
        head += [f"T = {column.T}", *([PAPER_HEAD] if _has_paper(column) else [])]
        for row in rows:
            line = lines.get(row[0])
            row.append(f"{spread_text(line.top1, 1)} ({line.top1.n})" if line else "")
            row.extend([_paper_cell(line)] if _has_paper(column) else [])
    return TextTable("top-1 % (n)", head, rows)


def _accuracy(column: Column, report: Report) -> tuple[Row, list[Row]]:
    head, baseline = ["loss", "n", "top-1 %"], column.baseline
    head += [PAPER_HEAD] if _has_paper(column) else []
    head += ["val %"] if report.rank_on else []
    equivalence = next(
        (each.equivalence for line in column.rows if (each := line.difference) and each.equivalence), None
    )
    if baseline:
        head += [f"minus {baseline} [{LEVEL_TEXT}]", "p Holm"]
        head += [f"p {_within(equivalence)}"] if equivalence else []
        head += ["verdict"]
    rows = []
    for line in column.rows:
        row = [line.label, str(line.top1.n), spread_text(line.top1, 1)]
        row += [_paper_cell(line)] if _has_paper(column) else []
        row += [spread_text(line.val_top1, 1) if line.val_top1 else ""] if report.rank_on else []
        if baseline:
            row += _difference(line.difference, line.label == baseline, equivalence is not None)
        rows.append(row)
    return head, rows


def _difference(difference: Difference | None, is_baseline: bool, with_equivalence: bool) -> Row:
    if difference is None:
        blank = ["", "", ""] if with_equivalence else ["", ""]
        return [*blank, "baseline" if is_baseline else "no shared seed"]
    equivalence = difference.equivalence
    return [
        interval(difference.mean, difference.low, difference.high),
        p_text(difference.p_holm),
        *([p_text(equivalence.p_holm if equivalence else None)] if with_equivalence else []),
        verdict_text(difference),
    ]


def _within(equivalence: Equivalence) -> str:
    return f"within {equivalence.margin:g}"


def verdict_text(difference: Difference) -> str:
    """The verdict; also equivalence where a significant difference lies within the margin."""
    equivalence = difference.equivalence
    if equivalence is None or equivalence.p_holm >= 1 - LEVEL:
        return difference.verdict
    within = f"equivalent {_within(equivalence)} points"
    return within if difference.verdict == "equivalent" else f"{difference.verdict}, {within}"


def _power(column: Column) -> tuple[Row, list[Row]]:
    rows = [
        [
            line.label,
            str(len(difference.seeds)),
            f"{difference.sd:.1f}",
            f"{power.level:.2g}",
            f"{difference.mean:+.1f}",
            f"{power.detectable:.1f}",
            f">{MAX_SEEDS}" if power.seeds_needed is None else str(power.seeds_needed),
        ]
        for line in column.rows
        if (difference := line.difference) and (power := difference.power)
    ]
    return [
        "loss",
        "pairs",
        "s.d.",
        "p needed",
        f"minus {column.baseline}",
        "detectable",
        "seeds needed",
    ], rows


def _images(column: Column) -> tuple[Row, list[Row]]:
    rows = [
        [
            line.label,
            ", ".join(map(str, resampled.seeds)),
            interval(resampled.mean, resampled.low, resampled.high),
        ]
        for line in column.rows
        if (resampled := line.over_images)
    ]
    return ["loss", "seeds", f"minus {column.baseline} [{LEVEL_TEXT}]"], rows


def _cost(column: Column) -> tuple[Row, list[Row]]:
    on_cpu = {on_cpu for line in column.rows for on_cpu in line.on_cpu}
    kind = "device" if len(on_cpu) > 1 else "CPU" if on_cpu == {True} else "GPU"
    head = ["loss", "rate", "SynOps (k)", "energy µJ", f"{kind}-s a run", "settings"]
    rows = [
        [
            line.label,
            spread_text(line.rate, 3),
            spread_text(_scaled(line.synops, 1e-3), 0),
            spread_text(_scaled(line.energy_mj, 1e3), 3),
            spread_text(line.device_seconds, 0) if line.device_seconds else "",
            f"{line.settings} ({line.settings_split})" if line.settings_split else str(line.settings),
        ]
        for line in column.rows
    ]
    return head, rows


def _scaled(value: Spread, factor: float) -> Spread:
    return Spread(factor * value.mean, None if value.sd is None else factor * value.sd, value.n)


def spread_text(value: Spread, digits: int) -> str:
    """`mean ± sd`; the mean alone at n = 1."""
    return f"{value.mean:,.{digits}f}" + ("" if value.sd is None else f" ± {value.sd:,.{digits}f}")


def interval(mean: float, low: float | None, high: float | None) -> str:
    return f"{mean:+.1f}" if low is None else f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"


def p_text(p: float | None) -> str:
    return "" if p is None else "<0.001" if p < 0.0005 else f"{p:.3f}"
