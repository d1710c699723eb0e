"""Activations that a topology takes as a factory. Each maps `[T*B, ...]` to the same shape, told T."""

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
"""Makes one activation module `forward(x [T*B, ...], T) -> [T*B, ...]`."""
RECOMPILE_LIMIT = 256
"""Versions of one neuron: for each T and type, with and without gradient."""


class ReLU(nn.Module):
    """The ANN's activation; timesteps are just more images to it."""

    def forward(self, x: Tensor, T: int) -> Tensor:
        return torch.relu(x)


Spikes = Callable[..., Tensor]
"""Input currents `[T, N]`, then what the layer has learned, to spikes `[T, N]`; the state is new in every call."""


class SpikingLayer(nn.Module):
    """A layer of spiking neurons, told apart by their `neuron:` section; subclasses say how they spike and what they learn.

    Every call starts from a new state in float32 (under bf16 autocast too; float64 is kept), so that no state outlives a batch
    and there is nothing to reset. Spikes are 0 or 1 and come in the type and memory layout of the input.
    """

    def __init__(self, config: AnyNeuron, T: int | None = None) -> None:
        """`T` is for how many timesteps the layer is trained; neurons that learn numbers for each need it."""
        super().__init__()
        self.config = config
        self.max_timesteps = None if T is None else most_timesteps(config, T)
        """For how many timesteps it can run; None for any."""
        self._spikes = neuron_function(config)

    @staticmethod
    def dynamics(config: Any) -> Spikes:
        """The neuron as a function."""
        raise NotImplementedError

    def forward(self, x: Tensor, T: int) -> Tensor:
        if self.max_timesteps is not None and self.max_timesteps < T:
            check_timesteps(self.config, self.max_timesteps, T, f"T = {T}")
        return _like(self._spikes(_rows(x, T), *self.parameters(recurse=False)), x)

    def compiled(self, on: bool) -> None:
        """Run by torch.compile, which fuses all timesteps into one pass over memory, or plainly."""
        self._spikes = _compiled(self.config) if on else neuron_function(self.config)

    def __getstate__(self) -> dict[str, Any]:
        return {
            key: value for key, value in self.__dict__.items() if key != "_spikes"
        }  # a function made in another cannot be pickled

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._spikes = neuron_function(self.config)

    def extra_repr(self) -> str:
        return ", ".join(f"{key}={value}" for key, value in to_plain(self.config).items())


class LIF(SpikingLayer):
    """Leaky integrate-and-fire through SpikingJelly's stateless `lif_multi_step`, the membrane being 0 before the first input."""

    @staticmethod
    def dynamics(config: NeuronConfig) -> Spikes:
        # late: spikingjelly takes two seconds to import, and an ANN teacher needs none of it
        from spikingjelly.activation_based import functional

        shape, reset = make_surrogate(config), reset_potential(config)
        tau, decay_input, threshold, detach_reset = (
            config.tau,
            config.decay_input,
            config.threshold,
            config.detach_reset,
        )

        def spikes(x: Tensor) -> Tensor:
            fired, _, _ = functional.lif_multi_step(
                x,
                membrane(x),
                tau=tau,
                decay_input=decay_input,
                v_threshold=threshold,
                v_reset=reset,
                surrogate_function=shape,
                detach_reset=detach_reset,
            )
            return fired.to(x.dtype)

        return spikes


def make_surrogate(config: Any) -> Any:
    """The step function with the surrogate's derivative."""
    return SURROGATES[config.surrogate].load()(alpha=config.alpha)


def reset_potential(config: Any) -> float | None:
    """What SpikingJelly calls v_reset: the potential that a hard reset sets, None for a soft one."""
    return getattr(config, "v_reset", 0.0) if config.reset == "hard" else None


def membrane(x: Tensor, potential: float = 0.0) -> Tensor:
    """A membrane `[N]` before the first of the inputs `[T, N]`, in float32 at least: in half precision it would forget small inputs.

    SpikingJelly's functions over all timesteps take inputs in half precision beside it: a copy of them in float32 would be
    twice the memory to move, of which a neuron on a GPU does little else.
    """
    return torch.full_like(x[0], potential, dtype=torch.promote_types(x.dtype, torch.float32))


def at_least_float32(x: Tensor) -> Tensor:
    """In float32 at least, for what is computed with the type of its input."""
    return x if x.element_size() >= 4 else x.float()


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """No autocast inside: sums of spikes and membranes are more than half precision can hold."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def make_neuron(config: AnyNeuron, T: int | None = None) -> SpikingLayer:
    """A layer of the neurons that `config` describes."""
    made: SpikingLayer = NEURONS[config.name].load()(config, T)
    return made


def neuron_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of the spiking layers in `network`, by name."""
    layers = {name: module for name, module in network.named_modules() if isinstance(module, SpikingLayer)}
    return {
        f"{name}.{key}" if name else key: p
        for name, layer in layers.items()
        for key, p in layer.named_parameters(recurse=False)
    }


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
def neuron_function(config: AnyNeuron) -> Spikes:
    """The neuron as a function; one a configuration, so that all its layers share what is compiled."""
    made: Spikes = NEURONS[config.name].load().dynamics(config)
    return made


def configure_compiler() -> None:
    """Set torch's compiler up for a job."""
    # its import says without need that CUDA is configured but not there
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    # above the 8 of torch's default, beyond which it would go on uncompiled, with other last bits
    torch._dynamo.config.recompile_limit = max(RECOMPILE_LIMIT, torch._dynamo.config.recompile_limit)


@cache
def _compiled(config: AnyNeuron) -> Spikes:
    configure_compiler()
    # dynamic in N: one compilation serves the layers of every size
    made: Spikes = torch.compile(neuron_function(config), dynamic=True)
    return made
