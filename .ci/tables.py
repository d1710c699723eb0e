"""The recipes of the tables and their results: what is made of them, not written.

    python .ci/tables.py                    rewrite the last lines of every recipe's comment: published numbers, and ours
    python .ci/tables.py --check            exit 1 when that would change a file
    python .ci/tables.py store NAME RUNS    keep the results of the runs of recipe NAME in recipes/results/NAME

`results()` is the README's section of results. Numbers come from snnkd's table of published ones and from recipes/results/.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import statistics
import sys
import textwrap
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from snnkd.catalog.paper_results import PUBLISHED
from snnkd.compare.formats import as_json
from snnkd.compare.report import Report, make_report
from snnkd.recipe import Flags, resolve_stage, resolve_tasks
from snnkd.recipe.shipped import first_comment, shipped_names
from snnkd.recipe.sweep import Tasks
from snnkd.schema.fields import to_plain
from snnkd.schema.run import CompareConfig, StageRecipe

ROOT = Path(__file__).resolve().parent.parent
RECIPES = ROOT / "recipes"
RESULTS = RECIPES / "results"
COMPARED = "compare.json"
MADE = re.compile(r"^# Published.*\n(?:#.*\n)*", re.MULTILINE)
"""The lines of a recipe's comment that are made: they are its last."""
WIDTH = 118


def header(name: str) -> str:
    """What was published for the recipe `name`, and what ours gave, as lines of a comment."""
    said = (
        f"Published (mostly the best test epoch): {published(resolve_tasks(name))}.",
        f"Ours (last epoch): {ours(name)}.",
    )
    return "".join(
        f"{textwrap.fill(each, WIDTH, initial_indent='# ', subsequent_indent='#   ')}\n" for each in said
    )


def published(tasks: Tasks) -> str:
    """The papers' numbers for the losses, data, network and timesteps of a recipe."""
    students = [task.pipeline.distill for task in tasks.all if task.pipeline.distill]
    wanted = {(s.loss.name, s.data.name, s.model.name) for s in students if not _is_part(s.data)}
    steps = {student.model.T for student in students}
    found: dict[str, list[str]] = {}
    for each in PUBLISHED:
        if (
            (each.method, each.data, each.model) in wanted
            and each.top1 is not None
            and (each.T in steps or each.T is None)
        ):
            found.setdefault(each.method, []).append(
                f"{each.top1:.2f} ({f'T = {each.T}' if each.T else 'T not told'})"
            )
    told = [f"{method} {', '.join(values)}" for method, values in found.items()]
    return "; ".join(told) or "nothing is known of these data and this network"


def _is_part(data: Any) -> bool:
    return getattr(data, "classes", None) is not None or getattr(data, "train_per_class", None) is not None


def ours(name: str) -> str:
    """Mean and deviation by T and loss, where results are stored."""
    if not (RESULTS / name / COMPARED).exists():
        return "not run yet"
    found = json.loads((RESULTS / name / COMPARED).read_text())
    told = []
    for table in found["tables"]:
        for column in table["columns"]:
            rows = ", ".join(
                f"{row['label']} {_spread(row['top1'], 1)} (n = {row['top1']['n']})" for row in column["rows"]
            )
            told.append(f"T = {column['T']}: {rows}")
    return "; ".join([*told, "more in README.md"])


def rewritten(name: str) -> str:
    """The recipe's text with its made lines anew; a recipe without such lines stays."""
    text = (RECIPES / f"{name}.yaml").read_text(encoding="utf-8")
    return MADE.sub(lambda _: header(name), text, count=1) if MADE.search(text) else text


def store(name: str, runs: Path) -> None:
    """Keep results, the comparison (with intervals over images where logits were saved), and what heads did."""
    folder = RESULTS / name
    whole = sorted(path for path in runs.iterdir() if (path / "result.json").exists())
    for run in whole:
        check_is_of(name, run)
    students = [path for path in whole if path.name.startswith("distill-")]
    report = make_report(students, CompareConfig(baseline=_baseline(name)))
    folder.mkdir(parents=True, exist_ok=True)
    for run in whole:
        shutil.copy(run / "result.json", folder / f"{run.name}.json")
        if "hta-kl" in run.name:
            shutil.copy(run / "metrics.jsonl", folder / f"{run.name}.metrics.jsonl")
    found = json.loads(as_json(report))
    for row in rows_of(found):
        row["runs"] = [Path(run).name for run in row["runs"]]  # where they lay is nobody's business
    (folder / COMPARED).write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")


