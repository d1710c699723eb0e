"""NIR: the graph and its metadata, equal outputs in SpikingJelly and snnTorch, and a changed weight is
detected.
"""

import contextlib
import io
import json

import pytest
import torch
from conftest import tiers
from students import IMAGES, network_of, source_of

from snnkd.errors import UsageError
from snnkd.exports import nir as export
from snnkd.exports.agreement import compare, is_faithful
from snnkd.exports.twin import node_names, over_time

nir = pytest.importorskip("nir")
pytest.importorskip("nirtorch")


@pytest.fixture
def source(exports):
    export.check(exports.source)
    return exports.source


@pytest.fixture
def path(exports):
    return exports.path("nir")


def test_the_importer_answers_bit_for_bit_as_the_twin(source, path):
    found = compare(export.reference(source), export.read_back(path), IMAGES)
    assert (found.images, found.agreement, found.max_difference) == (12, 1.0, 0.0)


@pytest.mark.parametrize(
    "name",
    tiers(
        ["resnet19", "sew-resnet18", "ms-resnet18", "wrn-40-2", "vgg11"],
        ["resnet19", "sew-resnet18", "ms-resnet18", "vgg11"],
    ),
)
def test_every_family_is_imported_again(name, tmp_path):
    source = source_of(tmp_path / "run", network_of(name, T=2), T=2)
    export.write(tmp_path / "graph", source)
    assert compare(export.reference(source), export.read_back(tmp_path / "graph"), IMAGES).max_difference == 0


@pytest.mark.parametrize(
    "neuron", ["if", "plif", {"name": "lif", "tau": 3.0, "decay_input": True, "threshold": 0.4}]
)
def test_every_neuron_is_imported_again(neuron, tmp_path):
    source = source_of(tmp_path / "run", network_of(neuron=neuron))
    export.write(tmp_path / "graph", source)
    assert (
        compare(export.reference(source), export.read_back(tmp_path / "graph"), IMAGES).max_difference < 1e-5
    )


def test_what_the_graph_says_of_itself(source, path):
    metadata = nir.read(path).metadata
    assert int(metadata["T"]) == 4
    assert float(metadata["dt"]) == export.DT
    assert metadata["mean"].tolist() == pytest.approx([0.4] * 3)
    assert metadata["std"].tolist() == pytest.approx([0.3] * 3)
    assert "normalised" in metadata["input_is"]
    facts = json.loads(metadata["snnkd"])
    assert facts["weights_sha256"] == source.loaded.sha256
    assert (facts["T"], facts["classes"], facts["input"], facts["data_sha256"]) == (4, 10, [3, 16, 16], "d")


def test_nodes_have_the_names_of_layers(path):
    nodes = nir.read(path).nodes
    wanted = {
        "conv",
        "act",
        "stages_0_0_conv1",
        "stages_0_0_act2",
        "stages_1_0_shortcut_0",
        "stages_2_0_conv2",
        "mean",
        "flatten",
        "head",
    }
    assert wanted < nodes.keys()
    assert not [name for name in nodes if name.startswith("_")]
    assert isinstance(nodes["head"], nir.Affine)
    assert isinstance(nodes["stages_0_0_act2"], nir.LIF)


def test_another_t_is_another_number_in_the_same_graph(source, tmp_path):
    longer = type(source)(source.loaded, 5)
    export.write(tmp_path / "graph", longer)
    assert export.read_back(tmp_path / "graph")(IMAGES).shape == (5, 12, 10)


def test_event_frames_are_read_back_in_turn(tmp_path):
    source = source_of(tmp_path / "run", network_of(shape=(2, 16, 16), frames=4))
    export.write(tmp_path / "graph", source)
    events = torch.rand(4, 6, 2, 16, 16, generator=torch.Generator().manual_seed(2))
    assert compare(export.reference(source), export.read_back(tmp_path / "graph"), events).max_difference == 0
    assert nir.read(tmp_path / "graph").metadata["input_is"] == export.FRAMES


def test_one_flipped_weight_is_detected(source, path, tmp_path):
    graph = nir.read(path)
    node = next(node for node in graph.nodes.values() if isinstance(node, nir.Affine))
    node.weight[0, 0] *= -1
    nir.write(tmp_path / "flipped", graph)
    reference = export.reference(source)
    found = compare(reference, export.read_back(tmp_path / "flipped"), IMAGES)
    assert not is_faithful(found, export.TOLERANCE, reference.module, reference, IMAGES)


def test_a_soft_reset_is_refused_before_anything_is_traced(tmp_path):
    source = source_of(tmp_path / "run", network_of(neuron={"name": "lif", "reset": "soft"}))
    with pytest.raises(UsageError, match=r"layer body\.act resets by subtraction"):
        export.check(source)


def recorded(module, kind, first, names):
    """The spikes of every layer of `kind`, by node `names`; with `first` the first of a layer's outputs."""
    spikes = {}

    def keep(name):
        return lambda _, inputs, output: spikes.setdefault(name, []).append(output[0] if first else output)

    for name, layer in module.named_modules():
        if isinstance(layer, kind):
            layer.register_forward_hook(keep(names(name)))
    return spikes


@pytest.mark.parametrize("name", ["resnet8", "sew-resnet18", "ms-resnet18"])
def test_a_second_simulator_spikes_alike_layer_by_layer(name, tmp_path):
    """snnTorch, under its conditions: dt = 1e-4, one image at a time, its neurons' state cleared between
    images.
    """
    snntorch = pytest.importorskip("snntorch", reason="the second simulator, snntorch, is not installed")
    from snntorch.import_nir import import_from_nir
    from spikingjelly.activation_based import neuron

    source = source_of(tmp_path / "run", network_of(name))
    export.write(tmp_path / "graph", source)
    with contextlib.redirect_stdout(io.StringIO()):
        other = import_from_nir(nir.read(tmp_path / "graph"))
    network, twin = source.loaded.network, export.reference(source)
    names = node_names(twin.module, network)
    ours = recorded(twin.module, neuron.BaseNode, False, lambda name: names["_" + name.replace(".", "_")])
    theirs = recorded(other, snntorch.Leaky, True, lambda name: name)
    for image in IMAGES.split(1)[:4]:
        ours.clear()
        theirs.clear()
        for layer in other.modules():
            if isinstance(layer, snntorch.Leaky):
                layer.mem = layer.init_leaky()
        with torch.no_grad():
            wanted = twin(image)
            state, logits = None, []
            for x in over_time(image, network.mean, network.std, 3):
                now, state = other(x, state)
                logits.append(now)
        assert ours.keys() == theirs.keys()
        for layer, (spikes,) in ours.items():
            assert torch.equal(torch.stack(theirs[layer]).view_as(spikes), spikes), layer
        assert torch.allclose(torch.stack(logits).view_as(wanted), wanted, atol=1e-5)
        assert sum(spikes.sum() for (spikes,) in ours.values()) > 100
