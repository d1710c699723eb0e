"""Activations that a topology takes as a factory. Each maps `[T*B, ...]` to the same shape, told T."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from snnkd.recipe.schema import NeuronConfig

Activation = Callable[[], nn.Module]
"""Makes one activation module `forward(x [T*B, ...], T) -> [T*B, ...]`."""


class ReLU(nn.Module):
    """The ANN's activation; timesteps are just more images to it."""

    def forward(self, x: Tensor, T: int) -> Tensor:
        return torch.relu(x)


class LIF(nn.Module):
    """Leaky integrate-and-fire through SpikingJelly's stateless `lif_multi_step`.

    Every call starts from a membrane of zeros in float32 (under bf16 autocast too; float64 is kept), so that no state outlives a batch
    and there is nothing to reset.
    """

    def __init__(self, config: NeuronConfig) -> None:
        super().__init__()
        # late: spikingjelly takes two seconds to import, and an ANN teacher needs none of it
        from spikingjelly.activation_based import functional, surrogate

        shapes: dict[str, Any] = {"sigmoid": surrogate.Sigmoid, "atan": surrogate.ATan}
        self._step = functional.lif_multi_step
        self._surrogate = shapes[config.surrogate](alpha=config.alpha)
        self._config = config

    def forward(self, x: Tensor, T: int) -> Tensor:
        sequence = (x if x.element_size() >= 4 else x.float()).unflatten(0, (T, -1))
        membrane = torch.zeros_like(sequence[0])
        config = self._config
        spikes, _, _ = self._step(
            sequence,
            membrane,
            tau=config.tau,
            decay_input=config.decay_input,
            v_threshold=config.threshold,
            v_reset=0.0 if config.reset == "hard" else None,
            surrogate_function=self._surrogate,
            detach_reset=config.detach_reset,
        )
        out: Tensor = spikes.flatten(0, 1)
        return out

    def extra_repr(self) -> str:
        return f"tau={self._config.tau}, threshold={self._config.threshold}, reset={self._config.reset}"
