"""What the losses and the parts cost: alternating runs in one process, as ratios with median and quartiles.

    python .ci/speed.py hta-kl                      HTA-KL against plain KL, and its share of a training step
    python .ci/speed.py steps TEACHER [--T 2]       a step of the glyphs recipe with each loss, relative to none
    python .ci/speed.py growth --rounds 2           time and memory of a resnet20 step as T, batch and classes grow
    python .ci/speed.py curve --rounds 3            the timestep curve of 10,000 images against plain forward passes
    python .ci/speed.py augment                     the augmentation against torchvision's PIL pipeline, on one thread
    python .ci/speed.py epoch --model resnet19      the epochs of a real run on images of CIFAR-100's size and number

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
from snnkd.bench.clock import alternate, compared, ratio, seconds, summary
from snnkd.bench.pictures import transform_of
from snnkd.bench.report import peak_memory
from snnkd.bench.subject import Subject, make_stage, make_subject
from snnkd.console import Console
from snnkd.context import RunContext
from snnkd.data import Split, load_data
from snnkd.data.loader import TrainBatches, measure_batches
from snnkd.losses import hta_kl, kl
from snnkd.losses.outputs import BatchOutputs, Loss
from snnkd.measure.curve import measure_curve
from snnkd.models.files import load_network
from snnkd.recipe import Flags, resolve_stage
from snnkd.schema.run import DistillRecipe
from snnkd.stage import Stage
from snnkd.training.environment import hardware, pick_device, versions
from snnkd.training.step import backward

LOSSES = ("none", "kl", "rkl", "jeffreys", "hta-kl", "hta-kl head=strict", "tser", "twsnn", "bkdsnn")
CPU = torch.device("cpu")


def ratios(works: dict[str, Callable[[], object]], base: str, rounds: int) -> dict[str, Any]:
    """Each round runs every work once, in turn; ratios are within a round."""
    for work in works.values():
        for _ in range(3):
            work()
    return compared(alternate(works, rounds, CPU), base)


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
    stage = Stage(
        recipe=recipe, data=data, teacher=teacher, device=CPU, context=RunContext(console=Console(quiet=True))
    )
    return make_subject(stage, "off").step


def of_steps(run: Path, T: int, rounds: int) -> dict[str, Any]:
    works = {}
    for label in LOSSES:
        name, _, option = label.partition(" ")
        recipe = resolve_stage(
            "glyphs", "distill", Flags(loss=name, T=T, settings=[f"loss.{option}"] if option else [])
        )
        assert isinstance(recipe, DistillRecipe)
        teacher = load_network(run) if name != "none" else None
        works[label] = step_of(recipe, teacher, load_data(recipe.data, Console(quiet=True)))
    return ratios(works, "none", rounds)


def share_of_a_step(rounds: int) -> dict[str, Any]:
    """HTA-KL at [64, 100] relative to forward, loss, backward and update of resnet20, T = 4, batch 64, 32x32 RGB, one batch."""
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

    return ratios({"step": step, "hta-kl alone": loss_alone}, "step", rounds)


GROWTH = {"T": (1, 2, 4, 6, 8), "batch": (16, 32, 64, 128), "classes": (10, 100, 300, 1000)}
USUAL = {"T": 4, "batch": 32, "classes": 100}
CORNERS = ((1, 16, 10), (1, 16, 1000), (8, 128, 10), (8, 128, 1000))
STEPS = 15


def of_growth(rounds: int) -> list[dict[str, Any]]:
    """Time, memory and the loss's share of a resnet20 step at 32x32, one thing growing at a time, and all of them together.

    Each setting runs in a process of its own, for its memory; the settings in turn, for the machine's moods.
    """
    settings: list[dict[str, Any]] = [
        {**USUAL, key: value} for key, values in GROWTH.items() for value in values
    ]
    settings += [{"T": T, "batch": batch, "classes": C} for T, batch, C in CORNERS]
    settings += [{**USUAL, "batch": 128, "keep": False}]
    taken: list[list[dict[str, float]]] = [[] for _ in settings]
    for _ in range(rounds):
        for setting, found in zip(settings, taken, strict=True):
            words = [sys.executable, __file__, "one", "--one", json.dumps(setting)]
            found.append(json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout))
    return [
        {**setting, **{key: summary([one[key] for one in found], 5) for key in found[0]}}
        for setting, found in zip(settings, taken, strict=True)
    ]


def one_setting(T: int, batch: int, classes: int, keep: bool = True) -> dict[str, float]:
    """Milliseconds of a step, MiB that it needs above what stands before it, and the loss's part of the time, both ways."""
    recipe = resolve_stage(
        "glyphs",
        "distill",
        Flags(
            data="cifar100",
            model="resnet20",
            loss="hta-kl",
            T=T,
            batch_size=batch,
            settings=[f"execution.keep_memory={keep}"],
        ),
    )
    assert isinstance(recipe, DistillRecipe)
    subject = make_subject(make_stage(recipe, CPU, (classes, (3, 32, 32))), "neurons")
    # the compiler's own memory is not the step's: the smallest batch compiles the same neurons
    few, labels = subject.batch()
    backward(subject.job, subject.learner, few[:2], labels[:2], 0)
    before = peak_memory(CPU)
    shares = share_of_the_loss(subject)
    for _ in range(3):
        subject.step()
    shares.clear()
    taken = [seconds(subject.step, CPU) for _ in range(STEPS)]
    share = statistics.median(loss / step for loss, step in zip(shares, taken, strict=True))
    return {
        "ms": 1000 * statistics.median(taken),
        "mib": (peak_memory(CPU) - before) / 2**20,
        "loss_share": share,
    }


