"""Networks that fire without having been trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from snnkd.catalog.models import MODELS
from snnkd.catalog.neurons import build_neuron
from snnkd.exports.source import Source
from snnkd.models import Network, Specification, build_network
from snnkd.models.files import load_network, save_network

SHAPE = (3, 16, 16)
IMAGES = torch.rand(12, *SHAPE, generator=torch.Generator().manual_seed(0))


def network_of(
    name: str = "resnet8",
    T: int | None = 3,
    neuron: Any = "lif",
    shape: tuple[int, int, int] = SHAPE,
    frames: int | None = None,
    **model: Any,
) -> Network:
    """Random weights, norms as after some training; an ANN without `T`. On event frames where there are `frames`."""
    torch.manual_seed(0)
    made = None if T is None else build_neuron(neuron)
    model = model or {"width": 4}
    config = MODELS[name].options(name=name, T=T, **model)
    network = build_network(Specification(model=config, neuron=made, classes=10, shape=shape, frames=frames))
    network.mean.fill_(0.4)
    network.std.fill_(0.3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.6, 1.4)
            nn.init.uniform_(module.bias, 0.0, 0.6)
    images = torch.rand(network.specification.batch_shape(32), generator=torch.Generator().manual_seed(1))
    network.train()
    with torch.no_grad():
        for _ in range(20):
            network(images)
    return network.eval()


def source_of(folder: Path, network: Network | None = None, T: int = 3, **about: Any) -> Source:
    """As `snnkd export` loads one."""
    folder.mkdir()
    save_network(folder, network or network_of(), about)
    return Source(load_network(folder), T)
