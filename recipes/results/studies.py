"""Store the results of shipped recipes, and render them: tables, and the last lines of a recipe's comment.

    python recipes/results/studies.py NAME RUNS    store the runs of recipe NAME in recipes/results/NAME

Run render.py afterwards.
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
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

# for the module of this folder, also when a test imports this file by its path
sys.path.insert(0, str(Path(__file__).resolve().parent))
import searches

from snnkd.catalog.paper_results import PAPER_RESULTS
from snnkd.compare.formats import as_json
from snnkd.compare.report import Report, make_report
from snnkd.errors import UsageError
from snnkd.recipe import resolve_stage, resolve_tasks
from snnkd.recipe.shipped import first_comment, shipped_names
from snnkd.recipe.sweep import Tasks
from snnkd.schema.fields import to_plain
from snnkd.schema.run import CompareConfig, StageRecipe

RESULTS = Path(__file__).resolve().parent
HEADLINE = "cifar100-fast-small"
"""The study that the README shows."""
RECIPES = RESULTS.parent
COMPARISON = "compare.json"
HEADER = re.compile(r"^# Published.*\n(?:#.*\n)*", re.MULTILINE)
"""The generated lines of a recipe's opening comment: its last."""
WIDTH = 108
INTERVALS = (
    "Means ± sample standard deviation over n seeds. Differences are paired by seed; their interval is by "
    "Student's t, p corrected by Holm over the rows."
)
OVER_IMAGES = "The interval over images is a bootstrap of other test images for these trained networks."


def recipe_file(name: str) -> Path:
    return RECIPES / f"{name}.yaml"


def with_header(name: str) -> str:
    """Return the recipe's text with its generated lines rendered again, if it has any."""
    text = recipe_file(name).read_text(encoding="utf-8")
    return HEADER.sub(lambda _: header(name), text, count=1) if HEADER.search(text) else text


def header(name: str) -> str:
    """Return what was published for the recipe `name`, and its stored results, as lines of a comment."""
    sentences = (
        f"Published (mostly the best test epoch): {published(resolve_tasks(name))}.",
        f"Ours (last epoch): {stored(name)}.",
    )
    return "".join(
        f"{textwrap.fill(text, WIDTH, initial_indent='# ', subsequent_indent='#   ')}\n" for text in sentences
    )


def published(tasks: Tasks) -> str:
    """Return the papers' numbers for the losses, data, network and timesteps of a recipe."""
    students = [task.pipeline.distill for task in tasks.all if task.pipeline.distill]
    wanted = {(s.loss.name, s.data.name, s.model.name) for s in students if not _is_subset(s.data)}
    timesteps = {student.model.T for student in students} | {None}
    by_method: dict[str, list[str]] = {}
    for row in PAPER_RESULTS:
        if (row.method, row.data, row.model) in wanted and row.top1 is not None and row.T in timesteps:
            T = f"T = {row.T}" if row.T else "T not reported"
            by_method.setdefault(row.method, []).append(f"{row.top1:.2f} ({T})")
    numbers = [f"{method} {', '.join(values)}" for method, values in by_method.items()]
    return "; ".join(numbers) or "no numbers known for these data and this network"


def _is_subset(data: Any) -> bool:
    return getattr(data, "classes", None) is not None or getattr(data, "train_per_class", None) is not None


def stored(name: str) -> str:
    """Return mean and standard deviation by T and loss, or a search's best, if results are stored."""
    if searches.is_stored(name):
        return f"{searches.best(name)}; more in recipes/README.md"
    if name not in studies():
        return "not run yet"
    columns = [column for table in _comparison(name)["tables"] for column in table["columns"]]
    texts = []
    for column in columns:
        rows = [
            f"{row['label']} {_mean_and_sd(row['top1'], 1)} (n = {row['top1']['n']})"
            for row in column["rows"]
        ]
        texts.append(f"T = {column['T']}: {', '.join(rows)}")
    return "; ".join([*texts, "more in recipes/README.md"])


def _comparison(name: str) -> dict[str, Any]:
    comparison: dict[str, Any] = json.loads((RESULTS / name / COMPARISON).read_text())
    return comparison


