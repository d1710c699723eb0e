"""Counting operations by hooks: spikes of each neuron layer, synaptic operations and MACs of each weight
layer.

A synaptic operation is one spike arriving over one connection that really exists: a spike near the border has
fewer
connections, since padding does not count. A weight layer counts SynOps when its input comes straight from a
neuron
layer; any other input (the image, an average or a sum of spikes) makes MACs. The products of attention have
no weights:
models/attention.py says what a spike costs there. Event frames hold counts, not spikes: the first
layer makes MACs there too, at every timestep.
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
    """Sums over all images seen. Per timestep tensors have length T; MACs are per image."""

    images: int = 0
    spikes: dict[str, Tensor] = field(default_factory=dict)
    """Spikes by neuron layer, `[T]`."""
    neurons: dict[str, int] = field(default_factory=dict)
    """Neurons by neuron layer."""
    synops: Tensor | None = None
    """Synaptic operations, `[T]`, summed over layers; None without a neuron layer."""
    macs_once: int = 0
    """Per image, of layers computed once for all timesteps."""
    macs_per_step: int = 0
    """Per image and timestep."""

    def rates(self) -> dict[str, float]:
        """Mean spikes per neuron per timestep of each layer."""
        return {
            name: float(s.sum()) / (self.images * self.neurons[name] * len(s))
            for name, s in self.spikes.items()
        }

    def rate(self) -> float | None:
        """Mean over all neurons, 0..1; None for an ANN."""
        if not self.spikes:
            return None
        timesteps = len(next(iter(self.spikes.values())))
        total = sum(float(s.sum()) for s in self.spikes.values())
        return total / (self.images * sum(self.neurons.values()) * timesteps)


def merged(parts: Sequence[Counts]) -> Counts:
    """What several processes counted on their images, as one; MACs are per image and the same in all that saw
    any."""
    if len(parts) == 1:
        return parts[0]
    seen = [part for part in parts if part.images]
    first = seen[0]
    synops = [part.synops for part in seen if part.synops is not None]
    return Counts(
        images=sum(part.images for part in seen),
        spikes={name: torch.stack([part.spikes[name] for part in seen]).sum(0) for name in first.spikes},
        neurons=first.neurons,
        synops=torch.stack(synops).sum(0) if synops else None,
        macs_once=first.macs_once,
        macs_per_step=first.macs_per_step,
    )


class Counter:
    """A context manager that counts while `network` runs forward; read `counts` afterwards."""

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
        self._batch = (inputs[0] if inputs else named["images"]).shape[
            -4
        ]  # [B, C, H, W], or event frames [T, B, C, H, W]
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
                found = (sums.double() * self._reach(name, module, inputs[0])).flatten(1).sum(1).cpu()
                self.counts.synops = found if self.counts.synops is None else self.counts.synops + found
                if isinstance(module, Product) and module.outputs_spikes:
                    output.snnkd_sums = self._summed(output)  # type: ignore[attr-defined]
            elif once:
                self.counts.macs_once += macs(module, output, self._batch)
            else:
                self.counts.macs_per_step += macs(module, output, self._batch * self._T)

        return hook

    def _summed(self, spikes: Tensor) -> Tensor:
        """Over the images of the batch, `[T, ...]`, kept per position: the border decides how far a spike
        reaches."""
        wide = (
            spikes.detach() if spikes.element_size() >= 4 else spikes.detach().float()
        )  # bf16 counts to 256
        if wide.ndim == 4:  # in the order of memory, channels last, where a sum is several times as fast
            return wide.permute(0, 2, 3, 1).unflatten(0, (self._T, -1)).sum(1).permute(0, 3, 1, 2)
        return wide.unflatten(0, (self._T, -1)).sum(1)

    def _reach(self, name: str, module: Counted, x: Tensor) -> Tensor:
        key = name, tuple(x.shape[1:])
        if key not in self._fan_out:
            self._fan_out[key] = fan_out(module, x)
        return self._fan_out[key]


def fan_out(module: Counted, x: Tensor) -> Tensor:
    """How many connections each input position has, `[C, H, W]` (or a scalar for Linear), for inputs shaped
    as `x`."""
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
    reach: Tensor = backward((1, *x.shape[1:]), kernel, torch.ones_like(out), *geometry)
    return reach[0]


def macs(module: Counted, output: Tensor, rows: int | None = None) -> int:
    """Multiply-accumulates per row of `output`, padding included, as the field counts them (bias left out).

    `rows` is how many images, or images x timesteps, `output` is of: its own rows unless it is laid out
    otherwise, as `[T, B, C]`.
    """
    if isinstance(module, Product):
        return module.macs(output)
    # of each number of the output
    each = (
        module.in_features
        if isinstance(module, nn.Linear)
        else module.in_channels // module.groups * math.prod(module.kernel_size)
    )
    return output.numel() * each // (rows or len(output))
