"""The `model:` and `neuron:` sections. A field's docstring is its help, `Bounds` its range."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from snnkd.recipe.marks import ADDED, Bounds


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """`model:`, the keys that every model has."""

    name: str = "resnet8"
    """A model of `snnkd list models`."""
    T: Annotated[int, Bounds(1, 1024)] | None = None
    """Timesteps of the student; a teacher has none."""


@dataclass(frozen=True, kw_only=True)
class ResNetConfig(ModelConfig):
    """`model:` of the residual family."""

    width: Annotated[int, Bounds(1, 4096)] | None = None
    """Channels of the first stage; empty for the family member's own."""


@dataclass(frozen=True, kw_only=True)
class UserModel(ModelConfig):
    """`model:` of a function of your own."""

    options: dict[str, Any] = field(default_factory=dict)
    """Further keyword arguments of the function."""


@dataclass(frozen=True, kw_only=True)
class NeuronConfig:
    """`neuron:`, the spiking activation."""

    name: Literal["lif"] = "lif"
    """lif: leaky integrate-and-fire (SpikingJelly's lif_multi_step)."""
    tau: Annotated[float, Bounds(1, open_low=True)] = 2.0
    """Membrane time constant in timesteps."""
    decay_input: bool = False
    """Whether the leak also scales the input: v <- v + (x - v)/tau instead of v <- v (1 - 1/tau) + x."""
    threshold: Annotated[float, Bounds(0, open_low=True)] = 1.0
    """Membrane potential at which a spike is fired."""
    reset: Literal["hard", "soft"] = "hard"
    """hard: the membrane is set to 0 after a spike; soft: the threshold is subtracted."""
    surrogate: Literal["sigmoid", "atan"] = "sigmoid"
    """Shape whose derivative stands in for that of the step."""
    alpha: Annotated[float, Bounds(0, open_low=True)] = 4.0
    """Steepness of the surrogate."""
    detach_reset: bool = False
    """Whether the gradient skips the reset."""
    last: Annotated[Literal["spike", "relu"], ADDED] = "spike"
    """The last activation before the classifier; relu: real-valued instead of spikes (EnOF's RepAct)."""
