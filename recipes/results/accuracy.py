"""Accuracy tables from the stored results of the glyphs recipe: `glyphs` and `glyphs-losses`."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from snnkd.compare.statistics import Difference, paired
from snnkd.recipe.loss_section import loss_label

RESULTS = Path(__file__).resolve().parent
GLYPHS = RESULTS / "glyphs"
LOSSES = RESULTS / "glyphs-losses"


def load_results(folder: Path, pattern: str) -> list[dict[str, Any]]:
    """Load the JSON files of a folder in the order of their names."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob(pattern))]


def glyphs_students() -> dict[tuple[str, int], list[dict[str, Any]]]:
    """Group the stored students of the default recipe by loss label and epochs, direct training first."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for result in load_results(GLYPHS, "distill-*.json"):
        groups.setdefault((loss_label(result["loss"]), result["selection"]["epoch"]), []).append(result)
    return dict(sorted(groups.items(), key=lambda item: (item[0][0] != "none", item[0][1], item[0][0])))


def mean_and_sd(values: list[float], digits: int) -> str:
    """Format `mean ± sample standard deviation`; the mean alone for one value."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def glyphs_table() -> str:
    """Render the test accuracy of the default recipe's students at each t."""
    rows = [
        "| loss | epochs | n | t = 1 | t = 2 | t = 4 | rate | µJ an image |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (loss, epochs), results in glyphs_students().items():
        top1 = " | ".join(mean_and_sd([r["curve"][t - 1]["top1"] for r in results], 1) for t in (1, 2, 4))
        rate = mean_and_sd([r["rate"] for r in results], 3)
        energy = mean_and_sd([1000 * r["curve"][-1]["energy_mj"] for r in results], 2)
        rows.append(f"| {loss} | {epochs} | {len(results)} | {top1} | {rate} | {energy} |")
    (teacher,) = load_results(GLYPHS, "teach-*.json")
    (point,) = teacher["curve"]
    epochs, top1, energy = teacher["selection"]["epoch"], point["top1"], 1000 * point["energy_mj"]
    rows.append(f"| (teacher) | {epochs} | 1 | {top1:.1f} | | | | {energy:.2f} |")
    return "\n".join(rows)


def glyphs_gaps() -> str:
    """Say what distillation adds at equal epochs, seed by seed, and what the longest runs reach."""
    top1 = {
        key: {r["seed"]: r["curve"][-1]["top1"] for r in results}
        for key, results in glyphs_students().items()
    }
    distilled, direct = top1["hta-kl", 16], top1["none", 16]
    longest = max(epochs for loss, epochs in top1 if loss == "none")
    long_direct = top1["none", longest]
    text = (
        f"At the same 16 epochs HTA-KL is {_differences(distilled, direct)} points above direct training "
        f"on seeds {', '.join(map(str, sorted(distilled)))}. With {longest} epochs direct training reaches "
        f"{mean_and_sd(list(long_direct.values()), 1)} %, {_differences(long_direct, distilled)} points "
        "against HTA-KL's 16 epochs on the same seeds"
    )
    if ("hta-kl", longest) in top1:
        long_distilled = list(top1["hta-kl", longest].values())
        text += (
            f"; HTA-KL with {longest} epochs reaches {mean_and_sd(long_distilled, 1)} % "
            f"(n = {len(long_distilled)})"
        )
    return text + f". More than {longest} epochs were not run."


def _differences(a: dict[int, float], b: dict[int, float]) -> str:
    return ", ".join(f"{a[seed] - b[seed]:+.1f}" for seed in sorted(a.keys() & b.keys()))


def compared_students() -> dict[str, dict[int, dict[str, Any]]]:
    """Group the students of the comparison by loss label and seed; they share teacher, epochs and T."""
    students: dict[str, dict[int, dict[str, Any]]] = {}
    for result in load_results(LOSSES, "distill-*.json"):
        students.setdefault(loss_label(result["loss"]), {})[result["seed"]] = result
    (_,) = {r["teacher"]["sha256"] for runs in students.values() for r in runs.values() if r["teacher"]}
    (_,) = {(r["selection"]["epoch"], r["trained_T"]) for runs in students.values() for r in runs.values()}
    return {name: students[name] for name in _step_times()}


def _step_times() -> dict[str, Any]:
    steps: dict[str, Any] = json.loads((LOSSES / "steps.json").read_text())["losses"]
    return steps


def paired_difference(a: dict[int, dict[str, Any]], b: dict[int, dict[str, Any]]) -> Difference:
    """Compute a - b in top-1 at the last timestep, paired by seed."""
    top1 = [{seed: r["curve"][-1]["top1"] for seed, r in runs.items()} for runs in (a, b)]
    difference = paired(*top1)
    assert difference is not None
    return difference


def comparison_table() -> str:
    """Render the losses at one T under one recipe."""
    students, steps = compared_students(), _step_times()
    rows = [
        "| loss | n | top-1 % at t = 2 | minus kl (95 %) | rate | time of a step | w_head | empty heads |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, by_seed in students.items():
        results = list(by_seed.values())
        gap = paired_difference(by_seed, students["kl"])
        # kl minus itself has no interval
        interval = "" if gap.high is None else f"{gap.mean:+.1f} ± {gap.high - gap.mean:.1f}"
        heads = [_head_means(result["run"]) for result in results] if name.startswith("hta-kl") else []
        cells = [
            name,
            str(len(results)),
            mean_and_sd([r["curve"][-1]["top1"] for r in results], 1),
            interval,
            mean_and_sd([r["rate"] for r in results], 3),
            f"{steps[name]['ratio']['median']:.2f}",
            *(
                f"{statistics.fmean(h[key] for h in heads):.3f}" if heads else ""
                for key in ("w_head", "head_empty")
            ),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _head_means(run: str) -> dict[str, float]:
    """Average over the epochs what a run logged of its heads."""
    lines = (LOSSES / f"{Path(run).name}.metrics.jsonl").read_text().splitlines()
    epochs = [json.loads(line) for line in lines]
    return {key: statistics.fmean(epoch[key] for epoch in epochs) for key in ("w_head", "head_empty")}


def glyphs_conditions() -> str:
    return _conditions(load_results(GLYPHS, "*.json"))


def comparison_conditions() -> str:
    return _conditions(load_results(LOSSES, "distill-*.json"))


def _conditions(results: list[dict[str, Any]]) -> str:
    """Name hardware, versions and data of the results, which must all be the same."""
    conditions = {
        f"{r['hardware']['cpu']}, threads: {r['hardware']['threads']}; torch {r['versions']['torch']}, "
        f"spikingjelly {r['versions']['spikingjelly']}, Pillow {r['versions']['pillow']}, matplotlib "
        f"{r['versions']['matplotlib']}; {r['images']} test images, data sha256 {r['data_sha256'][:12]}; "
        "last epoch, nothing selected on test images"
        for r in results
    }
    (only,) = conditions
    return only + "."
