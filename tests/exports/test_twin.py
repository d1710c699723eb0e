"""The folded twin: the same function in other layers; what NIR cannot say is refused by name."""

import math

import pytest
import torch
from students import IMAGES, SHAPE, network_of
from torch import nn

from snnkd.errors import UsageError
from snnkd.exports.agreement import compare
from snnkd.exports.twin import Twin, build_twin, check_exportable, fold


def largest(network, T):
    return compare(lambda images: network(images, T), Twin(network, T), IMAGES)


@pytest.mark.parametrize("bias", [False, True])
def test_a_folded_convolution_answers_as_both(bias):
    """Also at the border, where the convolution pads: the norm stands after it."""
    torch.manual_seed(0)
    convolution, norm = nn.Conv2d(3, 5, 3, 2, 1, bias=bias), nn.BatchNorm2d(5)
    norm(10 * torch.randn(50, 5, 4, 4) + 3)
    nn.init.uniform_(norm.weight, 0.5, 2.0)
    nn.init.uniform_(norm.bias, -1.0, 1.0)
    norm.eval()
    x = torch.randn(2, 4, 3, 9, 9)
    with torch.no_grad():
        wanted = norm(convolution(x.flatten(0, 1))).unflatten(0, (2, 4))
        assert torch.allclose(fold(convolution, norm)(x), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "neuron"),
    [
        ("resnet8", "lif"),
        ("resnet8", {"name": "lif", "tau": 3.0, "decay_input": True, "threshold": 0.4}),
        ("resnet8", "if"),
        ("resnet8", "plif"),
        ("resnet19", "lif"),
        ("resnet20w", "lif"),
        ("sew-resnet18", "lif"),
        ("ms-resnet18", "lif"),
        ("wrn-40-2", "lif"),
        ("resnet8x4", "lif"),
        ("vgg8", "lif"),
        ("vgg11", "lif"),
    ],
)
def test_a_twin_answers_as_its_network(name, neuron):
    """Apart from spikes that rounding flips: a wrong path, shortcut or neuron changes every image."""
    network = network_of(name, neuron=neuron)
    found = largest(network, 3)
    assert found.median_difference < 1e-5
    assert found.agreement > 0.9
    with torch.no_grad():
        assert network(IMAGES, 3).std(1).max() > 1e-3, "it answers images differently"


def test_the_state_is_new_in_every_call():
    twin = Twin(network_of(), 3)
    with torch.no_grad():
        assert torch.equal(twin(IMAGES), twin(IMAGES))
        assert torch.equal(twin(IMAGES)[:, :4], twin(IMAGES[:4]))


def test_a_learned_time_constant_is_said():
    network = network_of(neuron="plif")
    with torch.no_grad():
        network.body.act.w.fill_(0.7)
    assert build_twin(network)[1].tau == pytest.approx(1 + math.exp(-0.7))


def refusal(network):
    with pytest.raises(UsageError) as refused:
        check_exportable(network)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def swapped(path, module):
    """A network with one layer of another kind."""
    network = network_of()
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, module)
    return network


@pytest.mark.parametrize(
    ("path", "module", "why"),
    [
        ("body.conv", nn.Conv2d(4, 4, 3, groups=2), "is a grouped convolution (groups = 2)"),
        (
            "body.conv",
            nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
            "pads with reflect instead of zeros",
        ),
        ("body.stages.1.0.shortcut", nn.MaxPool2d(2), "is a max pooling"),
        ("body.norm", nn.GroupNorm(2, 4), "is a GroupNorm, which NIR does not have"),
        ("body.stages.0.0.norm2", nn.LayerNorm(4), "is a LayerNorm, which NIR does not have"),
        ("body.head", nn.MultiheadAttention(4, 2), "which NIR does not have"),
        ("body.stages.0.0.act1", nn.GELU(), "is a GELU"),
    ],
)
def test_a_layer_that_nir_cannot_say_is_named(path, module, why):
    said = refusal(swapped(path, module))
    assert said.startswith(f"--format nir: layer {path}")
    assert why in said


@pytest.mark.parametrize(
    ("neuron", "layer", "why"),
    [
        ({"name": "lif", "reset": "soft"}, "body.act", "resets by subtraction (neuron.reset: soft)"),
        (
            {"name": "lif", "last": "relu"},
            "body.stages.2.0.act2",
            "outputs real values instead of spikes (neuron.last: relu)",
        ),
        ("klif", "body.act", "is a neuron 'klif'"),
        ("psn", "body.act", "is a neuron 'psn'"),
    ],
)
def test_a_neuron_that_nir_cannot_say_is_named(neuron, layer, why):
    assert f"layer {layer} {why}" in refusal(network_of(neuron=neuron))


def test_a_teacher_is_refused():
    assert "teacher" in refusal(network_of(T=None))


def test_attention_is_refused_by_its_layer():
    from snnkd.models.attention import SelfProduct

    network = network_of("spikformer", dim=16, heads=2, depth=1)
    for stage in network.body.modules():  # its max-poolings would be named first
        if isinstance(getattr(stage, "pool", None), nn.MaxPool2d):
            stage.pool = nn.Identity()
    (name,) = (name for name, module in network.named_modules() if isinstance(module, SelfProduct))
    assert f"layer {name} is a SelfProduct, which NIR does not have" in refusal(network)


def test_event_frames_are_seen_one_a_timestep():
    network = network_of(shape=(2, 16, 16), frames=4)
    events = torch.rand(4, 6, 2, 16, 16, generator=torch.Generator().manual_seed(2))
    found = compare(lambda images: network(images, 3), Twin(network, 3), events)
    assert found.median_difference < 1e-5


def test_an_unknown_topology_is_refused():
    class Own(type(network_of().body)):
        pass

    network = network_of()
    network.body.__class__ = Own
    assert "is not one of ResNet, VGG" in refusal(network)


def test_a_pooling_that_rounds_up_is_refused_at_odd_sizes_only():
    odd = network_of("resnet20w", shape=(3, 18, 18))
    with pytest.raises(UsageError, match=r"layer body\.stages\.\d\.0\.shortcut\.0 average-pools an odd size"):
        build_twin(odd)
    build_twin(network_of("resnet20w", shape=SHAPE))
