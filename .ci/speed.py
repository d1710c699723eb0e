"""What the losses cost: alternating runs in one process, as ratios with median and quartiles.

    python .ci/speed.py hta-kl                      HTA-KL against plain KL, and its share of a training step
    python .ci/speed.py steps TEACHER [--T 2]       a step of the glyphs recipe with each loss, relative to none

Prints JSON. Set the threads by OMP_NUM_THREADS.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from snnkd.data import load_data
from snnkd.losses import hta_kl, kl
from snnkd.models.files import load_network
from snnkd.recipe import DistillRecipe, Flags, resolve_stage
from snnkd.report import Reporter
from snnkd.stage import Options, Stage, first_network, make_job, make_stage_objective
from snnkd.training.environment import hardware, versions
from snnkd.training.loop import look
from snnkd.training.optimizer import make_optimizer

LOSSES = ("none", "kl", "rkl", "jeffreys", "hta-kl", "hta-kl head=strict", "tser", "twsnn", "bkdsnn")
CPU = torch.device("cpu")


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def ratios(works: dict[str, Callable[[], object]], base: str, rounds: int) -> dict[str, Any]:
    """Each round runs every work once, in turn; ratios are within a round."""
    for work in works.values():
        for _ in range(3):
            work()
    taken: dict[str, list[float]] = {name: [] for name in works}
    names = list(works)
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            taken[name].append(seconds(works[name]))
    return {
        name: {"ratio": summary([a / b for a, b in zip(times, taken[base], strict=True)]), "ms": summary([1000 * t for t in times])}
        for name, times in taken.items()
    }


def summary(values: Sequence[float]) -> dict[str, float]:
    low, median, high = statistics.quantiles(values, n=4)
    return {"median": round(median, 4), "q1": round(low, 4), "q3": round(high, 4)}


def of_divergences(samples: int, classes: int, rounds: int) -> dict[str, Any]:
    """Value and gradient of both divergences, and of torch's own KL, on the same random logits."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (3 * torch.randn(samples, classes, generator=generator) for _ in range(2))
    student.requires_grad_()

    def torchs() -> torch.Tensor:
        pair = (F.log_softmax(logits / 3, -1) for logits in (student, teacher))
        return 9 * F.kl_div(*pair, reduction="batchmean", log_target=True)

    def run(loss: Callable[[], torch.Tensor]) -> Callable[[], object]:
        def both_ways() -> None:
            student.grad = None
            loss().backward()

        return both_ways

    works = {
        "kl": run(lambda: kl(student, teacher, temperature=3.0)),
        "hta-kl": run(lambda: hta_kl(student, teacher, temperature=3.0)),
        "torch.nn.functional.kl_div": run(torchs),
    }
    return ratios(works, "kl", rounds)


def step_of(recipe: DistillRecipe, teacher: Any, data: Any) -> Callable[[], object]:
    """One training step on the next batch: data, student, teacher, loss, backward, update (without the loop's bookkeeping)."""
    stage = Stage(recipe=recipe, data=data, teacher=teacher, device=CPU, options=Options(report=Reporter(quiet=True)))
    network = first_network(recipe, data, teacher)
    job = make_job(stage, network, make_stage_objective(stage, network))
    optimizer = make_optimizer((network, job.objective), recipe.train)
    network.train()
    at = 0

    def step() -> None:
        nonlocal at
        images, labels = job.batches.batch(0, at % job.batches.steps)
        at += 1
        loss = job.objective(look(job, network, images, labels, 0))
        optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        optimizer.step()

    return step


def of_steps(run: Path, T: int, rounds: int) -> dict[str, Any]:
    works = {}
    for label in LOSSES:
        name, _, option = label.partition(" ")
        recipe = resolve_stage("glyphs", "distill", Flags(loss=name, T=T, settings=[f"loss.{option}"] if option else []))
        assert isinstance(recipe, DistillRecipe)
        teacher = load_network(run) if name != "none" else None
        works[label] = step_of(recipe, teacher, load_data(recipe.data, Reporter(quiet=True)))
    return ratios(works, "none", rounds)


def share_of_a_step(rounds: int) -> dict[str, Any]:
    """HTA-KL at [64, 100] relative to forward, loss, backward and update of resnet20, T = 4, batch 64, 32x32 RGB, one batch."""
    from snnkd.models import Specification, build_network
    from snnkd.recipe.schema import NeuronConfig, ResNetConfig

    model = ResNetConfig(name="resnet20", T=4)
    network = build_network(Specification(model=model, neuron=NeuronConfig(), classes=100, shape=(3, 32, 32)))
    generator = torch.Generator().manual_seed(0)
    images, teacher = torch.rand(64, 3, 32, 32, generator=generator), 3 * torch.randn(64, 100, generator=generator)
    labels, optimizer = torch.arange(64), torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)

    def step() -> None:
        network.zero_grad(set_to_none=True)
        mean = network(images).mean(0)
        (F.cross_entropy(mean, labels) + hta_kl(mean, teacher, temperature=3.0)).backward()
        optimizer.step()

    student = torch.randn(64, 100, generator=generator).requires_grad_()

    def loss_alone() -> None:
        student.grad = None
        hta_kl(student, teacher, temperature=3.0).backward()

    return ratios({"step": step, "hta-kl alone": loss_alone}, "step", rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["hta-kl", "steps"])
    parser.add_argument("teacher", nargs="?", type=Path)
    parser.add_argument("--T", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=30)
    asked = parser.parse_args()
    about = {"hardware": hardware(CPU), "versions": versions(), "rounds": asked.rounds}
    if asked.what == "hta-kl":
        found = {
            "[128, 100]": of_divergences(128, 100, 10 * asked.rounds),
            "[1024, 1000]": of_divergences(1024, 1000, asked.rounds),
            "resnet20 T=4 batch 64": share_of_a_step(asked.rounds),
        }
    else:
        found = {"T": asked.T, "losses": of_steps(asked.teacher, asked.T, asked.rounds)}
    print(json.dumps({**about, **found}, indent=2))


if __name__ == "__main__":
    main()
