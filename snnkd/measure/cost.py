"""What a student costs beside its teacher and beside its own topology as an ANN."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from snnkd.catalog.models import MODELS
from snnkd.errors import UsageError
from snnkd.measure.counting import Counter
from snnkd.models import Specification, build_network


def macs_as_ann(specification: Specification) -> int | None:
    """MACs an image (of event frames: of their mean) of the same topology with ReLU in the neurons' place.

    None where there is no such network.
    """
    device = "cpu" if MODELS.is_users(specification.model.name) else "meta"  # sizes need no memory
    try:
        with torch.random.fork_rng(devices=[]), torch.device(device):
            ann = replace(
                specification, neuron=None, model=replace(specification.model, T=None, event_input="mean")
            )
            network = build_network(ann).eval()
            with torch.inference_mode(), Counter(network) as counter:
                network(torch.zeros(ann.batch_shape(1)))
    except UsageError:
        return None
    return counter.counts.macs_once + counter.counts.macs_per_step


def cost_sentence(result: dict[str, Any]) -> str | None:
    """Whether the student of a result object is cheaper than its teacher and than its own topology as an ANN; None for a teacher."""
    if result["rate"] is None:
        return None
    end = result["curve"][-1]
    others = {"its teacher": result.get("teacher"), "its own topology as an ANN": result["ann"]}
    said = [
        _beside(end["energy_mj"], other["energy_mj"], name)
        for name, other in others.items()
        if other and other.get("energy_mj")
    ]
    return f"at t = {end['t']} the student takes {1000 * end['energy_mj']:.3f} µJ an image{': ' if said else ''}{', '.join(said)}"


def _beside(own: float, other: float, name: str) -> str:
    shown = f"{name} ({1000 * other:.3f} µJ)"
    return (
        f"{other / own:.1f} times less than {shown}"
        if own < other
        else f"{own / other:.2f} times as MUCH as {shown}"
    )
