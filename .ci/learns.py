"""Every network of the catalogue as a spiking student on small glyphs: what it reaches and whether a layer stays silent.

    python .ci/learns.py [--only MODEL ...] [--folder DIR] [--out FILE]

Teachers and students are made by the command line, one after the other. FILE (recipes/results/models/learns.json) is
written after each model; a model that it holds, made with the same commands on this hardware and these versions, is not
trained again. Prints a line of JSON a model; exit 1 when one of them is not above 3 x chance or has a silent layer. Set
the threads by OMP_NUM_THREADS.
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
from snnkd.files import write_atomic
from snnkd.training.environment import hardware, pick_device, versions
from snnkd.training.firing_rates import silent_or_saturated

OUT = Path(__file__).resolve().parent.parent / "recipes" / "results" / "models" / "learns.json"
CHANCE = 10.0
"""Top-1 in percent of a guess among 10 classes."""
DATA = "--set data.classes=10 --set data.train_images=1500 --set data.test_images=500 --batch-size 50"
TEACHERS = {
    "teacher": "--model resnet8 --set model.width=16 --epochs 8",
    # what a plain spiking network of 16 blocks has to start from
    "teacher-resnet34": "--model resnet34 --set model.width=8 --epochs 12 --set train.warmup_epochs=1",
}
STUDENT = "--T 2 --loss kl --set train.warmup_epochs=1"
USUAL = "--set model.width=8 --lr 0.1 --epochs 10 --teacher teacher"
SMALL_TRANSFORMER = "--set model.dim=64 --set model.heads=4 --lr 0.1 --epochs 6 --teacher teacher"
OWN = {
    "resnet18": "--set model.width=8 --lr 0.1 --epochs 16 --teacher teacher",
    "resnet19": "--set model.width=16 --lr 0.1 --epochs 10 --teacher teacher",
    "resnet34": "--set model.width=8 --lr 0.03 --epochs 10 --teacher teacher-resnet34 --set train.init=teacher",
    "spikformer": f"{SMALL_TRANSFORMER} --set model.depth=2",
    "qkformer": f"{SMALL_TRANSFORMER} --set model.depth=3",
}
"""Settings of those that need others than the usual."""


def snnkd(words: str, folder: Path) -> dict[str, Any]:
    """The result that `snnkd WORDS --json` prints, run in `folder`."""
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
    """What makes the student `name`: the teacher's command and its own."""
    own = OWN.get(name, USUAL)
    teacher = own.split("--teacher ")[1].split()[0]
    return [
        f"teach {DATA} {TEACHERS[teacher]} --out {teacher}",
        f"distill {DATA} {STUDENT} --model {name} {own} --out {name}",
    ]


def learned(name: str, folder: Path) -> dict[str, Any]:
    """Train `name` and say what became of it; a teacher that is there is not trained again."""
    teacher, student = (snnkd(words, folder) for words in commands(name))
    rates: dict[str, float] = student["rate_per_layer"]
    last = json.loads((folder / name / "metrics.jsonl").read_text().splitlines()[-1])
    return {
        "model": name,
        "top1": student["curve"][-1]["top1"],
        "chance": CHANCE,
        "silent": sorted({*silent_or_saturated(rates).get("silent", []), *last.get("silent", [])}),
        "saturated": silent_or_saturated(rates).get("saturated", []),
        "lowest_rate": min(rates.values()),
        "T": student["T"],
        "epochs": student["selection"]["epoch"],
        "parameters": student["parameters"],
        "images": student["images"],
        "teacher_top1": teacher["curve"][-1]["top1"],
        "seconds": student["seconds"]["train"],
        "commands": [f"snnkd {words}" for words in commands(name)],
    }


def kept(out: Path, machine: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Rows of `out` that would be made by the same commands on the same machine."""
    if not out.exists():
        return {}
    found = json.loads(out.read_text())
    if any(found[key] != value for key, value in machine.items()):
        return {}
    return {
        row["model"]: row
        for row in found["models"]
        if row["commands"] == [f"snnkd {words}" for words in commands(row["model"])]
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="MODEL", help="train these alone")
    parser.add_argument("--folder", type=Path, help="where the runs go; a temporary folder, unless given")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    names = [entry.name for entry in MODELS if not entry.argument]
    machine = {"hardware": hardware(pick_device("cpu")), "versions": versions()}
    rows = kept(asked.out, machine)
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in asked.only or names:
            if name not in rows:
                rows[name] = learned(name, folder)
                whole = {"schema": 1, "command": "python .ci/learns.py", **machine, "date": f"{datetime.now(UTC):%Y-%m-%d}",
                         "models": [rows[each] for each in names if each in rows]}  # fmt: skip
                asked.out.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(asked.out, (json.dumps(whole, indent=2) + "\n").encode())
            print(json.dumps(rows[name]), flush=True)
    return int(any(row["silent"] or row["top1"] <= 3 * row["chance"] for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
