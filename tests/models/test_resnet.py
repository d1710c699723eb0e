"""The residual family: sizes, one topology for ANN and SNN, shapes, the stem computed once, no state."""

import copy

import pytest
import torch
from torch import nn

from snnkd.errors import UsageError
from snnkd.models import Specification, build_network
from snnkd.models.activation import LIF
from snnkd.schema.model import ResNetConfig
from snnkd.schema.neuron import NeuronConfig

NAMES = ["resnet8", "resnet18", "resnet19", "resnet20"]


def specification(name="resnet8", kind="snn", width=4, T=3, classes=10, shape=(3, 16, 16)):
    snn = kind == "snn"
    return Specification(
        model=ResNetConfig(name=name, T=T if snn else None, width=width),
        neuron=NeuronConfig() if snn else None,
        classes=classes,
        shape=shape,
    )


def build(seed=0, **settings):
    torch.manual_seed(seed)
    return build_network(specification(**settings)).eval()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_shape_of_logits(name, size, channels):
    images = torch.rand(2, channels, size, size)
    assert build(name=name, width=2, T=3, shape=(channels, size, size))(images).shape == (3, 2, 10)
    assert build(name=name, width=2, kind="ann", shape=(channels, size, size))(images).shape == (1, 2, 10)


@torch.inference_mode()
def test_timesteps_can_be_given_for_a_call():
    images = torch.rand(2, 3, 16, 16)
    assert build(T=3)(images, 5).shape == (5, 2, 10)
    assert build(T=3)(images, T=1).shape == (1, 2, 10)


@torch.inference_mode()
def test_the_stem_is_computed_once():
    network, rows = build(T=3), {}
    for name, module in network.named_modules():
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.Linear)):
            module.register_forward_hook(
                lambda module, inputs, output, name=name: rows.update({name: len(output)})
            )
    network(torch.rand(5, 3, 16, 16))
    assert {name for name, n in rows.items() if n == 5} == {"body.conv", "body.norm"}
    assert set(rows.values()) == {5, 15}


@torch.inference_mode()
def test_no_state_is_left():
    """After a pass a network holds nothing but its weights, answers the same again, and takes another batch
    size.
    """
    network, images = build(), torch.rand(4, 3, 16, 16)
    held = {id(t) for t in (*network.parameters(), *network.buffers())}
    first = network(images)
    for module in network.modules():
        tensors = [
            v
            for v in (vars(module) | module._parameters | module._buffers).values()
            if isinstance(v, torch.Tensor)
        ]
        assert all(id(t) in held for t in tensors)
    assert torch.equal(network(images), first)
    assert network(images[:2]).shape == (3, 2, 10)
    assert torch.equal(copy.deepcopy(network)(images), first)


@pytest.mark.parametrize("kind", ["ann", "snn"])
@torch.inference_mode()
def test_a_network_normalises_images_itself(kind):
    network, images = build(kind=kind), torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.2, 0.3, 0.4])
    plain = network((images - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    network.mean.copy_(mean)
    network.std.copy_(std)
    assert torch.equal(network(images), plain)
    assert {"mean", "std"} <= network.state_dict().keys()


@pytest.mark.parametrize("shape", [(2, 1, 16, 16), (2, 3, 16, 15), (3, 16, 16), (1, 2, 3, 16, 16)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(UsageError) as caught:
        build()(torch.rand(shape))
    assert str(list(shape)) in str(caught.value)
    assert "[B, 3, 16, 16]" in str(caught.value)


@pytest.mark.parametrize("kind", ["ann", "snn"])
def test_the_same_seed_gives_the_same_weights(kind):
    first, again, other = (build(kind=kind, seed=seed).state_dict() for seed in (7, 7, 8))
    assert all(torch.equal(a, b) for a, b in zip(first.values(), again.values(), strict=True))
    assert not torch.equal(first["body.conv.weight"], other["body.conv.weight"])


def test_neurons_take_the_settings_of_the_specification():
    neurons = [m for m in build(name="resnet19").modules() if isinstance(m, LIF)]
    assert len(neurons) == 1 + 2 * 8 + 1  # stem, two in each block, hidden
    assert len({str(n) for n in neurons}) == 1
