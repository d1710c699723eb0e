"""Results as text for the terminal."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snnkd.recipe.data_section import data_label
from snnkd.runs.folder import last_part
from snnkd.runs.status import CONTINUES, Status

if TYPE_CHECKING:  # measuring imports torch
    from snnkd.measure.result import ResultDict

GAP = 2
"""Spaces between columns."""
MIN_RUN_WIDTH = 11
"""Columns that the hash and seed of a run's name take, with the sign of what is cut."""


def columns(rows: Sequence[Sequence[str]], left: int = 0) -> str:
    """Align rows in columns, the first `left` columns to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append((" " * GAP).join(cells).rstrip())
    return "\n".join(lines)


def fitted(text: str) -> str:
    """Truncate each line to the width of the terminal, if stdout is one."""
    if not sys.stdout.isatty():
        return text
    width = shutil.get_terminal_size().columns
    return "\n".join(line if len(line) <= width else line[: width - 1] + "…" for line in text.splitlines())


def status_text(runs: Sequence[Status], width: int) -> str:
    """A row per run within `width` columns; below, why unfinished runs ended and what continues them."""
    rows = [["state", "loss", "T", "seed", "epoch", "age", "val %", "test %", "run"]]
    rows += [
        [
            run.state,
            _settings_label(run),
            _or_dash(run.T),
            _or_dash(run.seed),
            f"{_or_dash(run.epoch)}/{_or_dash(run.epochs)}",
            "-" if run.age_s is None else age(run.age_s),
            "-" if run.val_top1 is None else f"{run.val_top1:.2f}",
            "-" if run.test_top1 is None else f"{run.test_top1:.2f}",
            " ".join([str(run.folder), *(f"#{tag}" for tag in run.tags)]),
        ]
        for run in runs
    ]
    return "\n".join([_fitted_rows(rows, width), *_remedies(runs)])


def _settings_label(run: Status) -> str:
    """The loss with its options, and the values of the keys that differ between the listed runs."""
    loss = run.loss or ("(teacher)" if run.stage == "teach" else "-")
    pairs = [
        f"{'code' if key.startswith('code.') else last_part(key)}={value}"
        for key, value in run.settings.items()
        if not key.startswith("loss.")
    ]
    return " ".join([loss, *pairs])


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)


def age(seconds: int) -> str:
    """Seconds in the largest unit that has at least two of it: `90s`, `50min`, `36h`, `5d`."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _fitted_rows(rows: Sequence[Sequence[str]], width: int) -> str:
    """Rows in columns, of which the second, a label, and the last, a path, are cut to fit `width`."""
    longest = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    spare = width - longest[0] - sum(longest[2:-1]) - GAP * (len(longest) - 1)
    label = max(len(rows[0][1]), min(longest[1], spare - min(longest[-1], MIN_RUN_WIDTH)))
    path = max(MIN_RUN_WIDTH, spare - label)
    head = columns([[row[0], _start(row[1], label), *row[2:-1]] for row in rows], left=2).splitlines()
    return "\n".join(f"{line}{' ' * GAP}{_end(row[-1], path)}" for line, row in zip(head, rows, strict=True))


