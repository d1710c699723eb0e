"""Measure what losses, augmentation and evaluation cost in alternating runs: medians and quartiles of ratios.

    python recipes/results/speed/measure.py WHAT

    hta-kl                    HTA-KL against plain KL, and its share of a training step
    steps TEACHER [--T 2]     a step of the glyphs recipe with each loss, relative to none
    growth --rounds 2         time and memory of a resnet20 step as T, batch and classes grow
    curve --rounds 3          the timestep curve of 10,000 images against plain forward passes
    augment                   the augmentation against torchvision's PIL pipeline, on one thread
    epoch --model resnet19    the epochs of a run on images of CIFAR-100's size and number

Prints JSON. Set the threads by OMP_NUM_THREADS.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import snnkd
from snnkd.bench.baseline_transforms import make_transform
from snnkd.bench.clock import ratio, relative_times, seconds, summary, time_interleaved
from snnkd.bench.report import peak_memory
from snnkd.bench.subject import Subject, make_stage, make_subject
from snnkd.console import Console
from snnkd.context import RunContext
from snnkd.data import Split, load_data
from snnkd.data.loader import TrainBatches, measure_batches
from snnkd.environment import hardware, pick_device, versions
from snnkd.losses import hta_kl, kl
from snnkd.losses.outputs import BatchOutputs, Loss
from snnkd.measure.curve import measure_curve
from snnkd.models.files import load_network
from snnkd.recipe import resolve_stage
from snnkd.schema.run import DistillRecipe
from snnkd.training.setup import Stage

LOSSES = ("none", "kl", "rkl", "jeffreys", "hta-kl", "hta-kl head=strict", "tser", "twsnn", "bkdsnn")
CPU = torch.device("cpu")


def time_ratios(works: dict[str, Callable[[], object]], base: str, rounds: int) -> dict[str, Any]:
    """Time every function once a round, in turn; ratios are within a round."""
    for work in works.values():
        for _ in range(3):
            work()
    return relative_times(time_interleaved(works, rounds, CPU), base)


def measure_divergences(samples: int, classes: int, rounds: int) -> dict[str, Any]:
    """Time value and gradient of both divergences, and of torch's own KL, on the same random logits."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (3 * torch.randn(samples, classes, generator=generator) for _ in range(2))
    student.requires_grad_()

    def torch_kl() -> torch.Tensor:
        log_q, log_p = (F.log_softmax(logits / 3, -1) for logits in (student, teacher))
        return 9 * F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)

    def run(loss: Callable[[], torch.Tensor]) -> Callable[[], object]:
        def forward_backward() -> None:
            student.grad = None
            loss().backward()

        return forward_backward

    works = {
        "kl": run(lambda: kl(student, teacher, temperature=3.0)),
        "hta-kl": run(lambda: hta_kl(student, teacher, temperature=3.0)),
        "torch.nn.functional.kl_div": run(torch_kl),
    }
    return time_ratios(works, "kl", rounds)


def make_step(recipe: DistillRecipe, teacher: Any, data: Any) -> Callable[[], object]:
    """Return one training step on the next batch: data, student, teacher, loss, backward, update."""
    stage = Stage(
        recipe=recipe, data=data, teacher=teacher, device=CPU, context=RunContext(console=Console(quiet=True))
    )
    return make_subject(stage, "off").step


def measure_steps(run: Path, T: int, rounds: int) -> dict[str, Any]:
    works = {}
    for label in LOSSES:
        name, _, option = label.partition(" ")
        recipe = resolve_stage(
            "glyphs", "distill", loss=name, T=T, settings=[f"loss.{option}"] if option else []
        )
        assert isinstance(recipe, DistillRecipe)
        teacher = load_network(run) if name != "none" else None
        works[label] = make_step(recipe, teacher, load_data(recipe.data, Console(quiet=True)))
    return time_ratios(works, "none", rounds)


def measure_share_of_step(rounds: int) -> dict[str, Any]:
    """Time HTA-KL at [64, 100] relative to a step of resnet20, T = 4, batch 64, 32x32 RGB."""
    from snnkd.models import Specification, build_network
    from snnkd.schema.model import ResNetConfig
    from snnkd.schema.neuron import NeuronConfig

    model = ResNetConfig(name="resnet20", T=4)
    network = build_network(Specification(model=model, neuron=NeuronConfig(), classes=100, shape=(3, 32, 32)))
    generator = torch.Generator().manual_seed(0)
    images, teacher = (
        torch.rand(64, 3, 32, 32, generator=generator),
        3 * torch.randn(64, 100, generator=generator),
    )
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

    return time_ratios({"step": step, "hta-kl alone": loss_alone}, "step", rounds)


GROWTH = {"T": (1, 2, 4, 6, 8), "batch": (16, 32, 64, 128), "classes": (10, 100, 300, 1000)}
USUAL = {"T": 4, "batch": 32, "classes": 100}
CORNERS = ((1, 16, 10), (1, 16, 1000), (8, 128, 10), (8, 128, 1000))
STEPS = 15


