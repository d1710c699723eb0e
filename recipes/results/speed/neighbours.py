"""Measure how much slower a training step becomes next to busy processes, by how OpenMP's threads wait.

    python recipes/results/speed/neighbours.py [--rounds 8] [--busy 0 1 2 8]

A process for each way of waiting trains the same network (resnet20, T = 2, batches of 64, hta-kl, random
images); they take turns, a few steps each, next to so many processes that only count. Prints JSON: images/s,
and its ratio to that of the same way of waiting without busy processes. Needs an otherwise idle machine. Set
the threads by OMP_NUM_THREADS.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from typing import Any

from snnkd.openmp import SPIN_COUNT

POLICIES: dict[str, dict[str, str]] = {
    "OpenMP's own": {"OMP_WAIT_POLICY": "", "GOMP_SPINCOUNT": "300000"},
    "snnkd's": {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": str(SPIN_COUNT)},
    "spin 0": {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"},
    "spin 30000": {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "30000"},
}
"""Environment of each way of waiting; 300,000 is libgomp's count where no variable is set."""
BATCH, STEPS = 64, 4
"""Images a step, and steps timed together."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2, 8])
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        train_on_request()
        return
    import torch

    from snnkd.bench.clock import summary
    from snnkd.environment import hardware, versions

    workers = {name: start_worker(variables) for name, variables in POLICIES.items()}
    rates: dict[int, dict[str, list[float]]] = {}
    for busy in arguments.busy:
        neighbours = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
        try:
            rates[busy] = {name: [] for name in workers}
            for _ in range(arguments.rounds):
                for name, worker in workers.items():
                    rates[busy][name].append(ask(worker))
        finally:
            for neighbour in neighbours:
                neighbour.kill()
                neighbour.wait()
    for worker in workers.values():
        worker.communicate()
    quiet = {name: summary(values)["median"] for name, values in rates[arguments.busy[0]].items()}
    measured = {
        busy: {
            name: {
                "images_per_s": summary(values, 1),
                "of_quiet": summary([value / quiet[name] for value in values], 3),
            }
            for name, values in policies.items()
        }
        for busy, policies in rates.items()
    }
    conditions: dict[str, Any] = {"hardware": hardware(torch.device("cpu")), "versions": versions()}
    print(json.dumps({**conditions, "rounds": arguments.rounds, "busy": measured}, indent=1))


def start_worker(variables: dict[str, str]) -> subprocess.Popen[str]:
    environment = {**os.environ, **{name: value for name, value in variables.items() if value}}
    return subprocess.Popen(
        [sys.executable, __file__, "--worker"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def ask(worker: subprocess.Popen[str]) -> float:
    """Images/s of the next steps of `worker`."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write("\n")
    worker.stdin.flush()
    return float(worker.stdout.readline())


def train_on_request() -> None:
    """For each line read, train some steps and print images/s."""
    import torch

    from snnkd.bench.subject import make_stage, make_subject
    from snnkd.recipe import resolve_stage

    words: dict[str, Any] = {"data": "cifar100", "model": "resnet20", "loss": "hta-kl", "T": 2}
    recipe = resolve_stage("glyphs", "distill", batch_size=BATCH, **words)
    subject = make_subject(make_stage(recipe, torch.device("cpu"), (100, (3, 32, 32))), "off")
    subject.step()
    for _ in sys.stdin:
        start = time.perf_counter()
        for _ in range(STEPS):
            subject.step()
        print(STEPS * BATCH / (time.perf_counter() - start), flush=True)


if __name__ == "__main__":
    main()
