"""The spiking neurons besides LIF, built on SpikingJelly's stateless functions.

Its multi-step function is used where there is one, otherwise its single-step function in a loop over
timesteps. PLIF: Fang et al. 2021 (arXiv 2007.05785). KLIF: Jiang & Zhang 2023 (arXiv 2302.09238). CLIF: Huang
et al. 2024 (arXiv 2402.04663). GLIF: Yao et al. 2022 (NeurIPS). PSN: Fang et al. 2023 (arXiv 2304.12760).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from snnkd.models.activation import (
    NeuronFunction,
    SpikingLayer,
    at_least_float32,
    initial_membrane,
    make_surrogate,
    reset_potential,
    without_autocast,
)
from snnkd.schema import neuron as schema


def _functional() -> Any:
    from spikingjelly.activation_based import functional  # late: see LIF

    return functional


def _run_steps(step: Callable[..., tuple[Tensor, ...]], wide: Tensor, *state: Tensor) -> Tensor:
    """Spikes of all timesteps, where `step(x, *state)` returns the spikes and next state of one."""
    spikes = []
    for x in wide:
        spike, *state = step(x, *state)  # type: ignore[assignment]
        spikes.append(spike)
    return torch.stack(spikes)


class PLIF(SpikingLayer):
    """Parametric LIF: the time constant 1 / sigmoid(w) is learned, one per layer."""

    def __init__(self, config: schema.PLIFConfig, T: int | None = None) -> None:
        super().__init__(config, T)
        self.w = nn.Parameter(torch.tensor(-math.log(config.tau - 1.0)))

    @staticmethod
    def dynamics(config: schema.PLIFConfig) -> NeuronFunction:
        run, surrogate, reset = _functional().plif_multi_step, make_surrogate(config), reset_potential(config)

        def spikes(x: Tensor, w: Tensor) -> Tensor:
            fired, _, _ = run(
                x, initial_membrane(x, reset), w, config.decay_input, config.threshold, reset, surrogate,
                config.detach_reset,
            )  # fmt: skip
            return cast(Tensor, fired.to(x.dtype))

        return spikes


class IF(SpikingLayer):
    """Integrate-and-fire: v <- v + x."""

    @staticmethod
    def dynamics(config: schema.IFConfig) -> NeuronFunction:
        run, surrogate, reset = _functional().if_multi_step, make_surrogate(config), reset_potential(config)

        def spikes(x: Tensor) -> Tensor:
            fired, _, _ = run(
                x, initial_membrane(x, reset), config.threshold, reset, surrogate, config.detach_reset
            )
            return cast(Tensor, fired.to(x.dtype))

        return spikes


class KLIF(SpikingLayer):
    """LIF that compares relu(k v) with the threshold instead of v; k is learned, one per layer."""

    def __init__(self, config: schema.KLIFConfig, T: int | None = None) -> None:
        super().__init__(config, T)
        self.k = nn.Parameter(torch.tensor(1.0))

    @staticmethod
    def dynamics(config: schema.KLIFConfig) -> NeuronFunction:
        run, surrogate, reset = _functional().klif_step, make_surrogate(config), reset_potential(config)
        c = config

        def spikes(x: Tensor, k: Tensor) -> Tensor:
            def step(now: Tensor, v: Tensor) -> tuple[Tensor, ...]:
                state: tuple[Tensor, ...] = run(
                    now, v, k, c.tau, c.decay_input, c.scale_reset, c.threshold, reset, surrogate,
                    c.detach_reset,
                )  # fmt: skip
                return state

            wide = at_least_float32(x)
            return _run_steps(step, wide, initial_membrane(wide, reset)).to(x.dtype)

        return spikes


class CLIF(SpikingLayer):
    """Complementary LIF: a second potential grows with spikes and strengthens the soft reset."""

    @staticmethod
    def dynamics(config: schema.CLIFConfig) -> NeuronFunction:
        run, surrogate = _functional().clif_step, make_surrogate(config)

        def step(now: Tensor, v: Tensor, m: Tensor) -> tuple[Tensor, ...]:
            state: tuple[Tensor, ...] = run(now, v, m, config.tau, config.threshold, surrogate)
            return state

        def spikes(x: Tensor) -> Tensor:
            wide = at_least_float32(x)
            return _run_steps(step, wide, torch.zeros_like(wide[0]), torch.zeros_like(wide[0])).to(x.dtype)

        return spikes


class CubaLIF(SpikingLayer):
    """Current-based LIF: c <- c_decay c + x, v <- v_decay v + c."""

    @staticmethod
    def dynamics(config: schema.CubaLIFConfig) -> NeuronFunction:
        run, surrogate, reset = _functional().cuba_lif_step, make_surrogate(config), reset_potential(config)

        def step(now: Tensor, current: Tensor, v: Tensor) -> tuple[Tensor, ...]:
            state: tuple[Tensor, ...] = run(
                now, current, v, config.c_decay, config.v_decay, config.threshold, reset, surrogate,
                config.detach_reset,
            )  # fmt: skip
            return state

        def spikes(x: Tensor) -> Tensor:
            wide = at_least_float32(x)
            return _run_steps(step, wide, torch.zeros_like(wide[0]), torch.zeros_like(wide[0])).to(x.dtype)

        return spikes


class GLIF(SpikingLayer):
    """Gated LIF with parameters per layer (not per channel), each the sigmoid of a learned number.

    The gates alpha, beta and gamma interpolate between exponential and linear decay, between the full input
    and a per-timestep share of it (`conduct`), and between hard and soft reset. They are initialised near 1/2
    by torch's generator.
    """

    def __init__(self, config: schema.GLIFConfig, T: int | None = None) -> None:
        super().__init__(config, T)
        assert T is not None, "glif has per-timestep parameters"
        for gate in ("alpha", "beta", "gamma"):
            self.register_parameter(gate, nn.Parameter(0.2 * (torch.rand(()) - 0.5)))
        threshold = config.init_threshold
        initial = {
            "tau": config.init_tau,
            "v_threshold": threshold,
            "linear_decay": threshold / (2 * T),
            "v_subreset": threshold,
        }
        for name, value in initial.items():
            self.register_parameter(name, nn.Parameter(torch.tensor(_logit(value))))
        self.conduct = nn.Parameter(torch.full((T,), _logit(config.init_conduct)))

    @staticmethod
    def dynamics(config: schema.GLIFConfig) -> NeuronFunction:
        run, surrogate = _functional().gated_lif_step, make_surrogate(config)

        def spikes(x: Tensor, *learned: Tensor) -> Tensor:
            wide = at_least_float32(x)
            *numbers, conduct = (value.sigmoid() for value in learned)
            spike = v = torch.zeros_like(wide[0])
            fired = []
            for t in range(len(wide)):
                spike, v = run(wide[t], v, spike, *numbers, conduct[t], surrogate)
                fired.append(spike)
            return torch.stack(fired).to(x.dtype)

        return spikes


def _logit(p: float) -> float:
    return -math.log(1 / p - 1)


def _single_membrane(run: Any, reset: float | None, settings: tuple[Any, ...]) -> NeuronFunction:
    """SpikingJelly's `run(x, membrane, *settings)` of a neuron whose only state is the membrane."""

    def spikes(x: Tensor) -> Tensor:
        fired, *_ = run(x, initial_membrane(x, reset), *settings)
        return cast(Tensor, fired.to(x.dtype))

    return spikes


