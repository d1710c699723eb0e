"""Measure what each lever of fast training gains on validation images of CIFAR-100, and what it costs.

    python recipes/results/levers.py STAGE --data npz:cifar100.npz [--seeds 0 1 2] [--only LEVER ...]

STAGE is teacher or student. Each lever changes one setting of its base; the last row changes several. Runs
are under ./levers, one after the other. A tenth of the training images is held out; test images are not
looked at. Each run is printed, and stored in levers-STAGE.json beside the results of cifar100-fast; what is
stored there with the same settings is not trained again. Set the threads by OMP_NUM_THREADS.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from snnkd.compare.statistics import paired
from snnkd.environment import hardware, versions
from snnkd.files import write_atomic

RESULTS = Path(__file__).resolve().parent / "cifar100-fast"
BASE = [
    "data.val_fraction=0.1",
    "data.augment=[crop, flip]",
    "model.name=cnn7",
    "model.width=16",
    "train.batch_size=200",
    "train.nesterov=true",
    "train.schedule=triangular",
    "execution.compile=neurons",
    "execution.precision=bf16",
]
"""Settings of every run."""
TEACHER = [*BASE, "train.epochs=3", "train.lr=0.4"]
STUDENT = [*BASE, "train.epochs=2", "train.lr=0.1", "train.init=teacher", "model.T=2", "loss=kl"]
SMOOTHING = ["train.label_smoothing=0.1"]
SMALL_FIRST = ["train.first_sizes=[24]"]
FLIP = ["data.augment=[crop, {name: flip, alternate: true}]"]
EMA = ["train.ema=0.99"]
FREEZING = "early layers frozen in the last epoch"
"""No setting of snnkd: trained by late_freezing.py."""
LEVERS: dict[str, dict[str, list[str]]] = {
    "teacher": {
        "base": [],
        "label smoothing": SMOOTHING,
        "small images first": SMALL_FIRST,
        "alternating flip": FLIP,
        "average of weights": EMA,
        "batches of 500": ["train.batch_size=500", "train.lr=1.0"],
        "half the rate": ["train.lr=0.2"],
        "norms eight times as fast": ["train.norm_lr_factor=8"],
        FREEZING: [],
        "together": [*SMOOTHING, *SMALL_FIRST, *FLIP],
    },
    "student": {
        "base": [],
        "random start": ["train.init=random"],
        "T = 1 first": ["train.first_T=[1]"],
        "small images first": SMALL_FIRST,
        "alternating flip": FLIP,
        "label smoothing": SMOOTHING,
        "average of weights": EMA,
        "batches of 500": ["train.batch_size=500", "train.lr=0.25"],
        "twice the rate": ["train.lr=0.2"],
        FREEZING: [],
        "together": ["train.first_T=[1]", *FLIP],
    },
}


def tables() -> str:
    """Render what is stored of both stages."""
    stored = {stage: RESULTS / f"levers-{stage}.json" for stage in LEVERS}
    return "\n\n".join(
        render_table(stage, json.loads(file.read_text())) if file.exists() else f"{stage}: not run yet."
        for stage, file in stored.items()
    )


def render_table(stage: str, content: dict[str, Any]) -> str:
    """Render each lever's accuracy, its difference to the base paired by seed, and the ratio of CPU times."""
    runs = {lever: {run["seed"]: run for run in row["runs"]} for lever, row in content["levers"].items()}
    base = runs["base"]
    rows = [f"| {stage} | n | val % | minus base [95 %] | CPU time |", "|---|---|---|---|---|"]
    for lever, by_seed in runs.items():
        top1 = {seed: run["val_top1"] for seed, run in by_seed.items()}
        spread = f" ± {statistics.stdev(top1.values()):.1f}" if len(top1) > 1 else ""
        ratios = [run["cpu_seconds"] / base[seed]["cpu_seconds"] for seed, run in by_seed.items()]
        cells = [
            lever,
            str(len(top1)),
            f"{statistics.fmean(top1.values()):.1f}{spread}",
            "" if lever == "base" else _gap(top1, {seed: run["val_top1"] for seed, run in base.items()}),
            f"{statistics.median(ratios):.2f}",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    settings = ", ".join(f"`{setting}`" for setting in content["base"])
    machine, torch_version = content["hardware"]["cpu"], content["versions"]["torch"]
    return "\n".join([*rows, "", f"Base: {settings}. On: {machine}, torch {torch_version}."])


def _gap(ours: dict[int, float], theirs: dict[int, float]) -> str:
    gap = paired(ours, theirs)
    assert gap is not None
    interval = "" if gap.low is None else f" [{gap.low:+.1f}, {gap.high:+.1f}]"
    return f"{gap.mean:+.1f}{interval}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=LEVERS)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", metavar="LEVER")
    arguments = parser.parse_args()
    levers = LEVERS[arguments.stage]
    base = TEACHER if arguments.stage == "teacher" else STUDENT
    file = RESULTS / f"levers-{arguments.stage}.json"
    content = json.loads(file.read_text()) if file.exists() else {}
    if content.get("base") != base:
        content = {"base": base, "levers": {}}
    for seed in arguments.seeds:
        for lever in arguments.only or levers:
            row = content["levers"].setdefault(lever, {"settings": levers[lever], "runs": []})
            if row["settings"] != levers[lever]:
                row.update(settings=levers[lever], runs=[])
            if any(run["seed"] == seed for run in row["runs"]):
                continue
            settings = [f"data.name={arguments.data}", f"seed={seed}", *levers[lever]]
            row["runs"].append(measure(arguments.stage, lever, seed, settings))
            print(lever, json.dumps(row["runs"][-1]), flush=True)
            content |= {"hardware": hardware(torch.device("cpu")), "versions": versions()}
            RESULTS.mkdir(exist_ok=True)
            write_atomic(file, json.dumps(content, indent=1).encode() + b"\n")


def measure(stage: str, lever: str, seed: int, settings: list[str]) -> dict[str, Any]:
    """Train (or find finished) one run; its validation accuracy after the last epoch and CPU seconds."""
    program = [str(Path(__file__).with_name("late_freezing.py"))] if lever == FREEZING else ["-m", "snnkd"]
    if stage == "teacher":
        folder = train([*program, "teach"], [*TEACHER, *settings], f"teacher-{lever}-{seed}")
    else:
        teacher = Path("levers") / f"teacher-base-{seed}"
        folder = train(
            [*program, "distill"], [*STUDENT, *settings], f"student-{lever}-{seed}", "--teacher", str(teacher)
        )
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    seconds = json.loads((folder / "result.json").read_text())["seconds"]
    return {"seed": seed, "val_top1": last["val_top1"], "cpu_seconds": seconds["train_cpu"]}


def train(program: list[str], settings: list[str], name: str, *words: str) -> Path:
    folder = Path("levers") / name.replace(" ", "-").replace("=", "")
    sets = [word for setting in settings for word in ("--set", setting)]
    subprocess.run(
        [sys.executable, *program, *sets, *words, "--out", str(folder)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return folder


if __name__ == "__main__":
    main()
