"""The `neuron:` section, one dataclass a neuron. A field's docstring is its help, `Bounds` its range.

Keys that several neurons have keep the defaults of lif; a neuron's own keys have SpikingJelly's.
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
    """`neuron:`, the keys that every neuron has."""

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
    """Shape whose derivative stands in for that of the step: one of `snnkd list surrogates`."""
    alpha: Annotated[float, Bounds(0, open_low=True)] = 4.0
    """Steepness of the surrogate."""


@dataclass(frozen=True, kw_only=True)
class _Detach(AnyNeuron):
    detach_reset: bool = False
    """Whether the gradient skips the reset."""


@dataclass(frozen=True, kw_only=True)
class _Last(AnyNeuron):
    last: Literal["spike", "relu"] = "spike"
    """The last activation before the classifier; relu: real-valued instead of spikes (EnOF's RepAct)."""


@dataclass(frozen=True, kw_only=True)
class _Rest(_Tau):
    """What the nonlinear ones share; a hard reset has a potential of its own there."""

    v_rest: float = 0.0
    """Potential at which the membrane rests without input."""
    v_reset: float = -0.1
    """Potential that a hard reset sets, and at which the membrane then begins; with a soft one it begins at 0."""


# the order of the bases is that of the keys, the last base's first
@dataclass(frozen=True, kw_only=True)
class NeuronConfig(_Last, _Detach, _Shape, _Reset, _Leak):
    """`neuron:` of lif, leaky integrate-and-fire, the default."""


@dataclass(frozen=True, kw_only=True)
class PLIFConfig(NeuronConfig):
    """`neuron:` of plif, leaky integrate-and-fire with a learned time constant."""

    tau: Annotated[float, Bounds(1, open_low=True)] = 2.0
    """Membrane time constant that each layer begins with, in timesteps; learned as w = -log(tau - 1)."""


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
    """`neuron:` of clif; its reset is its own, a soft one that its second membrane strengthens."""


@dataclass(frozen=True, kw_only=True)
class CubaLIFConfig(_Last, _Detach, _Shape, _Reset):
    """`neuron:` of cuba-lif."""

    c_decay: Annotated[float, Bounds(0, 1)] = 0.5
    """Share of the current that is left after a timestep."""
    v_decay: Annotated[float, Bounds(0, 1)] = 0.75
    """Share of the membrane potential that is left after a timestep."""


@dataclass(frozen=True, kw_only=True)
class GLIFConfig(_Last, _Shape, AnyNeuron):
    """`neuron:` of glif. All numbers are learned from these on, one of each a layer."""

    init_tau: Annotated[float, Bounds(0, 1, open_low=True, open_high=True)] = 0.25
    """Share of the membrane potential that is left after a timestep, to begin with."""
    init_threshold: Annotated[float, Bounds(0, 1, open_low=True, open_high=True)] = 0.5
    """Membrane potential at which a spike is fired, to begin with; also what a soft reset subtracts."""
    init_conduct: Annotated[float, Bounds(0, 1, open_low=True, open_high=True)] = 0.5
    """Share of the input that is taken in where its gate is open, to begin with; each timestep has its own."""


@dataclass(frozen=True, kw_only=True)
class QIFConfig(_Last, _Detach, _Shape, _Reset, _Rest):
    """`neuron:` of qif."""

    reset: Literal["hard", "soft"] = "hard"
    """hard: the membrane is set to v_reset after a spike; soft: the threshold is subtracted."""
    v_c: float = 0.8
    """Critical potential, above which the membrane rises by itself."""
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
    """Rheobase threshold, above which the membrane rises by itself."""
    delta_T: Annotated[float, Bounds(0, open_low=True)] = 1.0
    """Sharpness of the exponential rise."""

    def __post_init__(self) -> None:
        _check_potentials(self)
        _check_reset_below_rest(self)


@dataclass(frozen=True, kw_only=True)
class IzhikevichConfig(_Last, _Detach, _Shape, _Reset, _Rest):
    """`neuron:` of izhikevich."""

    v_rest: float = -0.1
    """Potential at which the membrane rests without input."""
    v_reset: float = 0.0
    """Potential that a hard reset sets, and at which the membrane then begins; with a soft one it begins at 0."""
    reset: Literal["hard", "soft"] = "hard"
    """hard: the membrane is set to v_reset after a spike; soft: the threshold is subtracted."""
    v_c: float = 0.8
    """Critical potential, above which the membrane rises by itself."""
    a0: Annotated[float, Bounds(0, open_low=True)] = 1.0
    """Strength of the quadratic term."""
    a: float = 0.0
    """How far the membrane potential drives the recovery."""
    b: float = 0.0
    """By how much a spike raises the recovery."""
    tau_w: Annotated[float, Bounds(1, open_low=True)] = 2.0
    """Time constant of the recovery in timesteps."""

    def __post_init__(self) -> None:
        _check_potentials(self)


def _check_potentials(config: QIFConfig | EIFConfig | IzhikevichConfig) -> None:
    for key in ("v_rest", "v_reset") if config.reset == "hard" else ("v_rest",):
        if getattr(config, key) >= config.threshold:
            raise UsageError(
                f"neuron.{key}: {getattr(config, key)} is too large; it must be below neuron.threshold, {config.threshold}"
            )


def _check_reset_below_rest(config: QIFConfig | EIFConfig) -> None:
    if config.reset == "hard" and config.v_reset > config.v_rest:
        raise UsageError(
            f"neuron.v_reset: {config.v_reset} is too large; it must be at most neuron.v_rest, {config.v_rest}"
        )


@dataclass(frozen=True, kw_only=True)
class PSNConfig(_Last, _Shape, AnyNeuron):
    """`neuron:` of psn, which has no membrane: weights and thresholds are learned for each timestep."""


@dataclass(frozen=True, kw_only=True)
class WindowPSNConfig(PSNConfig):
    """`neuron:` of masked-psn and sliding-psn."""

    k: Annotated[int, Bounds(1, 1024)] = 2
    """Order: how many timesteps a spike looks at, its own and those before it."""
