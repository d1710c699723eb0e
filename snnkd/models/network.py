"""A whole network: normalisation, topology, and the specification from which both are rebuilt."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from snnkd.catalog.models import MODELS
from snnkd.catalog.neurons import check_timesteps
from snnkd.errors import UsageError
from snnkd.models.activation import Activation, ReLU, make_neuron
from snnkd.models.event_input import merge_frames, select_frames
from snnkd.models.features import Features
from snnkd.models.resize import resize_images
from snnkd.schema.model import ModelConfig
from snnkd.schema.neuron import AnyNeuron


@dataclass(frozen=True, kw_only=True)
class Specification:
    """Everything that fixes a network but its weights. An ANN has no neuron."""

    model: ModelConfig
    neuron: AnyNeuron | None
    classes: int
    shape: tuple[int, int, int]
    """Channels, height, width of an image, or of one event frame."""
    frames: int | None = None
    """Event frames of a sample; None for still images."""

    @property
    def kind(self) -> str:
        return "ann" if self.neuron is None else "snn"

    @property
    def T(self) -> int:  # noqa: N802
        """Timesteps; 1 for an ANN."""
        return self.model.T if self.neuron is not None and self.model.T is not None else 1

    @property
    def seen(self) -> tuple[int, int, int]:
        """Channels, height, width of what the topology takes at once; stacked frames are channels."""
        channels, height, width = self.shape
        stacked = self.frames if self.frames is not None and self.model.event_input == "stack" else 1
        return channels * stacked, height, width

    def batch(self, count: int) -> tuple[int, ...]:
        """The shape of `count` images, `[B, C, H, W]`, or of samples of event frames, `[frames, B, C, H, W]`."""
        return (count, *self.shape) if self.frames is None else (self.frames, count, *self.shape)


class Network(nn.Module):
    """Images float 0..1 `[B, C, H, W]` to logits `[T, B, classes]`, one row a timestep (T = 1 for an ANN).

    Event frames are `[frames, B, C, H, W]`, counts of events over 255: timestep t of a spiking network sees frame t, an ANN
    all of them as their mean or stacked. A spiking network on events is thus told nothing at t of what comes later.
    Normalises by `mean` and `std` itself, so that teacher and student each see an image as they were trained to.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, body: nn.Module, specification: Specification) -> None:
        super().__init__()
        self.specification = specification
        self.channels_last = True
        """Memory layout; only a benchmark has a reason to change it."""
        self.fits = False
        """Whether images of another size are brought to this network's own, as for a teacher of another size than its student."""
        channels = specification.shape[0]
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))
        self.body = body

    def forward(self, images: Tensor, T: int | None = None, features: Features | None = None) -> Tensor:
        """Run `T` timesteps, the specification's own by default; `features` keeps what it wants. The state is new in every call."""
        timesteps = self.specification.T if T is None else T
        if timesteps < 1:
            raise UsageError(f"T = {T}: a network runs at least 1 timestep")
        check_timesteps(self.specification.neuron, self.specification.T, timesteps, f"T = {T}")
        frames = self.specification.frames
        if frames is not None:
            chosen = select_frames(images, frames, timesteps if self.specification.kind == "snn" else None)
            images, frames = chosen.flatten(0, 1), len(chosen)
        if self.fits and images.ndim == 4:
            images = resize_images(images, self.specification.shape)
        if images.ndim != 4 or tuple(images.shape[1:]) != self.specification.shape:
            raise UsageError(
                f"images of shape {list(images.shape)}; this network takes [B, {', '.join(map(str, self.specification.shape))}]"
            )
        if not images.is_floating_point():
            raise UsageError(
                f"images of type {images.dtype}; this network takes floats 0..1: divide uint8 images by 255"
            )
        normal = (images - self.mean.view(-1, 1, 1)) / self.std.view(-1, 1, 1)
        if frames is not None and self.specification.kind == "ann":
            normal, frames = (
                merge_frames(
                    normal.unflatten(0, (frames, -1)), self.specification.model.event_input == "stack"
                ),
                None,
            )
        ready = (
            normal.contiguous(memory_format=torch.channels_last)
            if self.channels_last
            else normal.contiguous()
        )
        if frames is not None:
            ready = ready.unflatten(0, (frames, -1))
        # a network of the user's need not know of features
        logits: Tensor = (
            self.body(ready, timesteps) if features is None else self.body(ready, timesteps, features)
        )
        return logits


def build_network(specification: Specification) -> Network:
    """The network of `specification` with fresh weights from torch's global generator, in channels_last layout."""
    entry = MODELS[specification.model.name]
    neuron = specification.neuron
    activation: Activation = ReLU if neuron is None else partial(make_neuron, neuron, specification.T)
    last = ReLU if neuron is None or getattr(neuron, "last", "spike") == "relu" else activation
    # a spiking network of the user's has to be tried with frames
    told = (
        {"frames": specification.frames}
        if MODELS.is_users(specification.model.name) and neuron is not None
        else {}
    )
    body = entry.load()(
        specification.model, activation, last, specification.classes, specification.seen, **told
    )
    network = Network(body, specification)
    return network.to(memory_format=torch.channels_last)