def check_is_of(name: str, run: Path) -> None:
    """Exit where a run is no task of the recipe: what stands in its header must be what it gives.

    Other cells, other places and another file of the same images are no other recipe.
    """
    result = json.loads((run / "result.json").read_text())
    words = shlex.split(result["command"])
    settings = [after for word, after in pairwise(words) if word == "--set"]
    other = [
        setting for setting in settings if not setting.startswith(("data.name=", "execution.", "sweep."))
    ]
    stage: Literal["teach", "distill"] = result["stage"]
    if words[1:3] != ["run", name] or other:
        sys.exit(f"{run}: made by {result['command']!r}, which is not `snnkd run {name}` as it stands")
    made = _identity(resolve_stage(str(run / "recipe.yaml"), stage, Flags()))
    asked = [getattr(task.pipeline, stage) for task in resolve_tasks(name, settings).all]
    if made not in [_identity(recipe) for recipe in asked if recipe]:
        sys.exit(f"{run}: is no task of {name} as it stands")


def _identity(recipe: StageRecipe) -> dict[str, Any]:
    """Without where it ran, and the teacher's run."""
    return {key: value for key, value in to_plain(recipe).items() if key not in ("execution", "teacher")}


def rows_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    """All rows of a comparison as JSON."""
    return [row for table in found["tables"] for column in table["columns"] for row in column["rows"]]


def _baseline(name: str) -> str | None:
    compare = resolve_tasks(name).compare
    return compare.baseline if compare else None


def recomputed(name: str) -> Report:
    """The comparison anew from the stored results, without what saved logits told."""
    return make_report([RESULTS / name], CompareConfig(baseline=_baseline(name)))


def studies() -> list[str]:
    """The recipes with stored comparisons."""
    return [name for name in shipped_names() if (RESULTS / name / COMPARED).exists()]


def results() -> str:
    """Every stored comparison: what was run, where, when, and what came out."""
    return "\n\n".join(_study(name) for name in studies())


def _study(name: str) -> str:
    found = json.loads((RESULTS / name / COMPARED).read_text())
    files = [json.loads(path.read_text()) for path in sorted((RESULTS / name).glob("*-s*.json"))]
    blocks = [f"**`{name}`.** {first_comment(name)} {_conditions(files)}"]
    for table in found["tables"]:
        for column in table["columns"]:
            blocks.append("\n".join(_rows(name, column)))
            teacher = f"; the teacher reaches {table['teacher']['top1']:.2f} %" if table["teacher"] else ""
            blocks.append(
                f"T = {column['T']}; {table['images']:,} test images{teacher}. {INTERVALS} {_verdicts(column)}"
            )
    return "\n\n".join(blocks)


INTERVALS = (
    "Means ± sample standard deviation over n seeds. Differences are paired: their first interval is over seeds, by Student's t; the one "
    "over images is of these very networks on other test images, by a bootstrap. p is that of the first, corrected by Holm over the rows."
)


def _verdicts(column: dict[str, Any]) -> str:
    """Which rows differ from the baseline, by the corrected p."""
    told: dict[str, list[str]] = {}
    for row in column["rows"]:
        if row["difference"]:
            told.setdefault(row["difference"]["verdict"], []).append(row["label"])
    said = "; ".join(f"{verdict}: {', '.join(labels)}" for verdict, labels in sorted(told.items()))
    return f"Against {column['baseline']} at p < 0.05: {said}."


