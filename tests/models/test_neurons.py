"""Every spiking neuron, pinned to SpikingJelly's own module, and what all of them promise."""

from __future__ import annotations

import copy
import inspect
import itertools
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import neuron as theirs
from spikingjelly.activation_based import surrogate

from snnkd.catalog.neurons import NEURONS, SURROGATES, build_neuron, describe_neuron
from snnkd.catalog.registry import load_target
from snnkd.errors import UsageError
from snnkd.models.activation import SpikingLayer, make_neuron, neuron_parameters
from snnkd.training.compiling import compiler

B = 3
NAMES = [entry.name for entry in NEURONS]
CAUSAL = [name for name in NAMES if describe_neuron(name)["causal"]]
LEARNING = [name for name in NAMES if describe_neuron(name)["learned"]]


def layer(name: str, T: int = 5, seed: int = 0, **options: object) -> SpikingLayer:
    """A layer as a network makes it, its learned numbers drawn by `seed` and moved, so that none is at a
    special value.
    """
    torch.manual_seed(seed)
    made = make_neuron(build_neuron({"name": name, **options}), T)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.rand(parameter.shape))
    return made


def drive(T: int = 5, B: int = B, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Input `[T*B, 4, 3, 3]` that makes some of the neurons fire, of whatever kind they are."""
    return (1.5 * torch.randn(T * B, 4, 3, 3, generator=torch.Generator().manual_seed(seed)) + 0.6).to(dtype)


def node(made: SpikingLayer, T: int) -> torch.nn.Module:
    """SpikingJelly's module of the same settings and with the same learned numbers, multi-step."""
    c = made.config
    shapes = {"sigmoid": surrogate.Sigmoid, "atan": surrogate.ATan, "erf": surrogate.Erf}
    shape = {"surrogate_function": shapes[c.surrogate](alpha=c.alpha)}
    hard = getattr(c, "v_reset", 0.0)
    reset = {"v_reset": hard if c.reset == "hard" else None} if hasattr(c, "reset") else {}
    usual = {**shape, **reset, "step_mode": "m"}
    usual |= {"v_threshold": c.threshold} if hasattr(c, "threshold") else {}
    usual |= {"detach_reset": c.detach_reset} if hasattr(c, "detach_reset") else {}
    tau = {"tau": getattr(c, "tau", None)}
    leak = {"decay_input": getattr(c, "decay_input", None)}
    if c.name == "cuba-lif":
        del usual["step_mode"], usual["detach_reset"]
        made_node = theirs.CUBALIFNode(c_decay=c.c_decay, v_decay=c.v_decay, **usual)
        made_node.step_mode, made_node.detach_reset = "m", c.detach_reset
        return made_node
    if c.name == "glif":
        np.random.seed(0)
    makers = {
        "lif": lambda: theirs.LIFNode(**tau, **leak, **usual),
        "plif": lambda: theirs.ParametricLIFNode(init_tau=c.tau, **leak, **usual),
        "if": lambda: theirs.IFNode(**usual),
        "klif": lambda: theirs.KLIFNode(scale_reset=c.scale_reset, **tau, **leak, **usual),
        "clif": lambda: theirs.ComplementaryLIFNode(**tau, **usual),
        "glif": lambda: theirs.GatedLIFNode(T, None, None, None, c.init_tau, c.init_threshold,
                                             c.init_conduct, **shape),
        "qif": lambda: theirs.QIFNode(v_c=c.v_c, a0=c.a0, v_rest=c.v_rest, **tau, **usual),
        "eif": lambda: theirs.EIFNode(delta_T=c.delta_T, theta_rh=c.theta_rh, v_rest=c.v_rest,
                                       **tau, **usual),
        "izhikevich": lambda: theirs.IzhikevichNode(
            v_c=c.v_c, a0=c.a0, v_rest=c.v_rest, tau_w=c.tau_w, a=c.a, b=c.b, **tau, **usual
        ),
        "psn": lambda: theirs.PSN(T, **shape),
        "masked-psn": lambda: theirs.MaskedPSN(c.k, T, 1.0, step_mode="m", **shape),
        "sliding-psn": lambda: theirs.SlidingPSN(c.k, step_mode="m", **shape),
    }  # fmt: skip
    made_node = makers[c.name]()
    return made_node


def assert_pinned(made: SpikingLayer, T: int, seed: int = 0) -> None:
    """Spikes bitwise, gradients of input and learned numbers tightly."""
    reference = node(made, T)
    names = {name: parameter.shape for name, parameter in made.named_parameters()}
    assert names == {name: parameter.shape for name, parameter in reference.named_parameters()}
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            parameter.copy_(made.get_parameter(name))
    ours, others = drive(T, seed=seed).requires_grad_(), drive(T, seed=seed).requires_grad_()
    found, expected = made(ours, T), reference(others.unflatten(0, (T, B))).flatten(0, 1)
    assert torch.equal(found, expected)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    assert torch.isfinite(ours.grad).all()
    torch.testing.assert_close(ours.grad, others.grad, rtol=1e-4, atol=1e-5)
    for name, parameter in made.named_parameters():
        torch.testing.assert_close(parameter.grad, reference.get_parameter(name).grad, rtol=1e-3, atol=1e-3)


def options_of(name: str) -> list[dict[str, object]]:
    """Every combination of the keys that decide how a neuron computes."""
    known = describe_neuron(name)["defaults"]
    choices = {
        "reset": ["hard", "soft"],
        "detach_reset": [False, True],
        "decay_input": [False, True],
        "scale_reset": [False, True],
    }
    chosen = {key: values for key, values in choices.items() if key in known}
    return [dict(zip(chosen, values, strict=True)) for values in itertools.product(*chosen.values())]


@pytest.mark.parametrize(
    ("name", "options"), [(name, options) for name in NAMES for options in options_of(name)], ids=str
)
def test_spikes_and_gradients_are_those_of_spikingjelly(name, options):
    for T in (1, 4):
        assert_pinned(layer(name, T, **options), T)


@given(
    name=st.sampled_from(NAMES),
    T=st.integers(1, 8),
    seed=st.integers(0, 2**31),
    shape=st.sampled_from(["sigmoid", "atan", "erf"]),
    alpha=st.floats(0.5, 6),
    tau=st.floats(1.1, 8),
    threshold=st.floats(0.3, 2),
    k=st.integers(1, 9),
)
@settings(deadline=None, max_examples=60)
def test_over_random_settings_and_inputs(name, T, seed, shape, alpha, tau, threshold, k):
    drawn = {"surrogate": shape, "alpha": alpha, "tau": tau, "threshold": threshold, "k": k}
    known = describe_neuron(name)["defaults"]
    assert_pinned(
        layer(name, T, seed=seed, **{key: value for key, value in drawn.items() if key in known}), T, seed
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cuba-lif", {"c_decay": 0.2, "v_decay": 0.9}),
        ("glif", {"init_tau": 0.6, "init_threshold": 0.3, "init_conduct": 0.8}),
        ("qif", {"v_c": 0.4, "a0": 1.5, "v_rest": 0.05, "v_reset": -0.3}),
        ("eif", {"delta_T": 0.5, "theta_rh": 0.6, "v_rest": 0.1, "v_reset": -0.2}),
        ("izhikevich", {"a": 0.3, "b": 0.4, "tau_w": 3.0, "v_rest": -0.2, "v_reset": -0.1, "v_c": 0.5,
                        "a0": 0.7}),
    ],
)  # fmt: skip
def test_keys_of_a_neuron_of_its_own_mean_what_they_mean_there(name, options):
    assert_pinned(layer(name, 4, **options), 4)
    spikes = layer(name, 4)(drive(4), 4)
    assert not torch.equal(layer(name, 4, **options)(drive(4), 4), spikes), "the keys change nothing"


