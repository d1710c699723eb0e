"""Store a finished search; render its settings.

    python recipes/results/searches.py NAME RUNS [--set KEY=VALUE ...]

RUNS holds the runs of `snnkd run NAME --set KEY=VALUE ...`. Writes NAME/search.json: what `snnkd pick`
chooses, and the validation accuracy of each setting tried. Run render.py afterwards.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from snnkd.compare.selection import NEAR, Selection, select_settings
from snnkd.compare.statistics import Spread
from snnkd.console import Console
from snnkd.recipe import resolve_tasks
from snnkd.recipe.axes import format_value
from snnkd.recipe.shipped import first_comment, shipped_names

RESULTS = Path(__file__).resolve().parent
STORED = "search.json"


def store(name: str, runs: Path, settings: list[str]) -> None:
    """Store the settings tried and those chosen, and where and when they were trained."""
    selections = select_settings(resolve_tasks(name, settings), runs, Console(quiet=True))
    results = [json.loads(path.read_text()) for path in sorted(runs.glob("distill-*/result.json"))]
    content = {
        "schema": 1,
        "command": " ".join([f"snnkd run {name}", *(f"--set {setting}" for setting in settings)]),
        "selections": [dataclasses.asdict(selection) for selection in selections],
        "teacher_top1": results[0]["teacher"]["top1"],
        "cpu_minutes": round(sum(result["seconds"]["train_cpu"] for result in results) / 60),
        "hardware": results[0]["hardware"],
        "precision": results[0]["precision"],
        "versions": results[0]["versions"],
        "dates": sorted({result["date"] for result in results}),
    }
    (RESULTS / name).mkdir(exist_ok=True)
    (RESULTS / name / STORED).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def selection_of(values: dict[str, Any]) -> Selection:
    """Return a stored selection."""
    fields = {"val_top1": Spread(**values["val_top1"]), "others": tuple(values["others"])}
    return Selection(**values | fields | {"runs": tuple(values["runs"])})


def is_stored(name: str) -> bool:
    """Whether a search of recipe NAME is stored."""
    return (RESULTS / name / STORED).exists()


def best(name: str) -> str:
    """Name the best validation accuracy of each loss."""
    stored = json.loads((RESULTS / name / STORED).read_text())
    selections = [selection_of(values) for values in stored["selections"]]
    texts = [f"{each.settings['distill.loss']} {each.val_top1.mean:.1f}" for each in selections]
    return f"best of {selections[0].tried} on held-out images: {', '.join(texts)}"


def tables() -> str:
    """Render every stored search."""
    return "\n\n".join(_table(name) for name in shipped_names() if is_stored(name))


def _table(name: str) -> str:
    stored = json.loads((RESULTS / name / STORED).read_text())
    lines = [
        f"**`{name}`.** {first_comment(name)} {_conditions(stored)}",
        "",
        f"| loss | tried | best setting | validation % | more within {NEAR:g} | next | median | worst |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for selection in map(selection_of, stored["selections"]):
        best = selection.val_top1.mean
        below = (selection.others[0] - best, selection.median - best, min(selection.others) - best)
        cells = [
            selection.settings["distill.loss"],
            str(selection.tried),
            _options(selection.settings),
            f"{best:.2f}",
            str(selection.near),
            *(f"{value:+.2f}" for value in below),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _conditions(stored: dict[str, Any]) -> str:
    hardware, versions = stored["hardware"], stored["versions"]
    return (
        f"`{stored['command']}`, then `snnkd pick`: students of {stored['cpu_minutes']} CPU minutes in all, "
        f"a teacher of {stored['teacher_top1']:.2f} % of the test images. {hardware['cpu']}, threads: "
        f"{hardware['threads']}, {stored['precision']}; torch {versions['torch']}, spikingjelly "
        f"{versions['spikingjelly']}; {' to '.join(stored['dates'])}."
    )


def _options(settings: dict[str, Any]) -> str:
    pairs = [(key.rpartition(".")[2], format_value(key, value)) for key, value in settings.items()]
    return ", ".join(f"{key} {value}" for key, value in pairs if key != "loss")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=shipped_names())
    parser.add_argument("runs", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    arguments = parser.parse_args()
    store(arguments.name, arguments.runs, arguments.settings)


if __name__ == "__main__":
    main()
