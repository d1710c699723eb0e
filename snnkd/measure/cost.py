"""Cost of a student's topology as an ANN."""

from __future__ import annotations

from dataclasses import replace

import torch

from snnkd.catalog.models import MODELS
from snnkd.errors import UsageError
from snnkd.measure.counting import Counter
from snnkd.models import Specification, build_network


def macs_as_ann(specification: Specification) -> int | None:
    """Count MACs per image of the same topology with ReLU activations; event frames are averaged to one.

    None if the topology has no ANN form.
    """
    device = (
        "cpu" if MODELS.is_user_defined(specification.model.name) else "meta"
    )  # counting needs shapes only
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