def store(name: str, runs: Path) -> None:
    """Store results, comparison (with intervals over images if logits were saved) and HTA-KL's metrics.

    Results that are stored already stay: a study may be stored in parts, then without those intervals.
    """
    folder = RESULTS / name
    finished = sorted(path for path in runs.iterdir() if (path / "result.json").exists())
    for run in finished:
        check_is_of(name, run)
    folder.mkdir(parents=True, exist_ok=True)
    for run in finished:
        shutil.copy(run / "result.json", folder / f"{run.name}.json")
        if "hta-kl" in run.name:
            shutil.copy(run / "metrics.jsonl", folder / f"{run.name}.metrics.jsonl")
    students = [path for path in finished if path.name.startswith("distill-")]
    all_given = len(students) == len(list(folder.glob("distill-*.json")))
    report = _report(name, students) if all_given else recomputed(name)
    comparison = json.loads(as_json(report))
    for row in rows_of(comparison):
        row["runs"] = [Path(run).name.removesuffix(".json") for run in row["runs"]]  # paths are not stored
    (folder / COMPARISON).write_text(json.dumps(comparison, indent=2, ensure_ascii=False) + "\n")


def check_is_of(name: str, run: Path) -> None:
    """Exit if a run is no task of the recipe, since the recipe's header shows what the recipe gives.

    Other sweep cells, other places and another file of the same images are the same recipe.
    """
    result = json.loads((run / "result.json").read_text())
    words = shlex.split(result["command"])
    settings = [value for word, value in pairwise(words) if word == "--set"]
    allowed = ("data.name=", "execution.", "sweep.")
    stage: Literal["teach", "distill"] = result["stage"]
    if words[1:3] != ["run", name] or not all(setting.startswith(allowed) for setting in settings):
        sys.exit(f"{run}: result of {result['command']!r}, not of `snnkd run {name}`")
    recipe = _identity(resolve_stage(str(run / "recipe.yaml"), stage))
    tasks = [getattr(task.pipeline, stage) for task in resolve_tasks(name, settings).all]
    if recipe not in [_identity(task) for task in tasks if task]:
        sys.exit(f"{run}: not a task of {name} as the recipe is now")


def _identity(recipe: StageRecipe) -> dict[str, Any]:
    """The recipe as plain values without where it ran, the teacher's run, and folders of data."""
    values = {key: value for key, value in to_plain(recipe).items() if key not in ("execution", "teacher")}
    name = re.sub(r":.*/", ":", values["data"]["name"])
    return values | {"data": values["data"] | {"name": name}}


