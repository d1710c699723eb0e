"""Accuracy against timesteps from one forward pass per batch.

The prediction at t is the argmax of the mean logits of timesteps 1..t. Neurons that are not causal predict
only at T, as their earlier timesteps depend on later ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest

import torch
from torch import Tensor

from snnkd import distributed
from snnkd.catalog.neurons import is_causal
from snnkd.measure.counting import Counter, Counts, merge_counts
from snnkd.measure.energy import energy_mj
from snnkd.measure.quality import Quality, quality
from snnkd.models import Network

Batches = Iterator[tuple[Tensor, Tensor]]


class CurveEntry(Quality):
    """Quality and cost after t timesteps."""

    t: int
    synops: float | None
    """Synaptic operations per image over timesteps 1..t; None for an ANN."""
    energy_mj: float
    """Millijoule per image over timesteps 1..t."""


@dataclass(frozen=True)
class Curve:
    """The measurement of a network on a split."""

    entries: list[CurveEntry]
    """One per timestep; only the last one for neurons that are not causal."""
    rate: float | None
    """Spikes per neuron and timestep over all T timesteps; None for an ANN."""
    rate_per_layer: dict[str, float] | None
    images: int
    logits: Tensor
    """Per timestep, float32 `[T, N, C]` on the CPU."""
    labels: Tensor
    """`[N]`."""


def running_means(logits: Tensor) -> Tensor:
    """Average the logits of timesteps 1..t for each t, `[T, N, C]` to `[T, N, C]`."""
    steps = torch.arange(1, len(logits) + 1, device=logits.device).view(-1, 1, 1)
    return logits.cumsum(0) / steps


def measure_curve(
    network: Network, batches: Batches, T: int, check: Callable[[], None] = lambda: None
) -> Curve:
    """Measure `network` in eval mode over `batches` of (images, labels).

    `check` raises a stop request between batches; it is not called with several processes, which would stop
    at different batches.
    """
    network.eval()
    parts, labels = [], []
    with Counter(network) as counter:
        for images, batch_labels in batches:
            if distributed.world_size() == 1:
                check()
            with torch.inference_mode():
                parts.append(network(images, T).float().cpu())
            labels.append(batch_labels.cpu())
    logits, all_labels = _gather(parts, 1), _gather(labels, 0)
    counts = merge_counts(distributed.all_gather(counter.counts))
    entries = [_entry(t, means, all_labels, counts) for t, means in enumerate(running_means(logits), start=1)]
    if not is_causal(network.specification.neuron):
        entries = entries[-1:]
    rates = counts.rates() if counts.spikes else None
    return Curve(entries, counts.rate(), rates, len(all_labels), logits, all_labels)


def _gather(parts: list[Tensor], dim: int) -> Tensor:
    """Collect the batches of all ranks in image order: rank r has every world_size-th batch from r on."""
    rounds = zip_longest(*distributed.all_gather(parts))
    return torch.cat([batch for each in rounds for batch in each if batch is not None], dim)


def _entry(t: int, logits: Tensor, labels: Tensor, counts: Counts) -> CurveEntry:
    synops = None if counts.synops is None else float(counts.synops[:t].sum()) / counts.images
    energy = energy_mj(counts.macs_once + t * counts.macs_per_step, synops or 0.0)
    return {"t": t, **quality(logits, labels), "synops": synops, "energy_mj": energy}


def accuracy(network: Network, batches: Batches, T: int) -> float:
    """Measure top-1 in percent after T timesteps, without counting operations."""
    network.eval()
    correct = total = 0
    for images, labels in batches:
        with torch.inference_mode():
            predicted = running_means(network(images, T).float())[-1].argmax(-1)
        correct += int((predicted == labels).sum())
        total += len(labels)
    counts = distributed.all_gather((correct, total))
    return 100 * sum(correct for correct, _ in counts) / sum(total for _, total in counts)