def measure_growth(rounds: int) -> list[dict[str, Any]]:
    """Measure time, memory and the loss's share of a resnet20 step at 32x32 as T, batch and classes grow.

    Each setting runs in a process of its own, for its memory; the settings in turn, against drift.
    """
    settings: list[dict[str, Any]] = [
        {**USUAL, key: value} for key, values in GROWTH.items() for value in values
    ]
    settings += [{"T": T, "batch": batch, "classes": C} for T, batch, C in CORNERS]
    settings += [{**USUAL, "batch": 128, "keep": False}]
    measured: list[list[dict[str, float]]] = [[] for _ in settings]
    for _ in range(rounds):
        for setting, runs in zip(settings, measured, strict=True):
            words = [sys.executable, __file__, "one", "--one", json.dumps(setting)]
            runs.append(json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout))
    return [
        {**setting, **{key: summary([run[key] for run in runs], 5) for key in runs[0]}}
        for setting, runs in zip(settings, measured, strict=True)
    ]


def measure_setting(T: int, batch: int, classes: int, keep: bool = True) -> dict[str, float]:
    """Measure milliseconds of a step, MiB by which it raises the peak, and the loss's share of the time."""
    recipe = resolve_stage(
        "glyphs",
        "distill",
        data="cifar100",
        model="resnet20",
        loss="hta-kl",
        T=T,
        batch_size=batch,
        settings=[f"execution.keep_memory={keep}"],
    )
    assert isinstance(recipe, DistillRecipe)
    subject = make_subject(make_stage(recipe, CPU, (classes, (3, 32, 32))), "neurons")
    # the compiler's own memory is not the step's: the smallest batch compiles the same neurons
    few, labels = subject.batch()
    subject.loss(few[:2], labels[:2]).total.backward()
    before = peak_memory(CPU)
    loss_seconds = watch_loss(subject)
    for _ in range(3):
        subject.step()
    loss_seconds.clear()
    step_seconds = [seconds(subject.step, CPU) for _ in range(STEPS)]
    share = statistics.median(loss / step for loss, step in zip(loss_seconds, step_seconds, strict=True))
    return {
        "ms": 1000 * statistics.median(step_seconds),
        "mib": (peak_memory(CPU) - before) / 2**20,
        "loss_share": share,
    }


def watch_loss(subject: Subject) -> list[float]:
    """Return a list to which each step appends the seconds of its loss, forward and backward."""
    loss_seconds: list[float] = []
    at: dict[str, float] = {}

    def mark(name: str) -> None:
        at[name] = time.perf_counter()

    def begin(_: object, inputs: tuple[BatchOutputs]) -> None:
        inputs[0].student.register_hook(lambda gradient: end())
        mark("begin")

    def valued(_: object, inputs: object, loss: Loss) -> None:
        mark("value")
        loss.total.register_hook(lambda gradient: mark("back"))

    def end() -> None:
        loss_seconds.append(at["value"] - at["begin"] + time.perf_counter() - at["back"])

    subject.objective.register_forward_pre_hook(begin)
    subject.objective.register_forward_hook(valued)
    return loss_seconds


