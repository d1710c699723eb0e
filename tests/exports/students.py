"""Untrained networks that spike, and their exported files."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from snnkd.catalog.formats import EXPORTS
from snnkd.catalog.models import MODELS
from snnkd.catalog.neurons import build_neuron
from snnkd.exports.protocol import load_format
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
    """Random weights, norms as after some training; an ANN without `T`, on event frames with `frames`."""
    torch.manual_seed(0)
    config_of_neuron = None if T is None else build_neuron(neuron)
    model = model or {"width": 4}
    config = MODELS[name].options(name=name, T=T, **model)
    network = build_network(
        Specification(model=config, neuron=config_of_neuron, classes=10, shape=shape, frames=frames)
    )
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


def source_of(folder: Path, network: Network | None = None, T: int = 3, **provenance: Any) -> Source:
    """A source as `snnkd export` loads it."""
    folder.mkdir()
    save_network(folder, network or network_of(), provenance)
    return Source(load_network(folder), T)


class Exports:
    """A student trained at T = 3, exported at T = 4, once per format."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source = Source(source_of(folder / "run", data_sha256="d").loaded, 4)
        self.path = cache(self._export)

    def _export(self, format: str) -> Path:
        path = self.folder / f"exported.{format}"
        load_format(EXPORTS[format]).write(path, self.source)
        return path
