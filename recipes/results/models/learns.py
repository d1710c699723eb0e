"""Train every network as a spiking student, two as ANNs, on small glyphs; report accuracy and silent layers.

    python recipes/results/models/learns.py [--only MODEL ...] [--folder DIR] [--out FILE]

Teachers and students are trained by the command line, one after the other. FILE (learns.json beside this
program) is written after each model; a model in it that the same commands, hardware and versions gave is
not trained again. Prints a line of JSON for each model; exits with 1 if one is not above 3 x chance or has a
silent layer. Set the threads by OMP_NUM_THREADS.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from snnkd.catalog.models import MODELS
from snnkd.environment import hardware, pick_device, versions
from snnkd.files import write_atomic
from snnkd.training.firing_rates import silent_or_saturated

OUT = Path(__file__).resolve().parent / "learns.json"
CHANCE = 10.0
"""Top-1 in percent of a guess among 10 classes."""
DATA = "--set data.classes=10 --set data.train_images=1500 --set data.test_images=500 --batch-size 50"
TEACHERS = {
    "teacher": "--model resnet8 --set model.width=16 --epochs 8",
    # plain spiking networks of 15 blocks and more learn only from the weights of their ANN
    **{
        f"teacher-{name}": f"--model {name} --set model.width=8 --epochs 12 --set train.warmup_epochs=1"
        for name in ("resnet34", "resnet32", "resnet32x4")
    },
}
STUDENT = "--T 2 --loss kl --set train.warmup_epochs=1"
DEFAULT = "--set model.width=8 --lr 0.1 --epochs 10 --teacher teacher"
SMALL_TRANSFORMER = "--set model.dim=64 --set model.heads=4 --lr 0.1 --epochs 6 --teacher teacher"
SPECIAL = {
    "resnet18": "--set model.width=8 --lr 0.1 --epochs 16 --teacher teacher",
    "resnet19": "--set model.width=16 --lr 0.1 --epochs 10 --teacher teacher",
    **{
        name: f"--set model.width=8 --lr 0.03 --epochs 10 --teacher teacher-{name} --set train.init=teacher"
        for name in ("resnet34", "resnet32", "resnet32x4")
    },
    "spikformer": f"{SMALL_TRANSFORMER} --set model.depth=2",
    "qkformer": f"{SMALL_TRANSFORMER} --set model.depth=3",
}
"""Settings of networks for which the default ones do not work."""
AS_ANN = dict.fromkeys(
    ("resnet56", "resnet110"),
    "--set model.width=8 --set train.optimizer=adam --set train.lr=0.002 --epochs 12 "
    "--set train.warmup_epochs=1",
)
"""Plain networks of 27 and 54 blocks, which learn as ANNs (teachers) alone."""


def snnkd(words: str, folder: Path) -> dict[str, Any]:
    """Run `snnkd WORDS --json` in `folder` and return the result."""
    done = subprocess.run(
        [sys.executable, "-m", "snnkd", *words.split(), "--json"],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def commands(name: str) -> list[str]:
    """Return the commands for `name`: of a student its teacher's and its own, of an ANN its own."""
    if name in AS_ANN:
        return [f"teach {DATA} --model {name} {AS_ANN[name]} --out {name}"]
    settings = SPECIAL.get(name, DEFAULT)
    teacher = settings.split("--teacher ")[1].split()[0]
    return [
        f"teach {DATA} {TEACHERS[teacher]} --out {teacher}",
        f"distill {DATA} {STUDENT} --model {name} {settings} --out {name}",
    ]


def train(name: str, folder: Path) -> dict[str, Any]:
    """Train the network `name` and return its row; a finished teacher is not trained again."""
    *teachers, result = (snnkd(words, folder) for words in commands(name))
    rates: dict[str, float] = result["rate_per_layer"] or {}
    last = json.loads((folder / name / "metrics.jsonl").read_text().splitlines()[-1])
    return {
        "model": name,
        "top1": result["curve"][-1]["top1"],
        "chance": CHANCE,
        "silent": sorted({*silent_or_saturated(rates).get("silent", []), *last.get("silent", [])}),
        "saturated": silent_or_saturated(rates).get("saturated", []),
        "lowest_rate": min(rates.values(), default=None),
        "T": result["trained_T"],
        "epochs": result["selection"]["epoch"],
        "parameters": result["parameters"],
        "images": result["images"],
        "teacher_top1": teachers[0]["curve"][-1]["top1"] if teachers else None,
        "seconds": result["seconds"]["train"],
        "commands": [f"snnkd {words}" for words in commands(name)],
    }


def finished_rows(out: Path, machine: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the rows of `out` that the same commands on the same machine gave."""
    if not out.exists():
        return {}
    stored = json.loads(out.read_text())
    if any(stored[key] != value for key, value in machine.items()):
        return {}
    return {
        row["model"]: row
        for row in stored["models"]
        if row["commands"] == [f"snnkd {words}" for words in commands(row["model"])]
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="MODEL", help="train these alone")
    parser.add_argument("--folder", type=Path, help="where the runs go; a temporary folder, unless given")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    names = [entry.name for entry in MODELS if not entry.argument]
    machine = {"hardware": hardware(pick_device("cpu")), "versions": versions()}
    rows = finished_rows(arguments.out, machine)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in arguments.only or names:
            if name not in rows:
                rows[name] = train(name, folder)
                results = {
                    "schema": 1,
                    "command": "python recipes/results/models/learns.py",
                    **machine,
                    "date": f"{datetime.now(UTC):%Y-%m-%d}",
                    "models": [rows[each] for each in names if each in rows],
                }
                arguments.out.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(arguments.out, (json.dumps(results, indent=2) + "\n").encode())
            print(json.dumps(rows[name]), flush=True)
    return int(any(row["silent"] or row["top1"] <= 3 * row["chance"] for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