def measure_curve_cost(images: int, rounds: int) -> dict[str, Any]:
    """Time the curve of resnet20 at T = 4, with rates and SynOps, against plain forward passes."""
    recipe = resolve_stage("glyphs", "distill", data="cifar100", model="resnet20", T=4, loss="none")
    assert isinstance(recipe, DistillRecipe)
    stage = make_stage(recipe, CPU, (100, (3, 32, 32)))
    network = make_subject(stage, "off").network.eval()
    pixels = torch.randint(
        256, (images, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    split = Split(pixels, torch.arange(images) % 100)

    def plain() -> None:
        with torch.inference_mode():
            for batch, _ in measure_batches(split, 250, CPU):
                network(batch)

    times = time_interleaved(
        {"plain": plain, "curve": lambda: measure_curve(network, measure_batches(split, 250, CPU), 4)},
        rounds,
        CPU,
    )
    return {"images": images, "T": 4, "model": "resnet20", **relative_times(times, "plain")}


BATCH, BATCHES = 128, 8
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
PIPELINES = {
    "crop, flip": ("crop", "flip"),
    "crop, flip, autoaugment, cutout": ("crop", "flip", "autoaugment", "cutout"),
    "crop, flip, randaugment, cutout": ("crop", "flip", "randaugment", "cutout"),
    "crop, flip, trivialaugment, erase": ("crop", "flip", "trivialaugment", "erase"),
}


def smooth_images(count: int) -> Tensor:
    """Return RGB images of 32x32 in which neighbouring pixels are alike, as in photographs."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 8, 8, generator=generator)
    fine = F.interpolate(coarse, (32, 32), mode="bicubic") + 0.03 * torch.randn(
        count, 3, 32, 32, generator=generator
    )
    return (255 * fine).clamp(0, 255).to(torch.uint8)


def _ours(images: Tensor, names: tuple[str, ...]) -> Callable[[], Tensor]:
    batches = TrainBatches(Split(images, torch.zeros(len(images), dtype=torch.int64)), BATCH, names, 0, CPU)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (MEAN, STD))
    at = 0

    def batch() -> Tensor:
        nonlocal at
        images, _ = batches.batch(at // batches.steps, at % batches.steps)
        at += 1
        return (images - mean) / std

    return batch


def _torchvision(images: Tensor, names: tuple[str, ...]) -> Callable[[], Tensor]:
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    transform = make_transform(names, 32, 32, MEAN, STD)
    at = 0

    def batch() -> Tensor:
        nonlocal at
        start = at % BATCHES * BATCH
        at += 1
        return torch.stack([transform(picture) for picture in pictures[start : start + BATCH]])

    return batch


def measure_augmentation(rounds: int) -> dict[str, Any]:
    """Measure the images/s of both implementations of each pipeline, and their ratio.

    Both begin with uint8 images in memory (one tensor, or PIL images) and end in one normalised float32
    batch. snnkd's is `TrainBatches.batch` and the network's normalisation; torchvision's is what
    published CIFAR training does, without worker processes: transforms image by image, then a stack.
    """
    images = smooth_images(BATCH * BATCHES)
    measured: dict[str, Any] = {}
    for label, names in PIPELINES.items():
        torch.manual_seed(0)
        works = {"snnkd": _ours(images, names), "torchvision": _torchvision(images, names)}
        for work in works.values():
            assert work().shape == (BATCH, 3, 32, 32)
            for _ in range(3):
                work()
        times = time_interleaved(works, rounds, CPU)
        measured[label] = {
            "speedup": ratio(times["torchvision"], times["snnkd"]),
            "images_per_s": {name: summary([BATCH / t for t in values], 0) for name, values in times.items()},
        }
    return measured


AUGMENT = ["crop", "flip", "autoaugment", "cutout"]
EPOCH_BATCH = 128


def measure_epochs(model: str, T: int, images: int, epochs: int, device: str) -> dict[str, Any]:
    """Measure the seconds of an epoch of `snnkd distill`: data, teacher, logging and checkpoints included.

    hta-kl, crop, flip, AutoAugment and Cutout, 100 classes, random 32x32 images, an untrained teacher of the
    same topology. The first epoch, which warms up, is not counted.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "images.npz"
        generator = np.random.default_rng(0)
        pixels = generator.integers(0, 256, (images, 32, 32, 3), dtype=np.uint8)
        np.savez(
            file,
            train_images=pixels,
            train_labels=np.arange(images) % 100,
            test_images=pixels[:200],
            test_labels=np.arange(200) % 100,
        )
        same: dict[str, Any] = {
            "data": f"npz:{file}",
            "model": model,
            "batch_size": EPOCH_BATCH,
            "device": device,
            "quiet": True,
        }
        same["settings"] = {"data.augment": AUGMENT}
        teacher = snnkd.teach(epochs=1, out=Path(folder) / "teacher", **same)
        words: dict[str, Any] = {"loss": "hta-kl", "T": T, "teacher": teacher, "allow_weak_teacher": True}
        run = snnkd.distill(epochs=1 + epochs, out=Path(folder) / "student", **words, **same)
        at = [json.loads(line)["seconds"] for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    times = [after - before for before, after in itertools.pairwise(at)]
    settings = {
        "model": model,
        "T": T,
        "batch_size": EPOCH_BATCH,
        "images": images,
        "precision": run.result.details["precision"],
    }
    return {**settings, "seconds": summary(times, 2), "epochs": len(times)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["hta-kl", "steps", "growth", "curve", "augment", "epoch", "one"])
    parser.add_argument("teacher", nargs="?", type=Path)
    parser.add_argument("--T", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--model", default="resnet19")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.what == "one":
        print(json.dumps(measure_setting(**arguments.one)))
        return
    if arguments.what == "augment":
        torch.set_num_threads(1)
    device = pick_device(arguments.device) if arguments.what == "epoch" else CPU
    conditions: dict[str, Any] = {
        "hardware": hardware(device),
        "versions": versions(),
        "date": time.strftime("%Y-%m-%d"),
    }
    if arguments.what != "epoch":
        conditions["rounds"] = arguments.rounds
    measured: dict[str, Any]
    if arguments.what == "hta-kl":
        measured = {
            "[128, 100]": measure_divergences(128, 100, 10 * arguments.rounds),
            "[1024, 1000]": measure_divergences(1024, 1000, arguments.rounds),
            "resnet20 T=4 batch 64": measure_share_of_step(arguments.rounds),
        }
    elif arguments.what == "growth":
        measured = {"growth": measure_growth(arguments.rounds)}
    elif arguments.what == "curve":
        measured = {"curve": measure_curve_cost(10_000, arguments.rounds)}
    elif arguments.what == "augment":
        measured = {"batch": BATCH, "augment": measure_augmentation(arguments.rounds)}
    elif arguments.what == "epoch":
        measured = {
            "epoch": measure_epochs(
                arguments.model, arguments.T, arguments.images, arguments.epochs, arguments.device
            )
        }
    else:
        measured = {
            "T": arguments.T,
            "losses": measure_steps(arguments.teacher, arguments.T, arguments.rounds),
        }
    print(json.dumps({**conditions, **measured}, indent=2))


if __name__ == "__main__":
    main()
