"""Activations that a topology takes as a factory. Each maps `[T*B, ...]` to the same shape, told T."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from snnkd.recipe.model_schema import NeuronConfig

Activation = Callable[[], nn.Module]
"""Makes one activation module `forward(x [T*B, ...], T) -> [T*B, ...]`."""
MOST_COMPILED = 256
"""Versions of one neuron: for each T and type, with and without gradient."""


class ReLU(nn.Module):
    """The ANN's activation; timesteps are just more images to it."""

    def forward(self, x: Tensor, T: int) -> Tensor:
        return torch.relu(x)


Spikes = Callable[[Tensor], Tensor]
"""Input currents `[T, N]` to spikes `[T, N]`, the membrane being 0 before the first."""


class LIF(nn.Module):
    """Leaky integrate-and-fire through SpikingJelly's stateless `lif_multi_step`.

    Every call starts from a membrane of zeros in float32 (under bf16 autocast too; float64 is kept), so that no state outlives a batch
    and there is nothing to reset. Spikes come in the type and memory layout of the input.
    """

    def __init__(self, config: NeuronConfig) -> None:
        super().__init__()
        self.config = config
        self._spikes = spikes_of(config)

    def forward(self, x: Tensor, T: int) -> Tensor:
        return _like(self._spikes(_rows(x, T)), x)

    def compiled(self, on: bool) -> None:
        """Run by torch.compile, which fuses all timesteps into one pass over memory, or plainly."""
        self._spikes = _compiled(self.config) if on else spikes_of(self.config)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_spikes"}  # a function made in another cannot be pickled

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._spikes = spikes_of(self.config)

    def extra_repr(self) -> str:
        return f"tau={self.config.tau}, threshold={self.config.threshold}, reset={self.config.reset}"


def _rows(x: Tensor, T: int) -> Tensor:
    """`[T*B, ...]` as `[T, N]` in the order of its memory: a neuron does not look at its neighbours, and nothing is copied."""
    return (x.permute(0, 2, 3, 1) if _is_channels_last(x) else x).reshape(T, -1)


def _like(rows: Tensor, x: Tensor) -> Tensor:
    """The inverse of `_rows`: of the shape and layout of `x`."""
    if not _is_channels_last(x):
        return rows.view(x.shape)
    count, channels, height, width = x.shape
    return rows.view(count, height, width, channels).permute(0, 3, 1, 2)


def _is_channels_last(x: Tensor) -> bool:
    return x.ndim == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


@cache
def spikes_of(config: NeuronConfig) -> Spikes:
    """The neuron as a function; one a configuration, so that all its layers share what is compiled."""
    # late: spikingjelly takes two seconds to import, and an ANN teacher needs none of it
    from spikingjelly.activation_based import functional, surrogate

    shapes: dict[str, Any] = {"sigmoid": surrogate.Sigmoid, "atan": surrogate.ATan}
    shape = shapes[config.surrogate](alpha=config.alpha)
    tau, decay_input, threshold, detach_reset = config.tau, config.decay_input, config.threshold, config.detach_reset
    reset = 0.0 if config.reset == "hard" else None

    def spikes(x: Tensor) -> Tensor:
        wide = x if x.element_size() >= 4 else x.float()
        fired, _, _ = functional.lif_multi_step(
            wide,
            torch.zeros_like(wide[0]),
            tau=tau,
            decay_input=decay_input,
            v_threshold=threshold,
            v_reset=reset,
            surrogate_function=shape,
            detach_reset=detach_reset,
        )
        return fired.to(x.dtype)

    return spikes


def ready_compiler() -> None:
    """Set torch's compiler up for a job."""
    # its import says without need that CUDA is configured but not there
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    # above the 8 of torch's default, beyond which it would go on uncompiled, with other last bits
    torch._dynamo.config.recompile_limit = max(MOST_COMPILED, torch._dynamo.config.recompile_limit)


@cache
def _compiled(config: NeuronConfig) -> Spikes:
    ready_compiler()
    # dynamic in N: one compilation serves the layers of every size
    made: Spikes = torch.compile(spikes_of(config), dynamic=True)
    return made
