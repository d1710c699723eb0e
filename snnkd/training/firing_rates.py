"""How the neuron layers fare while training: silent ones teach nothing, saturated ones tell nothing apart."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from snnkd.models.activation import SpikingLayer

SATURATED = 0.95
"""Spikes per neuron and timestep above which a layer says hardly more than a constant."""


class LayerRates:
    """A context manager that notes the mean output of every neuron layer in the forward passes inside it."""

    def __init__(self, network: nn.Module) -> None:
        self._layers = {
            name: module for name, module in network.named_modules() if isinstance(module, SpikingLayer)
        }
        self._handles: list[Any] = []
        self._calls: dict[str, list[Tensor]] = {}
        self.found: dict[str, Tensor] = {}

    def __enter__(self) -> LayerRates:
        for name, module in self._layers.items():
            self._handles.append(module.register_forward_hook(self._note(name)))
        return self

    def _note(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, spikes: Tensor) -> None:
            self._calls.setdefault(name, []).append(spikes.detach().float().mean())
            self.found[name] = torch.stack(self._calls[name]).mean()  # a layer may be used twice

        return hook

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()


def silent_or_saturated(rates: Mapping[str, float]) -> dict[str, list[str]]:
    """Names of silent (rate 0) and saturated (above 0.95) layers; without those kinds that have none."""
    kinds = {
        "silent": [name for name, rate in rates.items() if rate == 0],
        "saturated": [name for name, rate in rates.items() if rate > SATURATED],
    }
    return {kind: names for kind, names in kinds.items() if names}


def warning(epoch: int, found: Mapping[str, list[str]]) -> str:
    """One line of at most three names a kind; `epoch` counts from 1."""
    said = []
    for kind, names in found.items():
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        said.append(f"{kind} layers (rate {'0' if kind == 'silent' else f'above {SATURATED}'}): {shown}")
    return f"warning: epoch {epoch}: " + ("; ".join(said) or "no layer is silent or saturated any more")