def share_of_the_loss(subject: Subject) -> list[float]:
    """A list that grows by the seconds of the loss in each step: from the logits to its value, and from its gradient to theirs."""
    found: list[float] = []
    at: dict[str, float] = {}

    def mark(name: str) -> None:
        at[name] = time.perf_counter()

    def begin(_: object, given: tuple[BatchOutputs]) -> None:
        given[0].student.register_hook(lambda gradient: end())
        mark("begin")

    def valued(_: object, given: object, loss: Loss) -> None:
        mark("value")
        loss.total.register_hook(lambda gradient: mark("back"))

    def end() -> None:
        found.append(at["value"] - at["begin"] + time.perf_counter() - at["back"])

    subject.job.objective.register_forward_pre_hook(begin)
    subject.job.objective.register_forward_hook(valued)
    return found


def of_curve(images: int, rounds: int) -> dict[str, Any]:
    """The timestep curve with rates and SynOps of resnet20 at T = 4, against plain forward passes over the same images."""
    recipe = resolve_stage("glyphs", "distill", Flags(data="cifar100", model="resnet20", T=4, loss="none"))
    assert isinstance(recipe, DistillRecipe)
    stage = make_stage(recipe, CPU, (100, (3, 32, 32)))
    network = make_subject(stage, "off").job.network.eval()
    pixels = torch.randint(
        256, (images, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    split = Split(pixels, torch.arange(images) % 100)

    def plain() -> None:
        with torch.inference_mode():
            for batch, _ in measure_batches(split, 250, CPU):
                network(batch)

    taken = alternate(
        {"plain": plain, "curve": lambda: measure_curve(network, measure_batches(split, 250, CPU), 4)},
        rounds,
        CPU,
    )
    return {"images": images, "T": 4, "model": "resnet20", **compared(taken, "plain")}


BATCH, BATCHES = 128, 8
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
PIPELINES = {
    "crop, flip": ("crop", "flip"),
    "crop, flip, autoaugment, cutout": ("crop", "flip", "autoaugment", "cutout"),
    "crop, flip, randaugment, cutout": ("crop", "flip", "randaugment", "cutout"),
    "crop, flip, trivialaugment, erase": ("crop", "flip", "trivialaugment", "erase"),
}


def smooth_images(count: int) -> Tensor:
    """RGB images of 32x32 in which neighbours are alike, with a little noise, as photographs are."""
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
        made, _ = batches.batch(at // batches.steps, at % batches.steps)
        at += 1
        return (made - mean) / std

    return batch


def _torchvisions(images: Tensor, names: tuple[str, ...]) -> Callable[[], Tensor]:
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    transform = transform_of(names, 32, 32, MEAN, STD)
    at = 0

    def batch() -> Tensor:
        nonlocal at
        start = at % BATCHES * BATCH
        at += 1
        return torch.stack([transform(picture) for picture in pictures[start : start + BATCH]])

    return batch


def against_torchvision(rounds: int) -> dict[str, Any]:
    """Of each pipeline: images/s of both, and how many times as fast ours is (median and quartiles over the rounds).

    Both begin with uint8 images in memory (ours one tensor, torchvision's a PIL image each, made beforehand) and end in
    one normalised float32 batch. Ours is `TrainBatches.batch` and the network's normalisation; torchvision's is what published
    CIFAR training does, without worker processes: its transforms image by image, then a stack.
    """
    images = smooth_images(BATCH * BATCHES)
    found: dict[str, Any] = {}
    for label, names in PIPELINES.items():
        torch.manual_seed(0)
        works = {"snnkd": _ours(images, names), "torchvision": _torchvisions(images, names)}
        for work in works.values():
            assert work().shape == (BATCH, 3, 32, 32)
            for _ in range(3):
                work()
        taken = alternate(works, rounds, CPU)
        found[label] = {
            "speedup": ratio(taken["torchvision"], taken["snnkd"]),
            "images_per_s": {name: summary([BATCH / t for t in times], 0) for name, times in taken.items()},
        }
    return found


AUGMENT = ["crop", "flip", "autoaugment", "cutout"]
EPOCH_BATCH = 128


def of_epochs(model: str, T: int, images: int, epochs: int, device: str) -> dict[str, Any]:
    """Seconds of an epoch by a run's own metrics: data, teacher, bookkeeping and checkpoints included, as `snnkd distill` makes them.

    hta-kl, crop, flip, AutoAugment and Cutout, 100 classes, random 32x32 images and a teacher of the same topology that has
    learned nothing of them. The first epoch, which warms up, is not counted.
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
        words = {"loss": "hta-kl", "T": T, "teacher": teacher, "allow_weak_teacher": True}
        run = snnkd.distill(epochs=1 + epochs, out=Path(folder) / "student", **words, **same)
        at = [json.loads(line)["seconds"] for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    taken = [after - before for before, after in itertools.pairwise(at)]
    about = {
        "model": model,
        "T": T,
        "batch_size": EPOCH_BATCH,
        "images": images,
        "precision": run.result.details["precision"],
    }
    return {**about, "seconds": summary(taken, 2), "epochs": len(taken)}


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
    asked = parser.parse_args()
    if asked.what == "one":
        print(json.dumps(one_setting(**asked.one)))
        return
    if asked.what == "augment":
        torch.set_num_threads(1)
    device = pick_device(asked.device) if asked.what == "epoch" else CPU
    about: dict[str, Any] = {
        "hardware": hardware(device),
        "versions": versions(),
        "date": time.strftime("%Y-%m-%d"),
    }
    if asked.what != "epoch":
        about["rounds"] = asked.rounds
    found: dict[str, Any]
    if asked.what == "hta-kl":
        found = {
            "[128, 100]": of_divergences(128, 100, 10 * asked.rounds),
            "[1024, 1000]": of_divergences(1024, 1000, asked.rounds),
            "resnet20 T=4 batch 64": share_of_a_step(asked.rounds),
        }
    elif asked.what == "growth":
        found = {"growth": of_growth(asked.rounds)}
    elif asked.what == "curve":
        found = {"curve": of_curve(10_000, asked.rounds)}
    elif asked.what == "augment":
        found = {"batch": BATCH, "augment": against_torchvision(asked.rounds)}
    elif asked.what == "epoch":
        found = {"epoch": of_epochs(asked.model, asked.T, asked.images, asked.epochs, asked.device)}
    else:
        found = {"T": asked.T, "losses": of_steps(asked.teacher, asked.T, asked.rounds)}
    print(json.dumps({**about, **found}, indent=2))


if __name__ == "__main__":
    main()
