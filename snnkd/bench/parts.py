"""Milliseconds of a training step by part, and the overhead of spiking over an ANN."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from snnkd.bench.clock import Work, ratio, summary, synchronize, time_steps
from snnkd.bench.subject import Subject
from snnkd.environment import autocast
from snnkd.losses.outputs import time_mean
from snnkd.losses.targets import repeat_labels
from snnkd.models import Network, build_network
from snnkd.training.compiling import compile_network
from snnkd.training.optimizer import make_optimizer

PARTS = ("data", "teacher", "student", "loss", "backward", "optimizer")


def time_parts(subject: Subject, rounds: int) -> dict[str, Any]:
    """Median and quartiles in ms of each part; the parts add up to the step."""
    times: dict[str, list[float]] = {part: [] for part in PARTS}
    for _ in range(rounds):
        for part, value in _one_step(subject).items():
            times[part].append(1000 * value)
    return {part: summary(values, 2) for part, values in times.items()}


def _one_step(subject: Subject) -> dict[str, float]:
    device, marks = subject.stage.device, [0.0]
    inside: dict[str, float] = {}

    def mark() -> float:
        synchronize(device)
        marks.append(time.perf_counter())
        return marks[-1] - marks[-2]

    def timed(name: str, call: Any) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            synchronize(device)
            start = time.perf_counter()
            result = call(*args, **kwargs)
            synchronize(device)
            inside[name] = time.perf_counter() - start
            return result

        return wrapped

    mark()
    images, labels = subject.batch()
    data = mark()
    subject.optimizer.zero_grad(set_to_none=True)
    objective = subject.objective
    objective.forward, before = timed("loss", objective.forward), objective.forward  # type: ignore[method-assign]
    try:
        teacher = (
            timed("teacher", subject.teacher) if subject.teacher.network is not None else subject.teacher
        )
        loss = replace(subject, teacher=teacher).loss(images, labels)
    finally:
        objective.forward = before  # type: ignore[method-assign]
    forward = mark()
    loss.total.backward()
    backward = mark()
    subject.optimizer.step()
    teacher_s, loss_s = inside.get("teacher", 0.0), inside["loss"]
    student = forward - teacher_s - loss_s
    times = (data, teacher_s, student, loss_s, backward, mark())
    return dict(zip(PARTS, times, strict=True))


def spiking_overhead(subject: Subject, rounds: int) -> dict[str, Any]:
    """Time of a student step relative to the same topology as ANN on T x B images.

    Both steps are forward, cross-entropy, backward and update. If the student is compiled, the ANN is timed
    both ways and the faster one counts.
    """
    recipe, device, T = subject.stage.recipe, subject.stage.device, subject.network.specification.T
    images, labels = subject.batch()
    ann_images, ann_labels = images.repeat(T, 1, 1, 1), repeat_labels(labels, T)

    def step(network: Network, forward: Any, x: Tensor, y: Tensor) -> Work:
        optimizer = make_optimizer((network,), recipe.train)

        def work() -> None:
            optimizer.zero_grad(set_to_none=True)
            with autocast(recipe.execution, device):
                logits = forward(x)
            F.cross_entropy(time_mean(logits), y).backward()
            optimizer.step()

        return work

    works = {"student": step(subject.network, subject.train_step.compiled, images, labels)}
    for name in ("ann", "ann compiled") if subject.compile != "off" else ("ann",):
        ann = _ann_of(subject.network).to(device).train()
        compiled = compile_network(ann, "on" if name == "ann compiled" else "off")
        works[name] = step(ann, compiled, ann_images, ann_labels)
    times = time_steps(works, rounds, device)
    best = min((name for name in times if name != "student"), key=lambda name: statistics.median(times[name]))
    return {
        **ratio(times["student"], times[best]),
        "against": best,
        "ann_ms": summary([1000 * t for t in times[best]], 2),
    }


def _ann_of(network: Network) -> Network:
    specification = network.specification
    return build_network(replace(specification, model=replace(specification.model, T=None), neuron=None))
