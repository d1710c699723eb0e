"""The spiking neurons besides LIF, each through SpikingJelly's stateless functions; all are layers of `Spiking`.

Where SpikingJelly has a function over all timesteps it is called, elsewhere its function of one timestep in a loop.
PLIF: Fang et al. 2021 (arXiv 2007.05785). KLIF: Jiang & Zhang 2023 (arXiv 2302.09238). CLIF: Huang et al. 2024
(arXiv 2402.04663). GLIF: Yao et al. 2022 (NeurIPS). PSN: Fang et al. 2023 (arXiv 2304.12760).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from snnkd.models.activation import (
    Spikes,
    SpikingLayer,
    at_least_float32,
    make_surrogate,
    membrane,
    reset_potential,
    without_autocast,
)
from snnkd.schema import neuron as schema


def _functional() -> Any:
    from spikingjelly.activation_based import functional  # late: see LIF

    return functional


def _beginning(x: Tensor, reset: float | None) -> Tensor:
    """The membrane before the first input: at the potential that a hard reset sets, at 0 with a soft one."""
    return membrane(x, reset or 0.0)


def _in_turn(step: Callable[..., tuple[Tensor, ...]], wide: Tensor, *state: Tensor) -> Tensor:
    """Timestep after timestep: `step(x, *state)` gives spikes and the next state."""
    fired = []
    for x in wide:
        spike, *state = step(x, *state)  # type: ignore[assignment]
        fired.append(spike)
    return torch.stack(fired)


class PLIF(SpikingLayer):
    """LIF whose time constant 1 / sigmoid(w) is learned, one a layer."""

    def __init__(self, config: schema.PLIFConfig, T: int | None = None) -> None:
        super().__init__(config, T)
        self.w = nn.Parameter(torch.tensor(-math.log(config.tau - 1.0)))

    @staticmethod
    def dynamics(config: schema.PLIFConfig) -> Spikes:
        run, shape, reset = _functional().plif_multi_step, make_surrogate(config), reset_potential(config)

        def spikes(x: Tensor, w: Tensor) -> Tensor:
            fired, _, _ = run(
                x, _beginning(x, reset), w, config.decay_input, config.threshold, reset, shape, config.detach_reset
            )  # fmt: skip
            return cast(Tensor, fired.to(x.dtype))

        return spikes


class IF(SpikingLayer):
    """Integrate-and-fire: v <- v + x."""

    @staticmethod
    def dynamics(config: schema.IFConfig) -> Spikes:
        run, shape, reset = _functional().if_multi_step, make_surrogate(config), reset_potential(config)

        def spikes(x: Tensor) -> Tensor:
            fired, _, _ = run(x, _beginning(x, reset), config.threshold, reset, shape, config.detach_reset)
            return cast(Tensor, fired.to(x.dtype))

        return spikes


class KLIF(SpikingLayer):
    """LIF whose membrane potential becomes relu(k v) before it meets the threshold; k is learned, one a layer."""

    def __init__(self, config: schema.KLIFConfig, T: int | None = None) -> None:
        super().__init__(config, T)
        self.k = nn.Parameter(torch.tensor(1.0))

    @staticmethod
    def dynamics(config: schema.KLIFConfig) -> Spikes:
        run, shape, reset = _functional().klif_step, make_surrogate(config), reset_potential(config)
        c = config

        def spikes(x: Tensor, k: Tensor) -> Tensor:
            def step(now: Tensor, v: Tensor) -> tuple[Tensor, ...]:
                made: tuple[Tensor, ...] = run(
                    now, v, k, c.tau, c.decay_input, c.scale_reset, c.threshold, reset, shape, c.detach_reset
                )  # fmt: skip
                return made

            wide = at_least_float32(x)
            return _in_turn(step, wide, _beginning(wide, reset)).to(x.dtype)

        return spikes


class CLIF(SpikingLayer):
    """LIF with a complementary membrane, which rises with spikes and adds to the soft reset."""

    @staticmethod
    def dynamics(config: schema.CLIFConfig) -> Spikes:
        run, shape = _functional().clif_step, make_surrogate(config)

        def step(now: Tensor, v: Tensor, m: Tensor) -> tuple[Tensor, ...]:
            made: tuple[Tensor, ...] = run(now, v, m, config.tau, config.threshold, shape)
            return made

        def spikes(x: Tensor) -> Tensor:
            wide = at_least_float32(x)
            return _in_turn(step, wide, torch.zeros_like(wide[0]), torch.zeros_like(wide[0])).to(x.dtype)

        return spikes


class CubaLIF(SpikingLayer):
    """Current-based LIF: c <- c_decay c + x, v <- v_decay v + c."""

    @staticmethod
    def dynamics(config: schema.CubaLIFConfig) -> Spikes:
        run, shape, reset = _functional().cuba_lif_step, make_surrogate(config), reset_potential(config)

        def step(now: Tensor, current: Tensor, v: Tensor) -> tuple[Tensor, ...]:
            made: tuple[Tensor, ...] = run(
                now, current, v, config.c_decay, config.v_decay, config.threshold, reset, shape, config.detach_reset
            )  # fmt: skip
            return made

        def spikes(x: Tensor) -> Tensor:
            wide = at_least_float32(x)
            return _in_turn(step, wide, torch.zeros_like(wide[0]), torch.zeros_like(wide[0])).to(x.dtype)

        return spikes


class GLIF(SpikingLayer):
    """Gated LIF, of each layer (not of each channel): every number is the sigmoid of a learned one.

    Gates alpha, beta, gamma mix exponential with linear decay, all of the input with a part of each timestep's own
    (`conduct`), and hard with soft reset. They begin near one half, drawn by torch's generator.
    """

    def __init__(self, config: schema.GLIFConfig, T: int | None = None) -> None:
        super().__init__(config, T)
        assert T is not None, "glif learns a number for each timestep"
        for gate in ("alpha", "beta", "gamma"):
            self.register_parameter(gate, nn.Parameter(0.2 * (torch.rand(()) - 0.5)))
        threshold = config.init_threshold
        beginnings = {
            "tau": config.init_tau,
            "v_threshold": threshold,
            "linear_decay": threshold / (2 * T),
            "v_subreset": threshold,
        }
        for name, value in beginnings.items():
            self.register_parameter(name, nn.Parameter(torch.tensor(_logit(value))))
        self.conduct = nn.Parameter(torch.full((T,), _logit(config.init_conduct)))

    @staticmethod
    def dynamics(config: schema.GLIFConfig) -> Spikes:
        run, shape = _functional().gated_lif_step, make_surrogate(config)

        def spikes(x: Tensor, *learned: Tensor) -> Tensor:
            wide = at_least_float32(x)
            *numbers, conduct = (value.sigmoid() for value in learned)
            spike = v = torch.zeros_like(wide[0])
            fired = []
            for t in range(len(wide)):
                spike, v = run(wide[t], v, spike, *numbers, conduct[t], shape)
                fired.append(spike)
            return torch.stack(fired).to(x.dtype)

        return spikes


def _logit(p: float) -> float:
    return -math.log(1 / p - 1)


def _one_membrane(run: Any, reset: float | None, given: tuple[Any, ...]) -> Spikes:
    """A neuron of SpikingJelly with a membrane and no further state; `given` follows it in the call."""

    def spikes(x: Tensor) -> Tensor:
        fired, *_ = run(x, _beginning(x, reset), *given)
        return cast(Tensor, fired.to(x.dtype))

    return spikes


class QIF(SpikingLayer):
    """Quadratic integrate-and-fire: v <- v + (x + a0 (v - v_rest)(v - v_c)) / tau."""

    @staticmethod
    def dynamics(config: schema.QIFConfig) -> Spikes:
        c, reset = config, reset_potential(config)
        given = (c.tau, c.threshold, reset, c.v_rest, c.v_c, c.a0, c.detach_reset, make_surrogate(c))
        return _one_membrane(_functional().qif_multi_step, reset, given)


class EIF(SpikingLayer):
    """Exponential integrate-and-fire: v <- v + (x + v_rest - v + delta_T exp((v - theta_rh) / delta_T)) / tau."""

    @staticmethod
    def dynamics(config: schema.EIFConfig) -> Spikes:
        c, reset = config, reset_potential(config)
        given = (
            c.tau,
            c.threshold,
            reset,
            c.v_rest,
            c.theta_rh,
            c.delta_T,
            c.detach_reset,
            make_surrogate(c),
        )
        return _one_membrane(_functional().eif_multi_step, reset, given)


class Izhikevich(SpikingLayer):
    """QIF with a recovery w, which begins at 0, is driven by the membrane and raised by spikes, and holds the membrane down."""

    @staticmethod
    def dynamics(config: schema.IzhikevichConfig) -> Spikes:
        run, shape, reset = (
            _functional().izhikevich_multi_step,
            make_surrogate(config),
            reset_potential(config),
        )
        c = config

        def spikes(x: Tensor) -> Tensor:
            fired, *_ = run(
                x, _beginning(x, reset), membrane(x), c.tau, c.threshold, reset,
                c.v_rest, c.a, c.b, c.tau_w, c.v_c, c.a0, c.detach_reset, shape,
            )  # fmt: skip
            return fired.to(x.dtype)

        return spikes


class PSN(SpikingLayer):
    """Parallel spiking neuron: spikes where W x + b >= 0, W `[T, T]` and b `[T, 1]` learned. There is no membrane and no reset.

    EvalRequest for fewer timesteps than it was made for, it takes the first rows and columns, to try a network out; a
    measurement is refused (recipe.neurons.check_timesteps).
    """

    def __init__(self, config: schema.PSNConfig, T: int | None = None) -> None:
        super().__init__(config, T)
        assert T is not None, f"{config.name} learns weights for each timestep"
        self.weight = nn.Parameter(torch.empty(T, T))
        self.bias = nn.Parameter(torch.full((T, 1), -1.0))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    @staticmethod
    def dynamics(config: schema.PSNConfig) -> Spikes:
        shape = make_surrogate(config)

        def spikes(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            T = len(x)
            return _weighed(x, weight[:T, :T], bias[:T], shape)

        return spikes


class MaskedPSN(PSN):
    """PSN that looks at its own timestep and the k - 1 before it: SpikingJelly's with lambda 1, fully masked from the first step on."""

    @staticmethod
    def dynamics(config: schema.WindowPSNConfig) -> Spikes:  # type: ignore[override]
        shape, k = make_surrogate(config), config.k

        def spikes(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            T = len(x)
            return _weighed(x, weight[:T, :T].tril().triu(1 - k), bias[:T], shape)

        return spikes


class SlidingPSN(SpikingLayer):
    """PSN with the same k weights at every timestep, ..., 1/4, 1/2, 1 at first, the last being that of its own timestep."""

    def __init__(self, config: schema.WindowPSNConfig, T: int | None = None) -> None:
        super().__init__(config, T)
        self.weight = nn.Parameter(0.5 ** torch.arange(config.k - 1, -1, -1, dtype=torch.float32))
        self.bias = nn.Parameter(torch.tensor(-1.0))

    @staticmethod
    def dynamics(config: schema.WindowPSNConfig) -> Spikes:
        shape, k = make_surrogate(config), config.k

        def spikes(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            T = len(x)
            # row t holds the last weights before and at column t
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
            return _weighed(x, torch.stack(rows), bias, shape)

        return spikes


def _weighed(x: Tensor, weight: Tensor, bias: Tensor, shape: Callable[[Tensor], Tensor]) -> Tensor:
    wide = at_least_float32(x)
    with without_autocast(x.device):
        potential = torch.addmm(bias.to(wide.dtype), weight.to(wide.dtype), wide)
    return shape(potential).to(x.dtype)
