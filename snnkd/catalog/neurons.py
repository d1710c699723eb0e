"""The neurons and surrogates, one entry each, and the timesteps that a neuron allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snnkd.catalog.registry import Entry, Registry, SectionEntry
from snnkd.errors import UsageError
from snnkd.schema import fields, neuron
from snnkd.schema.fields import to_plain
from snnkd.schema.neuron import AnyNeuron

NOT_CAUSAL = "its neurons are not causal, an answer before the last timestep would know of later ones"
"""Why such a network has no timestep curve."""


@dataclass(frozen=True, kw_only=True)
class NeuronEntry(SectionEntry):
    """A spiking neuron."""

    learned: tuple[str, ...] = ()
    """Names of the parameters that each layer learns."""
    causal: bool = True
    """Whether a spike depends on inputs up to its timestep only."""
    each_timestep: bool = False
    """Learns numbers for each timestep, and so runs for no more of them than it was trained for."""
    fused: bool = False
    """SpikingJelly has one function for all its timesteps."""


@dataclass(frozen=True, kw_only=True)
class SurrogateEntry(Entry):
    """A surrogate gradient of SpikingJelly's, and SpikingJelly's own default of its `alpha`."""

    alpha: float


# fmt: off
NEURONS = Registry("neuron", [
    NeuronEntry("lif", "leaky integrate-and-fire, the default", "snnkd.models.activation:LIF",
                options=neuron.NeuronConfig, fused=True),
    NeuronEntry("plif", "lif with a time constant learned by each layer (Fang et al. 2021)",
                "snnkd.models.neurons:PLIF", options=neuron.PLIFConfig, learned=("w",), fused=True),
    NeuronEntry("if", "integrate-and-fire, no leak", "snnkd.models.neurons:IF",
                options=neuron.IFConfig, fused=True),
    NeuronEntry("klif", "lif whose membrane passes a ReLU of learned slope k (Jiang & Zhang 2023)",
                "snnkd.models.neurons:KLIF", options=neuron.KLIFConfig, learned=("k",)),
    NeuronEntry("clif", "complementary lif: a second membrane keeps a record of spikes (Huang et al. 2024)",
                "snnkd.models.neurons:CLIF", options=neuron.CLIFConfig),
    NeuronEntry("cuba-lif", "current-based lif: the input goes through a leaky current first",
                "snnkd.models.neurons:CubaLIF", options=neuron.CubaLIFConfig),
    NeuronEntry("glif",
                "gated lif: decay, input and reset each a mixture of two by learned gates (Yao et al. 2022)",
                "snnkd.models.neurons:GLIF", options=neuron.GLIFConfig, each_timestep=True,
                learned=("alpha", "beta", "gamma", "tau", "v_threshold", "linear_decay", "v_subreset",
                         "conduct")),
    NeuronEntry("qif", "quadratic integrate-and-fire", "snnkd.models.neurons:QIF",
                options=neuron.QIFConfig, fused=True),
    NeuronEntry("eif", "exponential integrate-and-fire", "snnkd.models.neurons:EIF",
                options=neuron.EIFConfig, fused=True),
    NeuronEntry("izhikevich", "quadratic integrate-and-fire with recovery (Izhikevich 2003)",
                "snnkd.models.neurons:Izhikevich", options=neuron.IzhikevichConfig, fused=True),
    NeuronEntry("psn",
                "parallel spiking neuron: "
                "learned weights across all timesteps, not causal (Fang et al. 2023)",
                "snnkd.models.neurons:PSN", options=neuron.PSNConfig,
                learned=("weight", "bias"), causal=False, each_timestep=True),
    NeuronEntry("masked-psn",
                "psn over the last k timesteps, with separate weights for each timestep; "
                "masked from the first step on",
                "snnkd.models.neurons:MaskedPSN", options=neuron.WindowPSNConfig,
                learned=("weight", "bias"), each_timestep=True),
    NeuronEntry("sliding-psn", "psn over the last k timesteps, with weights shared by all timesteps",
                "snnkd.models.neurons:SlidingPSN", options=neuron.WindowPSNConfig,
                learned=("weight", "bias")),
])


def _surrogate(name: str, help: str, function: str, alpha: float) -> SurrogateEntry:
    target = f"spikingjelly.activation_based.surrogate:{function}"
    return SurrogateEntry(name, f"{help}; SpikingJelly's default alpha is {alpha}", target, alpha=alpha)


SURROGATES = Registry("surrogate", [
    _surrogate("sigmoid", "slope of a sigmoid, alpha s (1 - s)", "Sigmoid", 4.0),
    _surrogate("atan", "slope of an arc tangent, alpha/2 / (1 + (pi/2 alpha x)^2)", "ATan", 2.0),
    _surrogate("piecewise-quadratic", "triangle, alpha - alpha^2 |x|, 0 beyond 1/alpha",
               "PiecewiseQuadratic", 1.0),
    _surrogate("piecewise-exp", "two exponentials, alpha/2 exp(-alpha |x|)", "PiecewiseExp", 1.0),
    _surrogate("soft-sign", "1 / (2 alpha (1/alpha + |x|)^2)", "SoftSign", 2.0),
    _surrogate("super-spike", "alpha / (1 + |x|)^2", "SuperSpike", 1.0),
    _surrogate("erf", "Gaussian, alpha/sqrt(pi) exp(-alpha^2 x^2)", "Erf", 2.0),
    _surrogate("rect", "rectangle, alpha where |x| < 1/(2 alpha)", "Rect", 1.0),
    _surrogate("nonzero-sign-log-abs", "1 / (1/alpha + |x|)", "NonzeroSignLogAbs", 1.0),
])
# fmt: on


def build_neuron(values: Any, where: str = "neuron") -> AnyNeuron:
    """The checked section. Raises UsageError; for a key of another neuron it names the keys of this one."""
    if isinstance(values, AnyNeuron):
        return values
    if isinstance(values, str):
        values = {"name": values}
    if not isinstance(values, Mapping):
        raise UsageError(f"{where}: {values!r} is neither a name nor a section")
    entry = NEURONS[fields.coerce(str, values.get("name", "lif"), f"{where}.name")]
    known = fields.hints(entry.options)
    for key in values:
        if key not in known and any(key in fields.hints(other.options) for other in NEURONS):
            own = ", ".join(name for name in known if name != "name")
            raise UsageError(f"{where}.{key}: {entry.name} has no such key; it has {own}")
    section: AnyNeuron = fields.build(entry.options, {"name": entry.name, **values}, where)
    return section


def describe_neuron(name: str) -> dict[str, Any]:
    """Name, help, learned parameters, whether causal and learned per timestep, and defaults of its keys."""
    entry = NEURONS[name]
    return {
        "name": entry.name,
        "help": entry.help,
        "learned": list(entry.learned),
        "causal": entry.causal,
        "each_timestep": entry.each_timestep,
        "defaults": to_plain(build_neuron(entry.name)),
    }


def is_fused(neuron: AnyNeuron | None) -> bool:
    """Whether SpikingJelly computes all timesteps of it in one function."""
    return neuron is not None and NEURONS[neuron.name].fused


def is_causal(neuron: AnyNeuron | None) -> bool:
    """Whether the output of a network of this neuron after t timesteps depends on those alone."""
    return neuron is None or NEURONS[neuron.name].causal


def most_timesteps(neuron: AnyNeuron | None, trained: int) -> int | None:
    """Most timesteps that a network trained at T = `trained` can run for; None for any number."""
    return trained if neuron is not None and NEURONS[neuron.name].each_timestep else None


def check_timesteps(neuron: AnyNeuron | None, trained: int, requested: int, key: str) -> None:
    """Raise UsageError naming `key` if a network trained at `trained` cannot run `requested` timesteps."""
    if neuron is None or requested == trained:
        return
    if not is_causal(neuron):
        raise UsageError(
            f"{key}: {neuron.name} is not causal; trained at T = {trained}, it runs for {trained} only"
        )
    most = most_timesteps(neuron, trained)
    if most is not None and requested > most:
        raise UsageError(
            f"{key}: {neuron.name} has weights for each timestep; "
            f"trained at T = {most}, it runs for at most {most}"
        )
