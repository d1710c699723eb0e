"""Networks in plain torch operations, T unrolled, without SpikingJelly: for torch.export and ONNX."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from snnkd.errors import UsageError
from snnkd.models import Network
from snnkd.models.activation import SpikingLayer


def fire(potential: Tensor, threshold: float | Tensor) -> Tensor:
    """Spikes: 1 where the potential reaches the threshold, else 0."""
    return (potential >= threshold).to(potential.dtype)


def _run_membrane(layer: Any, currents: Tensor, charge: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Spikes of a neuron whose only state is a membrane, initially 0, with hard (to 0) or soft reset.

    `charge(membrane, current)` returns the membrane before firing.
    """
    config, v, spikes = layer.config, torch.zeros_like(currents[0]), []
    for x in currents.unbind():
        v = charge(v, x)
        spikes.append(fire(v, config.threshold))
        v = v * (1.0 - spikes[-1]) if config.reset == "hard" else v - spikes[-1] * config.threshold
    return torch.stack(spikes)


def _if(layer: Any, currents: Tensor) -> Tensor:
    return _run_membrane(layer, currents, torch.add)


def _lif(layer: Any, currents: Tensor) -> Tensor:
    tau = layer.config.tau
    if layer.config.decay_input:
        return _run_membrane(layer, currents, lambda v, x: v + (x - v) / tau)
    return _run_membrane(layer, currents, lambda v, x: v * (1.0 - 1.0 / tau) + x)


def _plif(layer: Any, currents: Tensor) -> Tensor:
    rate = layer.w.sigmoid()
    if layer.config.decay_input:
        return _run_membrane(layer, currents, lambda v, x: v + (x - v) * rate)
    return _run_membrane(layer, currents, lambda v, x: v * (1.0 - rate) + x)


def _cuba_lif(layer: Any, currents: Tensor) -> Tensor:
    config, current = layer.config, torch.zeros_like(currents[0])
    filtered = []
    for x in currents.unbind():
        current = current * config.c_decay + x
        filtered.append(current)
    return _run_membrane(layer, torch.stack(filtered), lambda v, x: v * config.v_decay + x)


def _psn(layer: Any, currents: Tensor) -> Tensor:
    return _fire_weighted(currents, layer.weight, layer.bias)


def _masked_psn(layer: Any, currents: Tensor) -> Tensor:
    T = len(currents)
    return _fire_weighted(currents, layer.weight[:T, :T].tril().triu(1 - layer.config.k), layer.bias[:T])


def _fire_weighted(currents: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return fire(torch.addmm(bias, weight, currents.flatten(1)), 0.0).view_as(currents)


PLAIN: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "lif": _lif,
    "plif": _plif,
    "if": _if,
    "cuba-lif": _cuba_lif,
    "psn": _psn,
    "masked-psn": _masked_psn,
}
"""By neuron name: functions of a layer and its input currents `[T, ...]` to spikes `[T, ...]`."""


class PlainNeuron(nn.Module):
    """A spiking layer in plain torch operations, `[T*B, ...]` to spikes of the same shape."""

    def __init__(self, layer: SpikingLayer) -> None:
        super().__init__()
        self.layer = layer
        self.function = PLAIN[layer.config.name]

    def forward(self, x: Tensor, T: int) -> Tensor:
        return self.function(self.layer, x.unflatten(0, (T, -1))).flatten(0, 1)


class Unrolled(nn.Module):
    """Images `[B, C, H, W]` or event frames `[frames, B, C, H, W]` to logits `[T, B, classes]`, T fixed."""

    def __init__(self, network: Network, T: int) -> None:
        super().__init__()
        self.network, self.T = network, T

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images, self.T)
        return logits


def check_plain(network: Network, format: str) -> None:
    """Raise UsageError naming the first layer whose neuron is not in PLAIN."""
    for name, module in network.named_modules():
        if isinstance(module, SpikingLayer) and module.config.name not in PLAIN:
            raise UsageError(
                f"--format {format}: layer {name}: neuron {module.config.name!r} is not supported, "
                f"only {', '.join(sorted(PLAIN))}"
            )


def unrolled(network: Network, T: int) -> Unrolled:
    """A copy of `network` for tracing: plain neurons, contiguous layout, equal outputs up to rounding."""
    plain = copy.deepcopy(network).to(memory_format=torch.contiguous_format).eval().requires_grad_(False)
    plain.channels_last = False  # the layout would be recorded in the graph
    for module in list(plain.modules()):
        for name, child in module.named_children():
            if isinstance(child, SpikingLayer):
                setattr(module, name, PlainNeuron(child))
    return Unrolled(plain, T).eval()


def example(network: Network) -> Tensor:
    """Example input of two images; with one, tracing would fix the batch size."""
    return torch.zeros(network.specification.batch_shape(2))


def batch_axis(network: Network) -> int:
    """Batch axis of the input."""
    return 0 if network.specification.frames is None else 1
