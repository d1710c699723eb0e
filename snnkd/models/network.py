"""A complete network: normalisation, topology, and the specification that rebuilds them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration

from snnkd.catalog.models import MODELS
from snnkd.catalog.neurons import check_timesteps
from snnkd.errors import FileError, UsageError, did_you_mean
from snnkd.models.activation import Activation, ReLU, make_neuron
from snnkd.models.event_input import merge_frames, select_frames
from snnkd.models.features import Features
from snnkd.models.plain import plain_body
from snnkd.models.resize import resize_images
from snnkd.schema.model import ModelConfig
from snnkd.schema.neuron import AnyNeuron

SPARE = 2**20
"""Parameters that a network may have beyond two per byte of its weights file; some are built and dropped."""


@dataclass(frozen=True, kw_only=True)
class Specification:
    """Everything that determines a network except its weights. An ANN has no neuron."""

    model: ModelConfig
    neuron: AnyNeuron | None
    classes: int
    shape: tuple[int, int, int]
    """Channels, height and width of an image or event frame."""
    frames: int | None = None
    """Event frames per sample; None for still images."""

    @property
    def kind(self) -> str:
        return "ann" if self.neuron is None else "snn"

    @property
    def T(self) -> int:  # noqa: N802
        """Timesteps; 1 for an ANN."""
        return self.model.T if self.neuron is not None and self.model.T is not None else 1

    @property
    def body_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the topology's input; stacked event frames count as channels."""
        channels, height, width = self.shape
        stacked = self.frames if self.frames is not None and self.model.event_input == "stack" else 1
        return channels * stacked, height, width

    def batch_shape(self, count: int) -> tuple[int, ...]:
        """Input shape of `count` samples: images `[B, C, H, W]` or event frames `[frames, B, C, H, W]`."""
        return (count, *self.shape) if self.frames is None else (self.frames, count, *self.shape)


class Network(nn.Module):
    """Images in 0..1 `[B, C, H, W]` to logits `[T, B, classes]`, one row per timestep (T = 1 for an ANN).

    Event frames are `[frames, B, C, H, W]`, event counts divided by 255. A spiking network reads frame t at
    timestep t and so never sees later frames; an ANN reads their mean or stack. Inputs are normalised inside,
    by `mean` and `std`, since teacher and student may differ in them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, body: nn.Module, specification: Specification) -> None:
        super().__init__()
        self.specification = specification
        self.channels_last = True
        """Memory layout of the input; only the benchmark's baseline changes it."""
        self.frozen: tuple[str, ...] = ()
        """Layers of the body that stay in eval mode."""
        self.resizes_input = False
        """Whether to resize images of another size, as for a teacher with another input size."""
        self.any_size = False
        """Whether to take images of another size as they are, as in first epochs with smaller ones."""
        channels = specification.shape[0]
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))
        self.body = body

    def freeze(self, names: Sequence[str]) -> None:
        """Keep weights and norm statistics of these layers. Raises UsageError for an unknown name, or all."""
        known = [name for name, _ in plain_body(self.body).named_modules() if name]
        for name in names:
            if name not in known:
                near = did_you_mean(name, [other for other in known if other.count(".") == name.count(".")])
                raise UsageError(f"train.freeze: no layer {name!r} in the network{near}")
            plain_body(self.body).get_submodule(name).requires_grad_(False)
        if not any(p.requires_grad for p in self.parameters()):
            raise UsageError(f"train.freeze: {', '.join(names)} are all layers; leave one to train")
        self.frozen = tuple(names)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for name in self.frozen:
            plain_body(self.body).get_submodule(name).eval()
        return self

    def forward(self, images: Tensor, T: int | None = None, features: Features | None = None) -> Tensor:
        """Run `T` timesteps (default: the trained number) from a fresh state; record `features`.

        Raises UsageError for images of another shape or dtype, and for a `T` that the neurons cannot run.
        """
        _check_tensor(images, self.mean.dtype)
        timesteps = self.specification.T if T is None else T
        if timesteps < 1:
            raise UsageError(f"T = {T}: must be at least 1")
        check_timesteps(self.specification.neuron, self.specification.T, timesteps, f"T = {T}")
        frames = self.specification.frames
        if frames is not None:
            selected = select_frames(images, frames, timesteps if self.specification.kind == "snn" else None)
            images, frames = selected.flatten(0, 1), len(selected)
        if self.resizes_input and images.ndim == 4:
            images = resize_images(images, self.specification.shape)
        expected = self.specification.shape
        if images.ndim != 4 or tuple(images.shape[1:]) != (
            (expected[0], *images.shape[2:]) if self.any_size else expected
        ):
            raise UsageError(
                f"images of shape {list(images.shape)}; "
                f"this network expects [B, {', '.join(map(str, self.specification.shape))}]"
            )
        normal = (images - self.mean.view(-1, 1, 1)) / self.std.view(-1, 1, 1)
        if frames is not None and self.specification.kind == "ann":
            normal, frames = (
                merge_frames(
                    normal.unflatten(0, (frames, -1)), self.specification.model.event_input == "stack"
                ),
                None,
            )
        normal = (
            normal.contiguous(memory_format=torch.channels_last)
            if self.channels_last
            else normal.contiguous()
        )
        if frames is not None:
            normal = normal.unflatten(0, (frames, -1))
        # a user-defined network need not take features
        logits: Tensor = (
            self.body(normal, timesteps) if features is None else self.body(normal, timesteps, features)
        )
        return logits


