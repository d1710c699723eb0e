"""The spiking activation, pinned to SpikingJelly's LIFNode."""

import itertools

import pytest
import torch
from spikingjelly.activation_based import surrogate
from spikingjelly.activation_based.neuron import LIFNode

from snnkd.models.activation import LIF, ReLU
from snnkd.schema.neuron import NeuronConfig

SURROGATES = {"sigmoid": surrogate.Sigmoid, "atan": surrogate.ATan}
T, B = 5, 3


def drive(dtype=torch.float32, B=B, seed=0):
    """Input `[T*B, 4, 3, 3]` that makes about a third of the neurons fire."""
    return (1.2 * torch.randn(T * B, 4, 3, 3, generator=torch.Generator().manual_seed(seed)) + 0.3).to(dtype)


def node(config):
    return LIFNode(
        tau=config.tau,
        decay_input=config.decay_input,
        v_threshold=config.threshold,
        v_reset=0.0 if config.reset == "hard" else None,
        surrogate_function=SURROGATES[config.surrogate](alpha=config.alpha),
        detach_reset=config.detach_reset,
        step_mode="m",
    )


def assert_pinned(config):
    ours, theirs = drive().requires_grad_(), drive().requires_grad_()
    found = LIF(config)(ours, T)
    expected = node(config)(theirs.unflatten(0, (T, B))).flatten(0, 1)
    assert 0.05 < expected.mean() < 0.95
    assert torch.equal(found, expected)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    assert torch.allclose(ours.grad, theirs.grad, rtol=0, atol=1e-6)
    assert ours.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("reset", "detach_reset", "decay_input", "alpha"),
    list(itertools.product(["hard", "soft"], [False, True], [False, True], [2.0, 4.0])),
)
def test_spikes_and_gradients_are_those_of_lifnode(reset, detach_reset, decay_input, alpha):
    assert_pinned(NeuronConfig(reset=reset, detach_reset=detach_reset, decay_input=decay_input, alpha=alpha))


@pytest.mark.parametrize("config", [NeuronConfig(surrogate="atan"), NeuronConfig(tau=3.5, threshold=0.7)])
def test_other_surrogate_tau_and_threshold(config):
    assert_pinned(config)


def test_membrane_by_hand():
    """v <- 0.5 v + x, threshold 1, hard reset to 0."""
    x = torch.tensor([[0.9], [0.5], [0.6], [0.8], [1.0]])
    # v: .9 | .95 | 1.075 spike, 0 | .8 | 1.4 spike
    assert LIF(NeuronConfig())(x, 5).flatten().tolist() == [0, 0, 1, 0, 1]


def test_each_call_starts_anew():
    lif = LIF(NeuronConfig())
    first = lif(drive(), T)
    assert torch.equal(lif(drive(), T), first)
    assert lif(drive(B=7), T).shape == (T * 7, 4, 3, 3)
    assert torch.equal(lif(drive(), T), first)
    assert not list(lif.state_dict())


def test_samples_do_not_meet():
    """Each image of a batch gives what it gives alone."""
    lif, x = LIF(NeuronConfig()), drive()
    together = lif(x, T).unflatten(0, (T, B))
    for b in range(B):
        assert torch.equal(lif(x.unflatten(0, (T, B))[:, b], T), together[:, b])


def test_a_timestep_knows_nothing_of_later_ones():
    lif, x = LIF(NeuronConfig()), drive()
    assert torch.equal(lif(x[: 2 * B], 2), lif(x, T)[: 2 * B])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_input_is_integrated_in_float32(dtype):
    lif, x = LIF(NeuronConfig()), drive(dtype)
    found = lif(x, T)
    assert found.dtype == dtype  # spikes are exact in any type
    assert torch.equal(found.float(), lif(x.float(), T))


def test_the_membrane_stays_float32_under_autocast():
    lif, x = LIF(NeuronConfig()), drive()
    with torch.autocast("cpu", torch.bfloat16):
        found = lif(x, T)
    assert found.dtype == torch.float32
    assert torch.equal(found, lif(x, T))


def test_float64_is_kept():
    assert LIF(NeuronConfig())(drive(torch.float64), T).dtype == torch.float64


def test_spikes_are_0_or_1():
    spikes = LIF(NeuronConfig())(10 * drive(), T)
    assert set(spikes.unique().tolist()) == {0.0, 1.0}


def test_relu_needs_no_timesteps():
    assert torch.equal(ReLU()(drive(), T), drive().clamp_min(0))
