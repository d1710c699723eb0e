"""Count operations by forward hooks: spikes per neuron layer, synaptic operations and MACs per weight layer.

A synaptic operation is one spike passing one connection; spikes near the border have fewer connections, since
padding does not count. A weight layer performs SynOps if its input comes directly from a neuron layer; any
other input (the image, an average or a sum of spikes) costs MACs. The products of attention have no weights:
models/attention.py defines the cost of a spike there. Event frames contain counts, not spikes: the first
layer costs MACs there too, at every timestep.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv1d_input, conv2d_input

from snnkd.models import Network
from snnkd.models.activation import SpikingLayer
from snnkd.models.attention import Product

Counted = nn.Conv1d | nn.Conv2d | nn.Linear | Product


@dataclass
class Counts:
    """Sums over all measured images. Per timestep tensors have length T; MACs are per image."""

    images: int = 0
    spikes: dict[str, Tensor] = field(default_factory=dict)
    """Spikes of each neuron layer, `[T]`."""
    neurons: dict[str, int] = field(default_factory=dict)
    """Neurons of each neuron layer."""
    synops: Tensor | None = None
    """Synaptic operations, `[T]`, summed over layers; None without a neuron layer."""
    macs_once: int = 0
    """MACs per image of layers computed once for all timesteps."""
    macs_per_step: int = 0
    """MACs per image and timestep of the other layers."""

    def rates(self) -> dict[str, float]:
        """Compute the mean spikes per neuron and timestep of each layer."""
        return {
            name: float(s.sum()) / (self.images * self.neurons[name] * len(s))
            for name, s in self.spikes.items()
        }

    def rate(self) -> float | None:
        """Compute the mean over all neurons, 0..1; None for an ANN."""
        if not self.spikes:
            return None
        timesteps = len(next(iter(self.spikes.values())))
        total = sum(float(s.sum()) for s in self.spikes.values())
        return total / (self.images * sum(self.neurons.values()) * timesteps)


def merge_counts(parts: Sequence[Counts]) -> Counts:
    """Merge the counts of several processes; MACs per image are equal in all processes with images."""
    if len(parts) == 1:
        return parts[0]
    parts = [part for part in parts if part.images]
    first = parts[0]
    synops = [part.synops for part in parts if part.synops is not None]
    return Counts(
        images=sum(part.images for part in parts),
        spikes={name: torch.stack([part.spikes[name] for part in parts]).sum(0) for name in first.spikes},
        neurons=first.neurons,
        synops=torch.stack(synops).sum(0) if synops else None,
        macs_once=first.macs_once,
        macs_per_step=first.macs_per_step,
    )


class Counter:
    """Context manager that counts the operations of `network`'s forward passes in `counts`."""

    def __init__(self, network: Network) -> None:
        self.counts = Counts()
        self._network = network
        self._fan_out: dict[tuple[str, tuple[int, ...]], Tensor] = {}
        self._T = self._batch = 1
        self._neurons: dict[str, int] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> Counter:
        self._handles.append(self._network.register_forward_pre_hook(self._before, with_kwargs=True))
        for name, module in self._network.named_modules():
            if isinstance(module, SpikingLayer):
                self._handles.append(module.register_forward_hook(self._neuron(name)))
            elif isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear, Product)):
                self._handles.append(module.register_forward_hook(self._weights(name)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def _before(self, network: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        T = inputs[1] if len(inputs) > 1 else named.get("T")
        images = inputs[0] if inputs else named["images"]
        self._batch = images.shape[-4]  # [B, C, H, W], or event frames [T, B, C, H, W]
        self._T = T or self._network.specification.T
        self.counts.images += self._batch
        self._neurons = {}
        self.counts.macs_once = self.counts.macs_per_step = 0

    def _neuron(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, int], spikes: Tensor) -> None:
            summed = self._summed(spikes)
            spikes.snnkd_sums = summed  # type: ignore[attr-defined]
            total = summed.flatten(1).double().sum(1).cpu()
            counts = self.counts
            counts.spikes[name] = counts.spikes[name] + total if name in counts.spikes else total
            self._neurons[name] = self._neurons.get(name, 0) + spikes[0].numel()  # a layer may be used twice
            counts.neurons[name] = self._neurons[name]

        return hook

    def _weights(self, name: str) -> Any:
        def hook(module: Counted, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            sums = getattr(inputs[0], "snnkd_sums", None)
            once = len(output) == self._batch and self._T != 1
            if sums is not None:
                synops = (sums.double() * self._fan_out_of(name, module, inputs[0])).flatten(1).sum(1).cpu()
                total = self.counts.synops
                self.counts.synops = synops if total is None else total + synops
                if isinstance(module, Product) and module.outputs_spikes:
                    output.snnkd_sums = self._summed(output)  # type: ignore[attr-defined]
            elif once:
                self.counts.macs_once += macs(module, output, self._batch)
            else:
                self.counts.macs_per_step += macs(module, output, self._batch * self._T)

        return hook

    def _summed(self, spikes: Tensor) -> Tensor:
        """Sum over the batch per position, `[T, ...]`: near the border the fan-out is smaller."""
        spikes = spikes.detach()
        if spikes.element_size() < 4:  # bf16 is exact up to 256 only
            spikes = spikes.float()
        if spikes.ndim == 4:  # channels last, the memory order, makes the sum several times faster
            return spikes.permute(0, 2, 3, 1).unflatten(0, (self._T, -1)).sum(1).permute(0, 3, 1, 2)
        return spikes.unflatten(0, (self._T, -1)).sum(1)

    def _fan_out_of(self, name: str, module: Counted, x: Tensor) -> Tensor:
        key = name, tuple(x.shape[1:])
        if key not in self._fan_out:
            self._fan_out[key] = fan_out(module, x)
        return self._fan_out[key]


def fan_out(module: Counted, x: Tensor) -> Tensor:
    """Count the connections per input position of `x`, `[C, H, W]` (a scalar for Linear)."""
    if isinstance(module, Product):
        return module.synops_per_spike(x)
    if isinstance(module, nn.Linear):
        return torch.tensor(float(module.out_features), dtype=torch.float64, device=x.device)
    forward: Any = F.conv1d if isinstance(module, nn.Conv1d) else F.conv2d
    backward: Any = conv1d_input if isinstance(module, nn.Conv1d) else conv2d_input
    kernel = torch.ones_like(module.weight, dtype=torch.float64)
    geometry: tuple[Any, ...] = (module.stride, module.padding, module.dilation, module.groups)
    out = forward(torch.zeros(1, *x.shape[1:], dtype=torch.float64, device=x.device), kernel, None, *geometry)
    # the gradient of the output's sum counts the outputs that each input position reaches
    connections: Tensor = backward((1, *x.shape[1:]), kernel, torch.ones_like(out), *geometry)
    return connections[0]


def macs(module: Counted, output: Tensor, rows: int | None = None) -> int:
    """Count the MACs per row of `output`, including padding and excluding the bias, as is usual.

    `rows` is the number of images, or images x timesteps, of `output`: by default its first dimension, which
    is wrong for other layouts, such as `[T, B, C]`.
    """
    if isinstance(module, Product):
        return module.macs(output)
    per_element = (
        module.in_features
        if isinstance(module, nn.Linear)
        else module.in_channels // module.groups * math.prod(module.kernel_size)
    )
    return output.numel() * per_element // (rows or len(output))