@pytest.mark.parametrize("name", NAMES)
def test_begins_as_spikingjelly_begins(name):
    """The learned numbers before training, where they are not drawn."""
    made = make_neuron(build_neuron(name), 4)
    for key, parameter in node(made, 4).named_parameters():
        if (name, key) in {("psn", "weight"), ("masked-psn", "weight")}:
            assert made.get_parameter(key).abs().max() <= math.sqrt(1 / 4)  # uniform in +-1/sqrt(T)
        elif name == "glif" and key in ("alpha", "beta", "gamma"):
            assert abs(made.get_parameter(key)) <= 0.1
        else:
            assert torch.equal(made.get_parameter(key), parameter), key


@pytest.mark.parametrize("name", NAMES)
def test_fires_and_teaches(name):
    made, x = layer(name), drive().requires_grad_()
    spikes = made(x, 5)
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    assert 0.02 < spikes.mean() < 0.98
    (spikes * torch.randn(spikes.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    assert x.grad.abs().sum() > 0
    assert sorted(key for key, _ in made.named_parameters()) == sorted(describe_neuron(name)["learned"])
    for parameter in made.parameters():
        assert parameter.grad.isfinite().all()
        assert parameter.grad.abs().sum() > 0


def looks_ahead(name: str) -> bool:
    """Whether any spike up to t changes with the input after t."""
    made, T = layer(name), 5
    first = drive().unflatten(0, (T, B))
    for t in range(1, T):
        other = first.clone()
        other[t:] = drive(seed=t).unflatten(0, (T, B))[t:]
        before, after = (made(x.flatten(0, 1), T).unflatten(0, (T, B))[:t] for x in (first, other))
        if not torch.equal(before, after):
            return True
    return False


@pytest.mark.parametrize("name", NAMES)
def test_the_catalogue_says_which_neurons_are_causal(name):
    assert looks_ahead(name) == (not describe_neuron(name)["causal"])


@pytest.mark.parametrize("name", CAUSAL)
def test_fewer_timesteps_are_the_first_of_more(name):
    made = layer(name)
    assert torch.equal(made(drive()[: 2 * B], 2), made(drive(), 5)[: 2 * B])


def test_only_neurons_that_learn_for_each_timestep_are_bounded_by_t():
    for name in NAMES:
        made = layer(name, 3)
        if describe_neuron(name)["each_timestep"]:
            with pytest.raises(UsageError, match=f"T = 5: {name}"):
                made(drive(), 5)
        else:
            assert made(drive(), 5).shape == drive().shape


def test_masked_psn_looks_at_k_timesteps():
    made, T = layer("masked-psn", k=2), 5
    other = drive().unflatten(0, (T, B)).clone()
    other[0] = 7.0
    changed = (made(other.flatten(0, 1), T) != made(drive(), T)).unflatten(0, (T, B)).flatten(1).any(1)
    assert changed.tolist() == [True, True, False, False, False]


@pytest.mark.parametrize("name", NAMES)
def test_each_call_starts_anew_and_copies_agree(name):
    made, T = layer(name), 5
    first = made(drive(), T)
    assert torch.equal(made(drive(), T), first)
    assert made(drive(B=7), T).shape == (T * 7, 4, 3, 3)
    for copied in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert torch.equal(copied(drive(), T), first)
    assert set(made.state_dict()) == set(describe_neuron(name)["learned"])


@pytest.mark.parametrize("name", NAMES)
def test_samples_do_not_meet_and_layout_does_not_matter(name):
    made, T, x = layer(name), 5, drive()
    together = made(x, T)
    assert torch.equal(made(x.contiguous(memory_format=torch.channels_last), T), together)
    assert made(x.contiguous(memory_format=torch.channels_last), T).is_contiguous(
        memory_format=torch.channels_last
    )
    # the matrix product of psn neurons may round differently for other sizes
    tolerance = 0.01 if "psn" in name else 0
    for b in range(B):
        alone = made(x.unflatten(0, (T, B))[:, b], T)
        assert (alone != together.unflatten(0, (T, B))[:, b]).float().mean() <= tolerance


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_integrated_in_float32_and_float64_is_kept(name, dtype):
    made, T = layer(name), 5
    half = drive(dtype=dtype)
    wanted = made(half.float(), T)
    spikes = made(half, T)
    assert spikes.dtype == dtype
    assert torch.equal(spikes.float(), wanted)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(made(half.float(), T), wanted)
    assert made(drive(dtype=torch.float64), T).dtype == torch.float64
    assert made.double()(drive(dtype=torch.float64), T).dtype == torch.float64


@pytest.mark.parametrize("shape", ["sigmoid", "rect"])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_in_half_precision_are_those_in_float32_rounded(name, shape):
    made, T = layer(name, surrogate=shape), 5
    weights = torch.randn(drive().shape, generator=torch.Generator().manual_seed(1)).bfloat16()
    gradients = []
    for x in (drive(dtype=torch.bfloat16), drive(dtype=torch.bfloat16).float()):
        made.zero_grad()
        (made(x.requires_grad_(), T) * weights).sum().backward()
        gradients.append([x.grad.bfloat16(), *(parameter.grad for parameter in made.parameters())])
    for ours, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=0, atol=0)


@pytest.mark.parametrize("entry", list(SURROGATES), ids=lambda entry: entry.name)
def test_surrogates_decide_gradients_alone(entry):
    """Spikes stay; the slope at the threshold is that of SpikingJelly's function, and alpha scales it."""
    made, plain = (layer("if", 1, surrogate=name, alpha=2.0) for name in (entry.name, "sigmoid"))
    x = torch.linspace(-1, 3, 41)[:, None]
    assert torch.equal(made(x, 1), plain(x, 1))
    at = torch.tensor([[0.7], [1.0], [1.2]], requires_grad=True)
    made(at, 1).sum().backward()
    step = (at.detach() - 1.0).requires_grad_()
    load_target(entry.target)(alpha=2.0)(step).sum().backward()
    assert torch.equal(at.grad, step.grad)
    steeper = at.detach().clone().requires_grad_()
    layer("if", 1, surrogate=entry.name, alpha=5.0)(steeper, 1).sum().backward()
    assert at.grad[1] > 0
    assert not torch.equal(steeper.grad, at.grad)


def test_the_schema_knows_the_surrogates_of_the_catalogue():
    from typing import get_args

    from snnkd.schema.neuron import Surrogate

    assert list(get_args(Surrogate)) == [entry.name for entry in SURROGATES]
    for entry in SURROGATES:
        own = inspect.signature(load_target(entry.target).__init__).parameters["alpha"].default
        assert own == entry.alpha


def test_learned_numbers_are_found_by_name():
    network = torch.nn.ModuleDict({"a": layer("plif"), "b": torch.nn.Linear(2, 2), "c": layer("sliding-psn")})
    assert set(neuron_parameters(network)) == {"a.w", "c.weight", "c.bias"}
    assert set(neuron_parameters(layer("klif"))) == {"k"}


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"name": "lifs"}, "unknown neuron 'lifs'"),
        ({"name": "clif", "reset": "soft"}, "neuron.reset: clif has no such key; it has tau, threshold"),
        ({"name": "if", "decay_input": True}, "neuron.decay_input: if has no such key"),
        (
            {"name": "psn", "threshold": 1},
            "neuron.threshold: psn has no such key; it has surrogate, alpha, last",
        ),
        ({"name": "plif", "tau": 1}, "neuron.tau: 1"),
        (
            {"name": "plif", "surrogate": "sigmoids"},
            "neuron.surrogate: 'sigmoids' is not one of sigmoid, atan",
        ),
        ({"name": "masked-psn", "k": 0}, "neuron.k: 0"),
        (
            {"name": "qif", "v_reset": 0.5},
            "neuron.v_reset: 0.5 is too large; it must be at most neuron.v_rest, 0.0",
        ),
        (
            {"name": "eif", "v_rest": 1.0},
            "neuron.v_rest: 1.0 is too large; it must be below neuron.threshold, 1.0",
        ),
        ({"name": "lif", "foo": 1}, "unknown key 'neuron.foo'"),
        ([], "neuron: [] is neither a name nor a section"),
    ],
)
def test_a_section_that_cannot_be_is_refused(section, said):
    with pytest.raises(UsageError) as caught:
        build_neuron(section)
    assert said in str(caught.value)


def test_soft_resets_need_no_reset_potential():
    assert build_neuron({"name": "qif", "reset": "soft", "v_reset": 3.0}).reset == "soft"


# torch's compiler looks at the attribute itself
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("name", [pytest.param("clif", marks=pytest.mark.nightly), "sliding-psn"])
@pytest.mark.nightly  # lif by default: training/test_execution_keys
def test_compiled_neurons_are_the_same_neurons(name):
    """One with a loop, one with a matrix product; lif's function over all timesteps is compiled in
    training/test_execution_keys.py.
    """
    if compiler() is None:
        pytest.skip("no C++ compiler")
    made, T = layer(name, 3), 3
    results = []
    for on in (False, True):
        made.use_compiled(on)
        made.zero_grad()
        x = drive(T).requires_grad_()
        spikes = made(x, T)
        (spikes * torch.randn(spikes.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
        results.append((spikes.detach(), x.grad, [p.grad.clone() for p in made.parameters()]))
    (plain, gradient, learned), (fast, other, relearned) = results
    assert torch.equal(plain, fast)
    torch.testing.assert_close(gradient, other)
    torch.testing.assert_close(learned, relearned, rtol=1e-4, atol=1e-5)
