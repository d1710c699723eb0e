"""A whole network: normalisation, topology, and the specification from which both are rebuilt."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from snnkd.errors import RequestError
from snnkd.models.activation import LIF, Activation, ReLU
from snnkd.models.features import Features
from snnkd.recipe.catalogue import MODELS
from snnkd.recipe.model_schema import ModelConfig, NeuronConfig


@dataclass(frozen=True, kw_only=True)
class Specification:
    """Everything that fixes a network but its weights. An ANN has no neuron."""

    model: ModelConfig
    neuron: NeuronConfig | None
    classes: int
    shape: tuple[int, int, int]
    """Channels, height, width of an image."""

    @property
    def kind(self) -> str:
        return "ann" if self.neuron is None else "snn"

    @property
    def T(self) -> int:  # noqa: N802
        """Timesteps; 1 for an ANN."""
        return self.model.T if self.neuron is not None and self.model.T is not None else 1


class Network(nn.Module):
    """Images float 0..1 `[B, C, H, W]` to logits `[T, B, classes]`, one row a timestep (T = 1 for an ANN).

    Normalises by `mean` and `std` itself, so that teacher and student each see an image as they were trained to.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, body: nn.Module, specification: Specification) -> None:
        super().__init__()
        self.specification = specification
        self.channels_last = True
        """Memory layout; only a benchmark has a reason to change it."""
        channels = specification.shape[0]
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))
        self.body = body

    def forward(self, images: Tensor, T: int | None = None, features: Features | None = None) -> Tensor:
        """Run `T` timesteps, the specification's own by default; `features` keeps what it wants. The state is new in every call."""
        if images.ndim != 4 or tuple(images.shape[1:]) != self.specification.shape:
            raise RequestError(
                f"images of shape {list(images.shape)}; this network takes [B, {', '.join(map(str, self.specification.shape))}]"
            )
        if not images.is_floating_point():
            raise RequestError(f"images of type {images.dtype}; this network takes floats 0..1: divide uint8 images by 255")
        timesteps = self.specification.T if T is None else T
        if timesteps < 1:
            raise RequestError(f"T = {T}: a network runs at least 1 timestep")
        normal = (images - self.mean.view(-1, 1, 1)) / self.std.view(-1, 1, 1)
        ready = normal.contiguous(memory_format=torch.channels_last) if self.channels_last else normal.contiguous()
        # a network of the user's need not know of features
        logits: Tensor = self.body(ready, timesteps) if features is None else self.body(ready, timesteps, features)
        return logits


def build_network(specification: Specification) -> Network:
    """The network of `specification` with fresh weights from torch's global generator, in channels_last layout."""
    entry = MODELS[specification.model.name]
    neuron = specification.neuron
    activation: Activation = ReLU if neuron is None else partial(LIF, neuron)
    last = ReLU if neuron is None or neuron.last == "relu" else activation
    body = entry.load()(specification.model, activation, last, specification.classes, specification.shape)
    network = Network(body, specification)
    return network.to(memory_format=torch.channels_last)