def _start(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _end(text: str, width: int) -> str:
    return text if len(text) <= width else f"…{text[len(text) - width + 1 :]}"


def _remedies(runs: Sequence[Status]) -> list[str]:
    """Lines on runs that are not done: their notes, and below them the command that continues them."""
    by_command: dict[str | None, dict[str, list[Status]]] = {}
    for run in runs:
        if run.state != "done":
            notes = by_command.setdefault(run.command, {})
            notes.setdefault(run.note.removesuffix(CONTINUES), []).append(run)
    lines = []
    for command, notes in by_command.items():
        lines.append("")
        for note, same in notes.items():
            lines += [_place(run) for run in same]
            lines += textwrap.wrap(note, 80, initial_indent="  ", subsequent_indent="  ")
        lines += [f"continue with: {command}"] if command else []
    return lines


def _place(run: Status) -> str:
    """The run's folder, and its last job and node; of a running one the note has them."""
    job = f" (job {run.job} on {run.host})" if run.job and run.state != "running" else ""
    return f"{run.folder}{job}"


def curve_text(result: ResultDict) -> str:
    """The timestep curve of one result, its rate, early exit, teacher and energy."""
    data = data_label(result["data"], result.get("part"))
    lines = [f"{result['run']}: {data} {result['split']}, {result['images']} images"]
    lines.append(columns(curve_rows(result)))
    balanced, top1 = result["balanced_top1"], result["curve"][-1]["top1"]
    if f"{balanced:.2f}" != f"{top1:.2f}":
        lines.append(f"balanced accuracy {balanced:.2f} % (mean over the classes)")
    if result["rate"] is not None:
        lines.append(f"rate {result['rate']:.4f} spikes per neuron and timestep")
    if result["dynamic"]:
        rows = [
            (f"{entry['threshold']:.2f}", f"{entry['timesteps']:.2f}", f"{entry['top1']:.2f}")
            for entry in result["dynamic"]
        ]
        lines += ["early exit:", columns([("confidence", "mean t", "top-1 %"), *rows])]
    if result["teacher"]:
        teacher = result["teacher"]
        lines.append(f"teacher {teacher['top1']:.2f} %, {1000 * teacher['energy_mj']:.3f} µJ")
    if result["energy_note"]:
        lines += textwrap.wrap(result["energy_note"], 80)
    return "\n".join(lines)


def curve_rows(result: ResultDict) -> list[list[str]]:
    """The timestep curve under a header row, of an ANN without timesteps; `-` for what does not apply."""
    rows = [["t", "top-1 %", "top-5 %", "NLL", "ECE", "SynOps", "energy µJ"]]
    for entry in result["curve"]:
        rows.append(
            [
                str(entry["t"]),
                f"{entry['top1']:.2f}",
                "-" if entry["top5"] is None else f"{entry['top5']:.2f}",
                f"{entry['nll']:.3f}",
                f"{entry['ece']:.3f}",
                "-" if entry["synops"] is None else f"{entry['synops']:,.0f}",
                f"{1000 * entry['energy_mj']:.3f}",
            ]
        )
    return rows if result["trained_T"] is not None else [row[1:] for row in rows]


def prediction_text(predictions: Sequence[dict[str, Any]]) -> str:
    """A row per picture; `-` where the network was never sure."""
    rows = [("picture", "class", "probability", "sure at t")]
    for each in predictions:
        name = str(each["class"] if each["name"] is None else each["name"])
        rows.append((each["picture"], name, f"{each['probability']:.3f}", str(each["sure_at"] or "-")))
    return columns(rows, left=2)


def export_line(exported: dict[str, Any]) -> str:
    """Agreement of an export with its network."""
    line = f"agreement {exported['agreement']:.4f} on {exported['images']} images"
    if "agreement_unfolded" in exported:
        line += f", {exported['agreement_unfolded']:.4f} with norms unfolded"
    return f"{line}, largest difference {exported['max_difference']:g}"


def preflight_lines(stages: Sequence[dict[str, Any]]) -> list[str]:
    """`snnkd check`'s facts: two lines per stage on cost, one each on its data and on a missing teacher."""
    lines = []
    for stage in stages:
        name, data = stage["stage"], f"data {stage['data']}"
        if "parameters" in stage:
            per = "image and timestep" if "T" in stage else "image"
            size = f"{stage['parameters']:,} parameters, {stage['macs']:,} MACs per {per}"
            lines.append(f"{name}: {stage['model']}, {size}")
            memory = f"about {stage['memory_bytes'] / 2**20:,.0f} MiB on a CPU"
            lines.append(f"{name}: {stage['steps']:,} steps, {memory}")
        if "minutes" in stage:
            each = f"{stage['seconds_per_step']:.3f} s a step, without evaluation"
            lines.append(f"{name}: about {_hours(stage['minutes'])} of training here ({each})")
        if stage["data_present"]:
            lines.append(f"{name}: {data} is present ({stage['train_images']:,} training images)")
        else:
            lines.append(f"{name}: {data} is missing: {stage['missing']}")
        if stage.get("teacher_present") is False:
            teacher = stage["teacher"]
            missing = f"teacher {teacher} is missing" if teacher else "no finished teacher of this data"
            lines.append(f"{name}: {missing}; run `snnkd teach` first")
    return lines


def _hours(minutes: float) -> str:
    return f"{minutes:.1f} min" if minutes < 100 else f"{minutes / 60:.1f} h"


def description_rows(description: dict[str, Any]) -> list[tuple[str, str]]:
    """`snnkd data`'s description as rows of name and value; rows without a value are omitted."""
    channels, *sides = description["shape"]
    colour = {1: "grey", 2: "2 polarities", 3: "RGB"}.get(channels, f"{channels} channels")
    frames = f", {description['frames']} frames" if description["frames"] else ""
    mapped = ", memory-mapped" if description["mapped"] else ""
    location = _common_path(description["files"])
    rows = [
        ("name", data_label(description["name"], description["part"])),
        ("images", ", ".join(f"{count:,} {split}" for split, count in description["images"].items())),
        ("shape", f"{'x'.join(map(str, sides))} {colour}{frames}"),
        ("classes", _named_classes(description)),
        ("sha256", description["sha256"]),
        ("files", f"{location} ({description['bytes']:,} bytes{mapped})" if location else ""),
        ("test split", (description["rule"] or "").removeprefix("test: ")),
        ("source", description["source"] or ""),
        ("licence", description["licence"] or ""),
    ]
    return [(name, value) for name, value in rows if value]


def _named_classes(description: dict[str, Any]) -> str:
    names = description["class_names"] or []
    more = ", ..." if len(names) > 20 else ""
    return f"{description['classes']}{': ' if names else ''}{', '.join(names[:20])}{more}"


def _common_path(files: list[str]) -> str:
    """The only file, else the folders of the files."""
    return files[0] if len(files) == 1 else ", ".join(sorted({str(Path(file).parent) for file in files}))


def bench_lines(result: dict[str, Any]) -> list[str]:
    """`snnkd bench`'s result, at most 80 columns wide."""
    hardware = result["hardware"]
    lines = [
        f"{result['model']['name']}, T = {result['T']}, batch {result['batch_size']}, "
        f"{result['data']}, loss {result['loss']}",
        f"{hardware.get('gpu') or hardware['cpu']}, {hardware['threads']} threads, "
        f"torch {result['versions']['torch']}, "
        f"compile {result['compile']}, {'bf16' if result['bf16'] else 'float32'}",
        f"{result['images_per_s']:.1f} images/s, "
        f"{_quartiles(result['step_ms'])} ms per step (quartiles, {result['rounds']} rounds)",
        "",
        "part            ms   share",
    ]
    total = sum(part["median"] for part in result["parts"].values())
    lines += [
        f"{name:<10} {part['median']:>7.1f}  {100 * part['median'] / total:>5.1f} %"
        for name, part in result["parts"].items()
    ]
    if result["efficiency"]:
        gflops = {key: result["efficiency"][f"{key}_gflops"]["median"] for key in ("convolution", "matmul")}
        lines += [
            "",
            f"convolutions {gflops['convolution']:.0f} GFLOP/s, "
            f"{_quartiles(result['efficiency']['ratio'])} of a matrix product",
        ]
    lines += ["", f"peak memory {result['peak_memory_bytes'] / 2**20:,.0f} MiB"]
    overhead = _quartiles(result["spiking_overhead"])
    lines += [f"spiking overhead {overhead} (student / ANN on T x B images)"]
    if "baseline" in result:
        base = result["baseline"]
        speed = f"snnkd is {_quartiles(base['ratio'])} times as fast"
        lines += ["", f"baseline loop {base['images_per_s']:.1f} images/s; {speed}"]
    if "ablations" in result:
        lines += ["", "images/s   speedup (quartiles)      cumulative change"]
        lines += [
            f"{row['images_per_s']:>8.1f}   {_quartiles(row['speedup']):<22}   {row['change']}"
            for row in result["ablations"]
        ]
    return lines


def _quartiles(value: dict[str, float]) -> str:
    return f"{value['median']:.2f} ({value['q1']:.2f} to {value['q3']:.2f})"