def _conditions(files: list[dict[str, Any]]) -> str:
    """Command, epochs, seeds, hardware, versions and dates of stored results."""
    students = [each for each in files if each["stage"] == "distill"]
    # a task's own number is no part of what they share
    command = "`, `".join(sorted({re.sub(r" --task \S+", "", each["command"]) for each in files}))
    machine = "; ".join(sorted({_machine(each["hardware"]) for each in files}))
    versions = "; ".join(
        sorted(
            {
                f"torch {each['versions']['torch']}, spikingjelly {each['versions']['spikingjelly']}"
                for each in files
            }
        )
    )
    (epochs,) = {each["selection"]["epoch"] for each in students}
    taught = sorted({each["selection"]["epoch"] for each in files if each["stage"] == "teach"})
    seeds = ", ".join(map(str, sorted({each["seed"] for each in students})))
    dates = " to ".join(sorted({each["date"] for each in files}))
    minutes = sum(each["seconds"]["train"] + each["seconds"]["eval"] for each in files) / 60
    return (
        f"`{command}`: {len(files)} runs, {minutes:.0f} minutes in all one after the other; students {epochs} epochs, teacher "
        f"{', '.join(map(str, taught))}; seeds {seeds}. {machine}; {versions}; {dates}. The last epoch counts, nothing was selected on "
        "test images."
    )


def _machine(hardware: dict[str, Any]) -> str:
    return str(hardware.get("gpu") or f"{hardware['cpu']}, threads: {hardware['threads']}")


def _rows(name: str, column: dict[str, Any]) -> list[str]:
    base, rows = column["baseline"], column["rows"]
    optional = {
        "over images [95 %]": [_interval(row["over_images"]) for row in rows],
        "w_head": [_heads(name, row, "w_head") for row in rows],
        "empty heads": [_heads(name, row, "head_empty") for row in rows],
        "published\\*": [f"{row['published']['top1']:.2f}" if row["published"] else "" for row in rows],
    }
    columns = {
        "loss": [row["label"] for row in rows],
        "n": [str(row["top1"]["n"]) for row in rows],
        "top-1 %": [_spread(row["top1"], 1) for row in rows],
        f"minus {base} [95 %]": [_interval(row["difference"]) for row in rows],
        "p Holm": [f"{row['difference']['p_holm']:.3f}" if row["difference"] else "" for row in rows],
        "rate": [_spread(row["rate"], 3) for row in rows],
        "µJ an image": [_spread({**row["energy_mj"], **_scaled(row["energy_mj"], 1000)}, 2) for row in rows],
        **{head: cells for head, cells in optional.items() if any(cells)},
    }
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return lines + [f"| {' | '.join(cells)} |" for cells in zip(*columns.values(), strict=True)]


def _heads(name: str, row: dict[str, Any], key: str) -> str:
    """The mean over epochs and seeds of what HTA-KL logged of its heads."""
    files = [RESULTS / name / f"{Path(run).name}.metrics.jsonl" for run in row["runs"]]
    if row["loss"] != "hta-kl" or not all(path.exists() for path in files):
        return ""
    values = [json.loads(line)[key] for path in files for line in path.read_text().splitlines()]
    return f"{statistics.fmean(values):.3f}"


def _scaled(found: dict[str, Any], factor: float) -> dict[str, Any]:
    return {"mean": factor * found["mean"], "sd": None if found["sd"] is None else factor * found["sd"]}


def _spread(found: dict[str, Any], digits: int) -> str:
    return f"{found['mean']:.{digits}f}" + ("" if found["sd"] is None else f" ± {found['sd']:.{digits}f}")


def _interval(found: dict[str, Any] | None) -> str:
    if not found:
        return ""
    return f"{found['mean']:+.1f}" + (
        "" if found["low"] is None else f" [{found['low']:+.1f}, {found['high']:+.1f}]"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    parser.add_argument("store", nargs="?", choices=["store"])
    parser.add_argument("name", nargs="?", choices=shipped_names())
    parser.add_argument("runs", nargs="?", type=Path)
    asked = parser.parse_args()
    if asked.store:
        if asked.runs is None:
            parser.error("store takes NAME and RUNS")
        store(asked.name, asked.runs)
    changed = [
        name
        for name in shipped_names()
        if rewritten(name) != (RECIPES / f"{name}.yaml").read_text(encoding="utf-8")
    ]
    if asked.check and changed:
        sys.exit(f"{', '.join(changed)}: not what .ci/tables.py makes; run it")
    for name in changed:
        (RECIPES / f"{name}.yaml").write_text(rewritten(name), encoding="utf-8")


if __name__ == "__main__":
    main()