class QIF(SpikingLayer):
    """Quadratic integrate-and-fire: v <- v + (x + a0 (v - v_rest)(v - v_c)) / tau."""

    @staticmethod
    def dynamics(config: schema.QIFConfig) -> NeuronFunction:
        c, reset = config, reset_potential(config)
        settings = (c.tau, c.threshold, reset, c.v_rest, c.v_c, c.a0, c.detach_reset, make_surrogate(c))
        return _single_membrane(_functional().qif_multi_step, reset, settings)


class EIF(SpikingLayer):
    """Exponential IF: v <- v + (x + v_rest - v + d exp((v - theta_rh) / d)) / tau, d = delta_T."""

    @staticmethod
    def dynamics(config: schema.EIFConfig) -> NeuronFunction:
        c, reset = config, reset_potential(config)
        settings = (
            c.tau,
            c.threshold,
            reset,
            c.v_rest,
            c.theta_rh,
            c.delta_T,
            c.detach_reset,
            make_surrogate(c),
        )
        return _single_membrane(_functional().eif_multi_step, reset, settings)


class Izhikevich(SpikingLayer):
    """QIF with a recovery variable w: 0 at first, driven by the membrane, raised by spikes, lowering v."""

    @staticmethod
    def dynamics(config: schema.IzhikevichConfig) -> NeuronFunction:
        run, surrogate, reset = (
            _functional().izhikevich_multi_step,
            make_surrogate(config),
            reset_potential(config),
        )
        c = config

        def spikes(x: Tensor) -> Tensor:
            fired, *_ = run(
                x, initial_membrane(x, reset), initial_membrane(x), c.tau, c.threshold, reset,
                c.v_rest, c.a, c.b, c.tau_w, c.v_c, c.a0, c.detach_reset, surrogate,
            )  # fmt: skip
            return fired.to(x.dtype)

        return spikes


