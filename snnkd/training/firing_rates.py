"""Firing rates in training: silent layers pass no gradient, saturated layers no information."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from snnkd.console import Console
from snnkd.models.activation import SpikingLayer

SATURATED = 0.95
"""Spikes per neuron and timestep above which a layer is almost constant."""


@contextmanager
def watch(network: nn.Module, on: bool = True) -> Iterator[dict[str, Tensor]]:
    """Record the firing rate of each spiking layer, by name, in the forward passes inside; only if `on`."""
    calls: dict[str, list[Tensor]] = {}
    rates: dict[str, Tensor] = {}

    def hook(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def record(module: nn.Module, inputs: object, spikes: Tensor) -> None:
            calls.setdefault(name, []).append(spikes.detach().float().mean())
            rates[name] = torch.stack(calls[name]).mean()  # a layer may be used twice

        return record

    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, SpikingLayer)]
    handles = [layer.register_forward_hook(hook(name)) for name, layer in layers] if on else []
    try:
        yield rates
    finally:
        for handle in handles:
            handle.remove()


def silent_or_saturated(rates: Mapping[str, float]) -> dict[str, list[str]]:
    """Names of silent (rate 0) and saturated (above 0.95) layers; a kind without layers is omitted."""
    kinds = {
        "silent": [name for name, rate in rates.items() if rate == 0],
        "saturated": [name for name, rate in rates.items() if rate > SATURATED],
    }
    return {kind: names for kind, names in kinds.items() if names}


def warn(
    rates: Mapping[str, float], previous: dict[str, list[str]], epoch: int, console: Console
) -> dict[str, list[str]]:
    """Log the silent and saturated layers if they differ from `previous`; return them. `epoch` is from 0."""
    layers = silent_or_saturated(rates)
    if layers != previous:
        console.log(warning(epoch + 1, layers))
    return layers


def warning(epoch: int, layers: Mapping[str, list[str]]) -> str:
    """The log line, with at most three names of each kind; `epoch` is from 1."""
    parts = []
    for kind, names in layers.items():
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        parts.append(f"{kind} layers (rate {'0' if kind == 'silent' else f'above {SATURATED}'}): {shown}")
    return f"warning: epoch {epoch}: " + ("; ".join(parts) or "no layer is silent or saturated any more")
