"""Accuracy against timesteps from ONE forward pass per batch: the answer at t is the mean of the logits of steps 1..t.

Of neurons that are not causal only the answer at T exists: the steps before it depend on the later ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from snnkd import distributed
from snnkd.catalog.neurons import is_causal
from snnkd.measure.counting import Counter, Counts, merged
from snnkd.measure.energy import energy_mj
from snnkd.measure.quality import quality
from snnkd.models import Network

Batches = Iterator[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Curve:
    """One entry for each t (one in all without causality), the rates of all T timesteps, and how many images they are from."""

    entries: list[dict[str, float | None]]
    rate: float | None
    rate_per_layer: dict[str, float] | None
    images: int
    logits: Tensor
    """Of each timestep, float32 `[T, N, C]` on the CPU."""
    labels: Tensor
    """`[N]`."""


@torch.inference_mode()
def running_means(network: Network, images: Tensor, T: int) -> Tensor:
    """Mean of the logits of steps 1..t for each t, `[T, B, C]`, from one forward pass."""
    return means_to_now(network(images, T).float())


def means_to_now(logits: Tensor) -> Tensor:
    """`[T, N, C]` of each timestep to the mean of those until it."""
    steps = torch.arange(1, len(logits) + 1, device=logits.device).view(-1, 1, 1)
    return logits.cumsum(0) / steps


def measure_curve(
    network: Network, batches: Batches, T: int, check: Callable[[], None] = lambda: None
) -> Curve:
    """Measure `network` in eval mode over `batches` of (images, labels); `check` is called between batches."""
    network.eval()
    answers, labels = [], []
    with Counter(network) as counter:
        for images, truth in batches:
            if distributed.world_size() == 1:  # several would stop at different batches
                check()
            with torch.inference_mode():
                answers.append(network(images, T).float().cpu())
            labels.append(truth.cpu())
    logits, truth = _joined(answers, 1), _joined(labels, 0)
    counts = merged(distributed.all_gather(counter.counts))
    entries = [
        {"t": t + 1, **quality(means, truth), **_cost(counts, t + 1)}
        for t, means in enumerate(means_to_now(logits))
    ]
    if not is_causal(network.specification.neuron):
        entries = entries[-1:]
    spiking = bool(counts.spikes)
    return Curve(entries, counts.rate(), counts.rates() if spiking else None, len(truth), logits, truth)


def _joined(parts: list[Tensor], dim: int) -> Tensor:
    """The batches of all processes in the order of the images: each measured every so-many-th."""
    every = [
        batch
        for round_ in zip_longest(*distributed.all_gather(parts))
        for batch in round_
        if batch is not None
    ]
    return torch.cat(every, dim)


def _cost(counts: Counts, t: int) -> dict[str, Any]:
    synops = None if counts.synops is None else float(counts.synops[:t].sum()) / counts.images
    return {
        "synops": synops,
        "energy_mj": energy_mj(counts.macs_once + t * counts.macs_per_step, synops or 0.0),
    }


def accuracy(network: Network, batches: Batches, T: int) -> float:
    """Top-1 in percent after T timesteps, without counting operations."""
    network.eval()
    hits = total = 0
    for images, labels in batches:
        hits += int((running_means(network, images, T)[-1].argmax(-1) == labels).sum())
        total += len(labels)
    found = distributed.all_gather((hits, total))
    return 100 * sum(hits for hits, _ in found) / sum(total for _, total in found)