class PSN(SpikingLayer):
    """Parallel spiking neuron: fires where W x + b >= 0, W `[T, T]` and b `[T, 1]` learned; no membrane.

    With fewer timesteps it uses the first rows and columns, so that a network can be tried at T = 1;
    evaluating a trained network so is refused (`catalog.neurons.check_timesteps`).
    """

    def __init__(self, config: schema.PSNConfig, T: int | None = None) -> None:
        super().__init__(config, T)
        assert T is not None, f"{config.name} has per-timestep weights"
        self.weight = nn.Parameter(torch.empty(T, T))
        self.bias = nn.Parameter(torch.full((T, 1), -1.0))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    @staticmethod
    def dynamics(config: schema.PSNConfig) -> NeuronFunction:
        surrogate = make_surrogate(config)

        def spikes(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            T = len(x)
            return _fire_weighted(x, weight[:T, :T], bias[:T], surrogate)

        return spikes


class MaskedPSN(PSN):
    """PSN over the current and the k - 1 previous timesteps: SpikingJelly's with lambda = 1 throughout."""

    @staticmethod
    def dynamics(config: schema.WindowPSNConfig) -> NeuronFunction:  # type: ignore[override]
        surrogate, k = make_surrogate(config), config.k

        def spikes(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            T = len(x)
            return _fire_weighted(x, weight[:T, :T].tril().triu(1 - k), bias[:T], surrogate)

        return spikes


class SlidingPSN(SpikingLayer):
    """PSN with k weights shared by all timesteps, initially ..., 1/4, 1/2, 1; the last is the current's."""

    def __init__(self, config: schema.WindowPSNConfig, T: int | None = None) -> None:
        super().__init__(config, T)
        self.weight = nn.Parameter(0.5 ** torch.arange(config.k - 1, -1, -1, dtype=torch.float32))
        self.bias = nn.Parameter(torch.tensor(-1.0))

    @staticmethod
    def dynamics(config: schema.WindowPSNConfig) -> NeuronFunction:
        surrogate, k = make_surrogate(config), config.k

        def spikes(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            T = len(x)
            # row t: the last weights end at column t
            rows = [
                torch.cat(
                    [
                        weight.new_zeros(max(0, t + 1 - k)),
                        weight[max(0, k - t - 1) :],
                        weight.new_zeros(T - t - 1),
                    ]
                )
                for t in range(T)
            ]
            return _fire_weighted(x, torch.stack(rows), bias, surrogate)

        return spikes


def _fire_weighted(x: Tensor, weight: Tensor, bias: Tensor, surrogate: Callable[[Tensor], Tensor]) -> Tensor:
    wide = at_least_float32(x)
    with without_autocast(x.device):
        potential = torch.addmm(bias.to(wide.dtype), weight.to(wide.dtype), wide)
    return surrogate(potential).to(x.dtype)