def _check_tensor(images: Tensor, dtype: torch.dtype) -> None:
    """Raise UsageError for images that a network with parameters of `dtype` does not compute with."""
    if not isinstance(images, Tensor):
        raise UsageError(f"images are a {type(images).__name__}; give a tensor, as torch.from_numpy makes it")
    if not images.is_floating_point():
        raise UsageError(
            f"images of dtype {images.dtype}; expected floats in 0..1; divide uint8 images by 255"
        )
    if torch.promote_types(images.dtype, dtype) != dtype:
        raise UsageError(
            f"images of dtype {images.dtype}; this network expects {dtype}; write images.float()"
        )


def build_network(specification: Specification) -> Network:
    """Build the network of `specification` in channels_last; torch's global generator draws the weights."""
    entry = MODELS[specification.model.name]
    neuron = specification.neuron
    activation: Activation = ReLU if neuron is None else partial(make_neuron, neuron, specification.T)
    last = ReLU if neuron is None or getattr(neuron, "last", "spike") == "relu" else activation
    # a user-defined spiking network is checked with event frames
    extra = (
        {"frames": specification.frames}
        if MODELS.is_user_defined(specification.model.name) and neuron is not None
        else {}
    )
    body = entry.load()(
        specification.model, activation, last, specification.classes, specification.body_shape, **extra
    )
    network = Network(body, specification)
    return network.to(memory_format=torch.channels_last)


def build_for_weights(specification: Specification, path: Path, size: int) -> Network:
    """`build_network` for the weights in `path`, of `size` bytes.

    Raises FileError for a network that is much larger, before its memory is allocated: a small file may name
    a huge network.
    """
    if MODELS.is_user_defined(specification.model.name):  # the user's code builds what it likes
        return build_network(specification)
    limit = 2 * size + SPARE
    message = f"{path}: {size} bytes of tensors are too few for {specification.model.name} as described"
    try:
        with _at_most(limit, message), torch.device("meta"):
            build_network(specification)
    except _TooLarge:
        raise
    except Exception:  # a library's network may need memory to be built; any other error comes again below
        pass
    with _at_most(limit, message):
        return build_network(specification)


class _TooLarge(FileError):
    """A network is much larger than the file of its weights."""


@contextlib.contextmanager
def _at_most(limit: int, message: str) -> Iterator[None]:
    """Inside, raise FileError when modules have registered parameters and buffers of more than `limit`."""
    registered = 0

    def count(module: nn.Module, name: str, tensor: Tensor | None) -> None:
        nonlocal registered
        registered += 0 if tensor is None else tensor.numel()
        if registered > limit:
            raise _TooLarge(f"{message}; use the network of these weights")

    with (
        registration.register_module_parameter_registration_hook(count),
        registration.register_module_buffer_registration_hook(count),
    ):
        yield