def rows_of(comparison: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all rows of a comparison."""
    return [row for table in comparison["tables"] for column in table["columns"] for row in column["rows"]]


def _baseline(name: str) -> str | None:
    compare = resolve_tasks(name).compare
    return compare.baseline if compare else None


def recomputed(name: str) -> Report:
    """Compute the comparison again from the stored results, without the intervals that need logits."""
    return _report(name, [RESULTS / name])


def _report(name: str, places: list[Path]) -> Report:
    """The comparison with the recipe's baseline, or without one until a run of it is there."""
    try:
        return make_report(places, CompareConfig(baseline=_baseline(name)))
    except UsageError:
        return make_report(places, CompareConfig(baseline=None))


def studies() -> list[str]:
    """Return the recipes with stored comparisons."""
    return [name for name in shipped_names() if (RESULTS / name / COMPARISON).exists()]


def results() -> str:
    """Render every stored comparison with its conditions."""
    return "\n\n".join(_study(name) for name in studies())


def headline() -> str:
    """Render the tables of the README's study."""
    return "\n\n".join([*_tables(HEADLINE), conditions(_results(HEADLINE))])


def _study(name: str) -> str:
    about = f"**`{name}`.** {first_comment(name)} {conditions(_results(name))}"
    return "\n\n".join([about, *_tables(name)])


def _results(name: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((RESULTS / name).glob("*-s*.json"))]


def _tables(name: str) -> Iterator[str]:
    """Each table of a study and its caption."""
    for table in _comparison(name)["tables"]:
        for column in table["columns"]:
            yield "\n".join(_rows(name, column))
            teacher = f"; the teacher reaches {table['teacher']['top1']:.2f} %" if table["teacher"] else ""
            caption = f"T = {column['T']}; {table['images']:,} test images{teacher}."
            over_images = OVER_IMAGES if any(row["over_images"] for row in column["rows"]) else ""
            yield " ".join(filter(None, (caption, INTERVALS, over_images, _verdicts(column))))


def _verdicts(column: dict[str, Any]) -> str:
    """Say which rows differ from the baseline, by the corrected p."""
    labels: dict[str, list[str]] = {}
    for row in column["rows"]:
        if row["difference"]:
            labels.setdefault(row["difference"]["verdict"], []).append(row["label"])
    verdicts = "; ".join(f"{verdict}: {', '.join(names)}" for verdict, names in sorted(labels.items()))
    return f"Against {column['baseline']} at p < 0.05: {verdicts}." if verdicts else ""


def conditions(files: list[dict[str, Any]]) -> str:
    """Name command, epochs, seeds, hardware, versions and dates of stored results."""
    students = [result for result in files if result["stage"] == "distill"]
    # tasks share the command but for their number
    commands = "`, `".join(sorted({re.sub(r" --task \S+", "", result["command"]) for result in files}))
    machines = "; ".join(sorted({_machine(result["hardware"]) for result in files}))
    versions = "; ".join(
        sorted(
            {f"torch {r['versions']['torch']}, spikingjelly {r['versions']['spikingjelly']}" for r in files}
        )
    )
    (epochs,) = {result["selection"]["epoch"] for result in students}
    teachers = sorted({result["selection"]["epoch"] for result in files if result["stage"] == "teach"})
    seeds = ", ".join(map(str, sorted({result["seed"] for result in students})))
    dates = " to ".join(sorted({result["date"] for result in files}))
    minutes = sum(result["seconds"]["train"] + result["seconds"]["eval"] for result in files) / 60
    return (
        f"`{commands}`: {len(files)} runs, {minutes:.0f} minutes in all one after the other; students "
        f"{epochs} epochs, teacher {', '.join(map(str, teachers))}; seeds {seeds}. {machines}; {versions}; "
        f"{dates}. The last epoch counts, nothing was selected on test images."
    )


def _machine(hardware: dict[str, Any]) -> str:
    return str(hardware.get("gpu") or f"{hardware['cpu']}, threads: {hardware['threads']}")


def _rows(name: str, column: dict[str, Any]) -> list[str]:
    base, rows = column["baseline"], column["rows"]
    optional = {
        "over images [95 %]": [_interval(row["over_images"]) for row in rows],
        "w_head": [_head_mean(name, row, "w_head") for row in rows],
        "empty heads": [_head_mean(name, row, "head_empty") for row in rows],
        "published\\*": [f"{row['published']['top1']:.2f}" if row["published"] else "" for row in rows],
    }
    columns = {
        "loss": [row["label"] for row in rows],
        "n": [str(row["top1"]["n"]) for row in rows],
        "top-1 %": [_mean_and_sd(row["top1"], 1) for row in rows],
        **{f"at t = {t}": [_at_timestep(name, row, t) for row in rows] for t in range(1, column["T"])},
        **({f"minus {base} [95 %]": [_interval(row["difference"]) for row in rows]} if base else {}),
        **({"p Holm": [_corrected(row["difference"]) for row in rows]} if base else {}),
        "rate": [_mean_and_sd(row["rate"], 3) for row in rows],
        "µJ an image": [_mean_and_sd(row["energy_mj"], 2, factor=1000) for row in rows],
        **{head: cells for head, cells in optional.items() if any(cells)},
    }
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    return lines + [f"| {' | '.join(cells)} |" for cells in zip(*columns.values(), strict=True)]


def _at_timestep(name: str, row: dict[str, Any], t: int) -> str:
    """Top-1 of the row's students when they are read after t timesteps."""
    files = [RESULTS / name / f"{Path(run).name}.json" for run in row["runs"]]
    top1 = [json.loads(file.read_text())["curve"][t - 1]["top1"] for file in files]
    sd = statistics.stdev(top1) if len(top1) > 1 else None
    return _mean_and_sd({"mean": statistics.fmean(top1), "sd": sd}, 1)


def _corrected(difference: dict[str, Any] | None) -> str:
    return f"{difference['p_holm']:.3f}" if difference and difference["p_holm"] is not None else ""


def _head_mean(name: str, row: dict[str, Any], key: str) -> str:
    """Average over epochs and seeds what HTA-KL logged of its heads."""
    files = [RESULTS / name / f"{Path(run).name}.metrics.jsonl" for run in row["runs"]]
    if row["loss"] != "hta-kl" or not all(path.exists() for path in files):
        return ""
    values = [json.loads(line)[key] for path in files for line in path.read_text().splitlines()]
    return f"{statistics.fmean(values):.3f}"


def _mean_and_sd(value: dict[str, Any], digits: int, factor: float = 1) -> str:
    mean = f"{factor * value['mean']:.{digits}f}"
    return mean if value["sd"] is None else f"{mean} ± {factor * value['sd']:.{digits}f}"


def _interval(difference: dict[str, Any] | None) -> str:
    if not difference:
        return ""
    mean = f"{difference['mean']:+.1f}"
    return (
        mean if difference["low"] is None else f"{mean} [{difference['low']:+.1f}, {difference['high']:+.1f}]"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=shipped_names())
    parser.add_argument("runs", type=Path)
    arguments = parser.parse_args()
    store(arguments.name, arguments.runs)


if __name__ == "__main__":
    main()
