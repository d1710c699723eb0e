"""The `neuron:` section, a dataclass per neuron. A field's docstring is its help.

Keys shared by several neurons have the defaults of lif, other keys those of SpikingJelly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from snnkd.errors import UsageError
from snnkd.schema.marks import Bounds

Surrogate = Literal[
    "sigmoid",
    "atan",
    "piecewise-quadratic",
    "piecewise-exp",
    "soft-sign",
    "super-spike",
    "erf",
    "rect",
    "nonzero-sign-log-abs",
]


@dataclass(frozen=True, kw_only=True)
class AnyNeuron:
    """`neuron:`, keys of every neuron."""

    name: str = "lif"
    """A neuron of `snnkd list neurons`."""


@dataclass(frozen=True, kw_only=True)
class _Tau(AnyNeuron):
    tau: Annotated[float, Bounds(1, open_low=True)] = 2.0
    """Membrane time constant in timesteps."""


@dataclass(frozen=True, kw_only=True)
class _Leak(_Tau):
    decay_input: bool = False
    """Whether the leak also scales the input: v <- v + (x - v)/tau instead of v <- v (1 - 1/tau) + x."""


@dataclass(frozen=True, kw_only=True)
class _Threshold(AnyNeuron):
    threshold: Annotated[float, Bounds(0, open_low=True)] = 1.0
    """Membrane potential at which a spike is fired."""


@dataclass(frozen=True, kw_only=True)
class _Reset(_Threshold):
    reset: Literal["hard", "soft"] = "hard"
    """hard: the membrane is set to 0 after a spike; soft: the threshold is subtracted."""


@dataclass(frozen=True, kw_only=True)
class _Shape(AnyNeuron):
    surrogate: Surrogate = "sigmoid"
    """Surrogate gradient of the spike: one of `snnkd list surrogates`."""
    alpha: Annotated[float, Bounds(0, open_low=True)] = 4.0
    """Steepness of the surrogate."""


@dataclass(frozen=True, kw_only=True)
class _Detach(AnyNeuron):
    detach_reset: bool = False
    """Whether the reset is detached from the gradient."""


@dataclass(frozen=True, kw_only=True)
class _Last(AnyNeuron):
    last: Literal["spike", "relu"] = "spike"
    """Last activation before the classifier; relu: real values instead of spikes (EnOF's RepAct)."""


@dataclass(frozen=True, kw_only=True)
class _Rest(_Tau):
    """Keys of the nonlinear neurons."""

    v_rest: float = 0.0
    """Resting potential of the membrane."""
    v_reset: float = -0.1
    """Potential after a hard reset, and at the first timestep; with a soft reset the membrane starts at 0."""


# the order of the bases is that of the keys, the last base's first
@dataclass(frozen=True, kw_only=True)
class NeuronConfig(_Last, _Detach, _Shape, _Reset, _Leak):
    """`neuron:` of lif, leaky integrate-and-fire, the default."""


@dataclass(frozen=True, kw_only=True)
class PLIFConfig(NeuronConfig):
    """`neuron:` of plif, leaky integrate-and-fire with a learned time constant."""

    tau: Annotated[float, Bounds(1, open_low=True)] = 2.0
    """Initial membrane time constant of each layer in timesteps; learned as w = -log(tau - 1)."""


@dataclass(frozen=True, kw_only=True)
class IFConfig(_Last, _Detach, _Shape, _Reset):
    """`neuron:` of if, integrate-and-fire without a leak."""


@dataclass(frozen=True, kw_only=True)
class KLIFConfig(NeuronConfig):
    """`neuron:` of klif."""

    scale_reset: bool = False
    """Whether the membrane is divided by k again before the reset."""


@dataclass(frozen=True, kw_only=True)
class CLIFConfig(_Last, _Shape, _Threshold, _Tau):
    """`neuron:` of clif; its reset is soft, strengthened by a second membrane."""


@dataclass(frozen=True, kw_only=True)
class CubaLIFConfig(_Last, _Detach, _Shape, _Reset):
    """`neuron:` of cuba-lif."""

    c_decay: Annotated[float, Bounds(0, 1)] = 0.5
    """Fraction of the current kept after a timestep."""
    v_decay: Annotated[float, Bounds(0, 1)] = 0.75
    """Fraction of the membrane potential kept after a timestep."""


@dataclass(frozen=True, kw_only=True)
class GLIFConfig(_Last, _Shape, AnyNeuron):
    """`neuron:` of glif; its numbers are initial values, learned per layer."""

    init_tau: Annotated[float, Bounds(0, 1, open_low=True, open_high=True)] = 0.25
    """Initial fraction of the membrane potential kept after a timestep."""
    init_threshold: Annotated[float, Bounds(0, 1, open_low=True, open_high=True)] = 0.5
    """Initial membrane potential at which a spike is fired; also what a soft reset subtracts."""
    init_conduct: Annotated[float, Bounds(0, 1, open_low=True, open_high=True)] = 0.5
    """Initial fraction of the input that an open gate passes, one value per timestep."""


@dataclass(frozen=True, kw_only=True)
class QIFConfig(_Last, _Detach, _Shape, _Reset, _Rest):
    """`neuron:` of qif."""

    reset: Literal["hard", "soft"] = "hard"
    """hard: the membrane is set to v_reset after a spike; soft: the threshold is subtracted."""
    v_c: float = 0.8
    """Critical potential, above which the membrane rises without input."""
    a0: Annotated[float, Bounds(0, open_low=True)] = 1.0
    """Strength of the quadratic term."""

    def __post_init__(self) -> None:
        _check_potentials(self)
        _check_reset_below_rest(self)


@dataclass(frozen=True, kw_only=True)
class EIFConfig(_Last, _Detach, _Shape, _Reset, _Rest):
    """`neuron:` of eif."""

    reset: Literal["hard", "soft"] = "hard"
    """hard: the membrane is set to v_reset after a spike; soft: the threshold is subtracted."""
    theta_rh: float = 0.8
    """Rheobase threshold, above which the membrane rises without input."""
    delta_T: Annotated[float, Bounds(0, open_low=True)] = 1.0
    """Sharpness of the exponential rise."""

    def __post_init__(self) -> None:
        _check_potentials(self)
        _check_reset_below_rest(self)


@dataclass(frozen=True, kw_only=True)
class IzhikevichConfig(_Last, _Detach, _Shape, _Reset, _Rest):
    """`neuron:` of izhikevich."""

    v_rest: float = -0.1
    """Resting potential of the membrane."""
    v_reset: float = 0.0
    """Potential after a hard reset, and at the first timestep; with a soft reset the membrane starts at 0."""
    reset: Literal["hard", "soft"] = "hard"
    """hard: the membrane is set to v_reset after a spike; soft: the threshold is subtracted."""
    v_c: float = 0.8
    """Critical potential, above which the membrane rises without input."""
    a0: Annotated[float, Bounds(0, open_low=True)] = 1.0
    """Strength of the quadratic term."""
    a: float = 0.0
    """Coupling of the recovery to the membrane potential."""
    b: float = 0.0
    """Increase of the recovery after a spike."""
    tau_w: Annotated[float, Bounds(1, open_low=True)] = 2.0
    """Time constant of the recovery in timesteps."""

    def __post_init__(self) -> None:
        _check_potentials(self)


def _check_potentials(config: QIFConfig | EIFConfig | IzhikevichConfig) -> None:
    for key in ("v_rest", "v_reset") if config.reset == "hard" else ("v_rest",):
        if getattr(config, key) >= config.threshold:
            value, limit = getattr(config, key), config.threshold
            raise UsageError(
                f"neuron.{key}: {value} is too large; it must be below neuron.threshold, {limit}"
            )


def _check_reset_below_rest(config: QIFConfig | EIFConfig) -> None:
    if config.reset == "hard" and config.v_reset > config.v_rest:
        value, limit = config.v_reset, config.v_rest
        raise UsageError(f"neuron.v_reset: {value} is too large; it must be at most neuron.v_rest, {limit}")


@dataclass(frozen=True, kw_only=True)
class PSNConfig(_Last, _Shape, AnyNeuron):
    """`neuron:` of psn, without a membrane: weights and thresholds are learned per timestep."""


@dataclass(frozen=True, kw_only=True)
class WindowPSNConfig(PSNConfig):
    """`neuron:` of masked-psn and sliding-psn."""

    k: Annotated[int, Bounds(1, 1024)] = 2
    """Order: number of timesteps that a spike depends on, its own included."""
