"""What neurons and surrogates there are, one entry each, and what a neuron asks of T."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from snnkd.catalog.registry import Entry, Registry
from snnkd.errors import UsageError
from snnkd.schema import fields, neuron
from snnkd.schema.fields import to_plain
from snnkd.schema.neuron import AnyNeuron

_MODULE = "snnkd.models.neurons"
WHOLE = "its neurons are not causal, an answer before the last timestep would know of later ones"
"""Why such a network has no timestep curve."""
_EACH_TIMESTEP = ("each_timestep", True)
"""It has learned numbers for each timestep, and so runs for no more of them than it was trained for."""
_NOT_CAUSAL = ("causal", False)
"""A spike depends on later inputs too."""
_FUSED = ("fused", True)
"""SpikingJelly has one function for all its timesteps."""
_WEIGHTS = ("learned", ("weight", "bias"))
_GATES = (
    "learned",
    ("alpha", "beta", "gamma", "tau", "v_threshold", "linear_decay", "v_subreset", "conduct"),
)

NEURONS = Registry(
    "neuron",
    [
        Entry("lif", "leaky integrate-and-fire, the default", neuron.NeuronConfig, "snnkd.models.activation:LIF",
              details=(_FUSED,)),
        Entry("plif", "lif with a time constant learned by each layer (Fang et al. 2021)",
              neuron.PLIFConfig, f"{_MODULE}:PLIF", details=(_FUSED, ("learned", ("w",)))),
        Entry("if", "integrate-and-fire, no leak", neuron.IFConfig, f"{_MODULE}:IF", details=(_FUSED,)),
        Entry("klif", "lif whose membrane passes a ReLU of learned slope k (Jiang & Zhang 2023)",
              neuron.KLIFConfig, f"{_MODULE}:KLIF", details=(("learned", ("k",)),)),
        Entry("clif", "complementary lif: a second membrane keeps a record of spikes (Huang et al. 2024)",
              neuron.CLIFConfig, f"{_MODULE}:CLIF"),
        Entry("cuba-lif", "current-based lif: the input goes through a leaky current first",
              neuron.CubaLIFConfig, f"{_MODULE}:CubaLIF"),
        Entry("glif", "gated lif: decay, input and reset each mixed of two by learned gates (Yao et al. 2022)",
              neuron.GLIFConfig, f"{_MODULE}:GLIF", details=(_EACH_TIMESTEP, _GATES)),
        Entry("qif", "quadratic integrate-and-fire", neuron.QIFConfig, f"{_MODULE}:QIF", details=(_FUSED,)),
        Entry("eif", "exponential integrate-and-fire", neuron.EIFConfig, f"{_MODULE}:EIF", details=(_FUSED,)),
        Entry("izhikevich", "quadratic integrate-and-fire with recovery (Izhikevich 2003)",
              neuron.IzhikevichConfig, f"{_MODULE}:Izhikevich", details=(_FUSED,)),
        Entry("psn", "parallel spiking neuron: learned weights across all timesteps, not causal (Fang et al. 2023)",
              neuron.PSNConfig, f"{_MODULE}:PSN", details=(_EACH_TIMESTEP, _NOT_CAUSAL, _WEIGHTS)),
        Entry("masked-psn", "psn that looks at the last k timesteps, with weights of each timestep's own; masked from the first step on",
              neuron.WindowPSNConfig, f"{_MODULE}:MaskedPSN", details=(_EACH_TIMESTEP, _WEIGHTS)),
        Entry("sliding-psn", "psn that looks at the last k timesteps, with the same weights at all",
              neuron.WindowPSNConfig, f"{_MODULE}:SlidingPSN", details=(_WEIGHTS,)),
    ],
)  # fmt: skip

_SHAPES = "spikingjelly.activation_based.surrogate"
SURROGATES = Registry(
    "surrogate",
    [
        Entry(
            name,
            f"{help}; SpikingJelly's own alpha is {own}",
            AnyNeuron,
            f"{_SHAPES}:{shape}",
            details=(("alpha", own),),
        )
        for name, help, shape, own in (
            ("sigmoid", "slope of a sigmoid, alpha s (1 - s)", "Sigmoid", 4.0),
            ("atan", "slope of an arc tangent, alpha/2 / (1 + (pi/2 alpha x)^2)", "ATan", 2.0),
            (
                "piecewise-quadratic",
                "triangle, alpha - alpha^2 |x|, 0 beyond 1/alpha",
                "PiecewiseQuadratic",
                1.0,
            ),
            ("piecewise-exp", "two exponentials, alpha/2 exp(-alpha |x|)", "PiecewiseExp", 1.0),
            ("soft-sign", "1 / (2 alpha (1/alpha + |x|)^2)", "SoftSign", 2.0),
            ("super-spike", "alpha / (1 + |x|)^2", "SuperSpike", 1.0),
            ("erf", "Gaussian, alpha/sqrt(pi) exp(-alpha^2 x^2)", "Erf", 2.0),
            ("rect", "rectangle, alpha where |x| < 1/(2 alpha)", "Rect", 1.0),
            ("nonzero-sign-log-abs", "1 / (1/alpha + |x|)", "NonzeroSignLogAbs", 1.0),
        )
    ],
)


def build_neuron(values: Any, where: str = "neuron") -> AnyNeuron:
    """The checked section. Raises UsageError; of a key that another neuron has, it says which keys this one has."""
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
    made: AnyNeuron = fields.build(entry.options, {"name": entry.name, **values}, where)
    return made


def describe_neuron(name: str) -> dict[str, Any]:
    """Name, help, what each layer learns, whether it is causal, whether what it learns is for each timestep, and its keys."""
    entry = NEURONS[name]
    return {
        "name": entry.name,
        "help": entry.help,
        "learned": list(entry.detail("learned", ())),
        "causal": entry.detail("causal", True),
        "each_timestep": entry.detail("each_timestep", False),
        "defaults": to_plain(build_neuron(entry.name)),
    }


def is_fused(neuron: AnyNeuron | None) -> bool:
    """Whether SpikingJelly computes all timesteps of it in one function."""
    return neuron is not None and bool(NEURONS[neuron.name].detail("fused", False))


def is_causal(neuron: AnyNeuron | None) -> bool:
    """Whether what a network of this neuron answers after t timesteps depends on those alone."""
    return neuron is None or bool(NEURONS[neuron.name].detail("causal", True))


def most_timesteps(neuron: AnyNeuron | None, trained: int) -> int | None:
    """For how many timesteps a network trained at `trained` can run; None for any."""
    return trained if neuron is not None and NEURONS[neuron.name].detail("each_timestep", False) else None


def check_timesteps(neuron: AnyNeuron | None, trained: int, asked: int, said: str) -> None:
    """Raise UsageError where a network trained at `trained` timesteps cannot be asked for `asked`; `said` is how they were asked for."""
    if neuron is None or asked == trained:
        return
    if not is_causal(neuron):
        raise UsageError(
            f"{said}: {neuron.name} looks at all its timesteps at once; a network trained at T = {trained} answers only after {trained}"
        )
    most = most_timesteps(neuron, trained)
    if most is not None and asked > most:
        raise UsageError(
            f"{said}: {neuron.name} has learned numbers for each timestep; trained at T = {most}, it has {most} at most"
        )
