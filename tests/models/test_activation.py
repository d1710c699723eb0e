"""The LIF neuron by hand, and ReLU. For what holds for every neuron see test_neurons.py."""

import torch

from snnkd.models.activation import LIF, ReLU
from snnkd.schema.neuron import NeuronConfig


def test_membrane_by_hand():
    """v <- 0.5 v + x, threshold 1, hard reset to 0."""
    x = torch.tensor([[0.9], [0.5], [0.6], [0.8], [1.0]])
    # v: .9 | .95 | 1.075 spike, 0 | .8 | 1.4 spike
    assert LIF(NeuronConfig())(x, 5).flatten().tolist() == [0, 0, 1, 0, 1]


def test_relu_ignores_timesteps():
    x = torch.randn(15, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ReLU()(x, 5), x.clamp_min(0))
