"""Plain neurons spike as the layers do, bit for bit; the unrolled network is the network itself, but for
rounding.
"""

import pytest
import torch
from students import IMAGES, network_of

from snnkd.catalog.neurons import NEURONS, build_neuron
from snnkd.errors import UsageError
from snnkd.exports.agreement import compare
from snnkd.exports.plain import PLAIN, PlainNeuron, check_plain, unrolled
from snnkd.models.activation import make_neuron

SETTINGS = [
    {},
    {"tau": 1.7},
    {"tau": 3.3, "decay_input": True},
    {"reset": "soft", "threshold": 0.8},
    {"tau": 2.9, "reset": "soft"},
    {"k": 3},
]


def settled(name, settings):
    """Those of the settings that the neuron has."""
    known = NEURONS[name].options.__dataclass_fields__
    return build_neuron({"name": name, **{key: value for key, value in settings.items() if key in known}})


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_neuron_spikes_as_the_layer_does(name, settings):
    torch.manual_seed(0)
    layer = make_neuron(settled(name, settings), 5)
    x = torch.randn(5 * 4, 6, 3, 3) * 1.5 + 0.3
    with torch.inference_mode():
        wanted = layer(x, 5)
        assert torch.equal(PlainNeuron(layer)(x, 5), wanted)
    assert 0.005 < wanted.mean() < 0.9


@pytest.mark.parametrize(
    "model", [("resnet8", 3), ("resnet8", None), ("sew-resnet18", 2), ("ms-resnet18", 2), ("vgg11", 2)]
)
def test_an_unrolled_network_answers_as_the_network_does(model):
    network = network_of(*model)
    T = model[1] or 1
    found = compare(lambda images: network(images, T), unrolled(network, T), IMAGES)
    assert found.median_difference < 1e-5
    assert found.agreement > 0.9
    with torch.no_grad():
        wanted = network(IMAGES, T)
    assert wanted.shape[0] == T
    assert wanted.std(1).max() > 1e-3, "it answers images differently"


def test_the_network_itself_stays_as_it_is():
    network = network_of()
    before = [type(module).__name__ for module in network.modules()]
    unrolled(network, 3)
    assert [type(module).__name__ for module in network.modules()] == before
    assert network.channels_last
    assert all(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("neuron", sorted({entry.name for entry in NEURONS} - set(PLAIN)))
def test_a_neuron_without_a_plain_form_is_refused_by_its_layer(neuron):
    with pytest.raises(
        UsageError, match=rf"--format onnx: layer body.act: neuron '{neuron}' is not supported"
    ):
        check_plain(network_of(neuron=neuron), "onnx")
