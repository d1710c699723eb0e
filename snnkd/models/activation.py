"""Activations that a network is built with: modules `forward(x [T*B, ...], T) -> [T*B, ...]`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from snnkd.catalog.neurons import NEURONS, SURROGATES, check_timesteps, most_timesteps
from snnkd.schema.fields import to_plain
from snnkd.schema.neuron import AnyNeuron, NeuronConfig

Activation = Callable[[], nn.Module]
"""Builds one activation module `forward(x [T*B, ...], T) -> [T*B, ...]`."""
NeuronFunction = Callable[..., Tensor]
"""Stateless neuron: input currents `[T, N]`, then the layer's learned parameters, to spikes `[T, N]`."""
RECOMPILE_LIMIT = 256
"""Compiled versions of one neuron: one for each T and dtype, with and without gradient."""


class ReLU(nn.Module):
    """The ANN's activation; timesteps only enlarge the batch."""

    def forward(self, x: Tensor, T: int) -> Tensor:
        return torch.relu(x)


class SpikingLayer(nn.Module):
    """Layer of spiking neurons configured by a `neuron:` section; subclasses define dynamics and parameters.

    Each call starts from a fresh state, so there is nothing to reset between batches. The state is float32
    (also under bf16 autocast) or float64. Spikes are 0 or 1, in the dtype and memory layout of the input.
    """

    def __init__(self, config: AnyNeuron, T: int | None = None) -> None:
        """`T` is the number of training timesteps; neurons with per-timestep parameters need it."""
        super().__init__()
        self.config = config
        self.max_timesteps = None if T is None else most_timesteps(config, T)
        """Largest T that the layer can run; None for no limit."""
        self._function = neuron_function(config)

    @staticmethod
    def dynamics(config: Any) -> NeuronFunction:
        """The neuron as a stateless function."""
        raise NotImplementedError

    def forward(self, x: Tensor, T: int) -> Tensor:
        if self.max_timesteps is not None and self.max_timesteps < T:
            check_timesteps(self.config, self.max_timesteps, T, f"T = {T}")
        return _restore_layout(self._function(_flatten_neurons(x, T), *self.parameters(recurse=False)), x)

    def use_compiled(self, on: bool) -> None:
        """Switch torch.compile on or off; compiled, all timesteps are fused into one pass over memory."""
        self._function = _compiled_function(self.config) if on else neuron_function(self.config)

    def __getstate__(self) -> dict[str, Any]:
        # the closure cannot be pickled; __setstate__ creates it again
        return {key: value for key, value in self.__dict__.items() if key != "_function"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._function = neuron_function(self.config)

    def extra_repr(self) -> str:
        return ", ".join(f"{key}={value}" for key, value in to_plain(self.config).items())


class LIF(SpikingLayer):
    """Leaky integrate-and-fire by SpikingJelly's stateless `lif_multi_step`; the membrane starts at 0."""

    @staticmethod
    def dynamics(config: NeuronConfig) -> NeuronFunction:
        # imported late: spikingjelly takes two seconds, and an ANN teacher does not need it
        from spikingjelly.activation_based import functional

        surrogate, reset = make_surrogate(config), reset_potential(config)
        tau, decay_input = config.tau, config.decay_input
        threshold, detach_reset = config.threshold, config.detach_reset

        def spikes(x: Tensor) -> Tensor:
            fired, _, _ = functional.lif_multi_step(
                x,
                initial_membrane(x),
                tau=tau,
                decay_input=decay_input,
                v_threshold=threshold,
                v_reset=reset,
                surrogate_function=surrogate,
                detach_reset=detach_reset,
            )
            return fired.to(x.dtype)

        return spikes


def make_surrogate(config: Any) -> Any:
    """The Heaviside step with the configured surrogate gradient."""
    return SURROGATES[config.surrogate].load()(alpha=config.alpha)


def reset_potential(config: Any) -> float | None:
    """SpikingJelly's v_reset: the potential after a hard reset, None for a soft reset."""
    return getattr(config, "v_reset", 0.0) if config.reset == "hard" else None


def initial_membrane(x: Tensor, potential: float | None = 0.0) -> Tensor:
    """Initial membrane `[N]` for inputs `[T, N]`, at least float32: half precision would lose small inputs.

    A `potential` of None (soft reset) is 0. SpikingJelly's multi-step functions accept half-precision inputs
    with it; converting the inputs would double the memory traffic, which dominates a neuron's time on a GPU.
    """
    return torch.full_like(x[0], potential or 0.0, dtype=torch.promote_types(x.dtype, torch.float32))


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision to float32; float32 and float64 unchanged."""
    return x if x.element_size() >= 4 else x.float()


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Disable autocast: half precision cannot represent sums of spikes and membranes."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def make_neuron(config: AnyNeuron, T: int | None = None) -> SpikingLayer:
    """A layer of the neurons that `config` describes, for `T` training timesteps."""
    layer: SpikingLayer = NEURONS[config.name].load()(config, T)
    return layer


def neuron_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """The learned parameters of the spiking layers in `network`, by name."""
    layers = {name: module for name, module in network.named_modules() if isinstance(module, SpikingLayer)}
    return {
        f"{name}.{key}" if name else key: p
        for name, layer in layers.items()
        for key, p in layer.named_parameters(recurse=False)
    }


def _flatten_neurons(x: Tensor, T: int) -> Tensor:
    """`[T*B, ...]` as `[T, N]` in memory order, without a copy; neurons are independent of each other."""
    return (x.permute(0, 2, 3, 1) if _is_channels_last(x) else x).reshape(T, -1)


def _restore_layout(flat: Tensor, x: Tensor) -> Tensor:
    """The inverse of `_flatten_neurons`: `[T, N]` in the shape and layout of `x`."""
    if not _is_channels_last(x):
        return flat.view(x.shape)
    count, channels, height, width = x.shape
    return flat.view(count, height, width, channels).permute(0, 3, 1, 2)


def _is_channels_last(x: Tensor) -> bool:
    return x.ndim == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


@cache
def neuron_function(config: AnyNeuron) -> NeuronFunction:
    """The neuron as a function; cached, so that all layers of one configuration share compiled code."""
    function: NeuronFunction = NEURONS[config.name].load().dynamics(config)
    return function


def configure_compiler() -> None:
    """Set torch.compile's logging and recompile limit."""
    # its import warns that CUDA is configured but missing, which does not matter here
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    # above torch's default of 8, torch would silently run uncompiled code, whose last bits differ
    torch._dynamo.config.recompile_limit = max(RECOMPILE_LIMIT, torch._dynamo.config.recompile_limit)


@cache
def _compiled_function(config: AnyNeuron) -> NeuronFunction:
    configure_compiler()
    # dynamic in N: one compilation serves layers of every size
    compiled: NeuronFunction = torch.compile(neuron_function(config), dynamic=True)
    return compiled
