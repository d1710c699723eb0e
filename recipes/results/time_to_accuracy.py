"""Validation accuracy of students against the CPU time of their training, their teacher's included.

    python recipes/results/time_to_accuracy.py LABEL=STUDENT LABEL=TEACHER,STUDENT ...

Reads finished runs whose recipe holds out validation images; the same LABEL again is another seed. Stores the
curves in cifar100-fast/time.json and draws them in cifar100-fast/time.png. CPU time, since wall time on a
busy machine says nothing. The first label is what the others' times are divided by.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from snnkd.files import write_atomic
from snnkd.runs.metrics import read_metrics

FOLDER = Path(__file__).resolve().parent / "cifar100-fast"
TARGETS = (50, 55, 60)
"""Validation accuracy in percent."""


def read_curve(label: str, folders: list[Path]) -> dict[str, Any]:
    """The curve of the last of `folders`, a student, that starts where the training of the others ended."""
    student = folders[-1]
    results = [json.loads((folder / "result.json").read_text()) for folder in folders]
    before = sum(result["seconds"]["train_cpu"] for result in results[:-1])
    rows = read_metrics(student)
    if not rows or "val_top1" not in rows[0]:
        raise SystemExit(f"{student}: no validation accuracy; train with --set data.val_fraction=0.1")
    return {
        "label": label,
        "seed": results[-1]["seed"],
        "teacher_cpu_seconds": before,
        "cpu_seconds": [round(before + row["cpu_seconds"], 1) for row in rows],
        "val_top1": [row["val_top1"] for row in rows],
        **{key: results[-1][key] for key in ("command", "date", "hardware", "versions")},
    }


def time_to(curve: dict[str, Any], target: float) -> float | None:
    """CPU seconds until an epoch ended with at least `target` percent; None if none did."""
    reached = (s for s, top1 in zip(curve["cpu_seconds"], curve["val_top1"], strict=True) if top1 >= target)
    return next(reached, None)


def table() -> str:
    """Render the CPU minutes to each target, medians over seeds, and the ratios to those of the first row."""
    path = FOLDER / "time.json"
    return render_table(json.loads(path.read_text()) if path.exists() else [])


def render_table(curves: list[dict[str, Any]]) -> str:
    if not curves:
        return "Not run yet."
    groups: dict[str, list[dict[str, Any]]] = {}
    for curve in curves:
        groups.setdefault(curve["label"], []).append(curve)
    rows = [
        f"| | n | last, val % | all, CPU min | {' | '.join(f'{t} %, CPU min' for t in TARGETS)} |",
        "|---|---|---|---|" + "---|" * len(TARGETS),
    ]
    first = [_median_time(next(iter(groups.values())), target) for target in TARGETS]
    for label, group in groups.items():
        times = [_median_time(group, target) for target in TARGETS]
        cells = [_cell(time, base) for time, base in zip(times, first, strict=True)]
        last = statistics.fmean(curve["val_top1"][-1] for curve in group)
        total = statistics.median(curve["cpu_seconds"][-1] for curve in group) / 60
        rows.append(f"| {label} | {len(group)} | {last:.1f} | {total:.0f} | {' | '.join(cells)} |")
    hardware = sorted({curve["hardware"]["cpu"] for curve in curves})
    return "\n".join([*rows, "", f"On: {', '.join(hardware)}."])


def _median_time(group: list[dict[str, Any]], target: float) -> float | None:
    times = [time for curve in group if (time := time_to(curve, target)) is not None]
    return statistics.median(times) if len(times) == len(group) else None


def _cell(seconds: float | None, base: float | None) -> str:
    if seconds is None:
        return "not reached"
    return f"{seconds / 60:.0f}" if base is None else f"{seconds / 60:.0f} ({seconds / base:.2f})"


def draw(curves: list[dict[str, Any]], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4))
    labels = list(dict.fromkeys(curve["label"] for curve in curves))
    for curve in curves:
        i = labels.index(curve["label"])
        again = any(line.get_label() == curve["label"] for line in axes.lines)
        minutes = [seconds / 60 for seconds in curve["cpu_seconds"]]
        name = "_" if again else curve["label"]
        axes.plot(minutes, curve["val_top1"], marker="o", ms=3, color=f"C{i}", label=name)
    axes.set_xscale("log")
    axes.set_xlabel("CPU minutes of training, the teacher's included")
    axes.set_ylabel("validation accuracy, %")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", metavar="LABEL=[TEACHER,]STUDENT")
    curves = []
    for word in parser.parse_args().runs:
        label, _, folders = word.partition("=")
        curves.append(read_curve(label, [Path(folder) for folder in folders.split(",")]))
    FOLDER.mkdir(exist_ok=True)
    write_atomic(FOLDER / "time.json", json.dumps(curves, indent=1).encode() + b"\n")
    draw(curves, FOLDER / "time.png")
    print(render_table(curves))


if __name__ == "__main__":
    main()
