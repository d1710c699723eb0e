"""A network on disk: round trip, and every kind of damage refused in one line that names the file."""

import json
import pickle
import resource
from pathlib import Path

import pytest
import safetensors.torch
import torch

import snnkd
from snnkd.errors import FileError
from snnkd.files import CONFIG, WEIGHTS, sha256
from snnkd.models import Specification, build_network
from snnkd.models.files import load_network, save_network, weights_bytes
from snnkd.schema.model import ResNetConfig
from snnkd.schema.neuron import NeuronConfig

ABOUT = {"stage": "distill", "seed": 3}


def network(kind="snn", seed=0, **neuron):
    torch.manual_seed(seed)
    snn = kind == "snn"
    model = ResNetConfig(name="resnet8", width=2, T=3 if snn else None)
    made = build_network(
        Specification(
            model=model, neuron=NeuronConfig(**neuron) if snn else None, classes=10, shape=(3, 16, 16)
        )
    )
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # so that layers fire
            torch.nn.init.constant_(module.bias, 0.4)
    made.mean.fill_(0.4)
    return made.eval()


@pytest.fixture
def folder(tmp_path):
    save_network(tmp_path, network(), ABOUT)
    return tmp_path


def refusal(folder, name):
    """The message of the FileError that loading `folder` raises; it is one line and names the file `name`."""
    with pytest.raises(FileError) as caught:
        load_network(folder)
    message = str(caught.value)
    assert caught.value.exit_code == 3
    assert "\n" not in message
    assert str(folder / name) in message
    return message


def edit(folder, **keys):
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | keys))


def put_weights(folder, content):
    """Weights that the config's sha256 agrees with."""
    (folder / WEIGHTS).write_bytes(content)
    edit(folder, weights_sha256=sha256(content))


@pytest.mark.parametrize("kind", ["ann", "snn"])
@torch.inference_mode()
def test_round_trip_is_bitwise(tmp_path, kind):
    original = network(kind, reset="soft", tau=3.0) if kind == "snn" else network(kind)
    digest = save_network(tmp_path, original, ABOUT)
    loaded = load_network(tmp_path)
    assert loaded.network.specification == original.specification
    assert not loaded.network.training
    assert (
        loaded.sha256
        == digest
        == sha256((tmp_path / WEIGHTS).read_bytes())
        == loaded.config["weights_sha256"]
    )
    assert (
        loaded.config.items()
        >= {**ABOUT, "format": "snnkd-network", "kind": kind, "classes": 10, "input": [3, 16, 16]}.items()
    )
    found, expected = loaded.network.state_dict(), original.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    images = torch.rand(4, 3, 16, 16)
    assert torch.equal(loaded.network(images), original(images))
    assert torch.equal(snnkd.load(str(tmp_path))(images), original(images))


def test_weights_depend_on_nothing_but_the_weights(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    save_network(tmp_path / "a", network(), {"seconds": 1.5, "run": str(tmp_path)})
    save_network(tmp_path / "b", network(), {"seconds": 2.5})
    content = (tmp_path / "a" / WEIGHTS).read_bytes()
    assert content == (tmp_path / "b" / WEIGHTS).read_bytes() == weights_bytes(network())
    assert weights_bytes(network(seed=1)) != content
    assert str(tmp_path).encode() not in content
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert header.keys() == network().state_dict().keys()
    assert all(entry.keys() == {"dtype", "shape", "data_offsets"} for entry in header.values())


def test_memory_layout_does_not_show(tmp_path):
    plain = network().to(memory_format=torch.contiguous_format)
    assert weights_bytes(plain) == weights_bytes(network())


def test_no_folder(tmp_path):
    assert "no such folder" in refusal(tmp_path / "none", "")


def test_missing_weights(folder):
    (folder / WEIGHTS).unlink()
    assert "no such file" in refusal(folder, WEIGHTS)


def test_a_folder_of_other_things(folder):
    (folder / CONFIG).unlink()
    assert "no config.json; pass a finished run (see `snnkd status`) or an export" in refusal(folder, "")


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_a_folder_in_the_place_of_a_file(folder, name):
    (folder / name).unlink()
    (folder / name).mkdir()
    refusal(folder, name)


@pytest.mark.parametrize("place", [0, 20, 0.5, -1])
def test_a_flipped_byte(folder, place):
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[int(place * len(content)) if isinstance(place, float) else place] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    assert "damaged" in refusal(folder, WEIGHTS)


@pytest.mark.parametrize("length", [0, 5, 100, -1])
def test_truncated_weights(folder, length):
    content = (folder / WEIGHTS).read_bytes()[:length]
    (folder / WEIGHTS).write_bytes(content)
    assert ("damaged" if content else "the file is empty") in refusal(folder, WEIGHTS)
    put_weights(folder, content)
    assert ("not a safetensors file" if content else "the file is empty") in refusal(folder, WEIGHTS)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[1, 2]", b"null", b'{"format": "snnkd-network"', b"9" * 5000, b"[" * 100_000],
    ids=range(8),
)
def test_a_config_that_is_no_json_object(folder, content):
    (folder / CONFIG).write_bytes(content)
    assert "JSON" in refusal(folder, CONFIG)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("format", "bert", "'bert'"),
        ("format", None, "None"),
        ("schema", 2, "2"),
        ("model", {"name": "resnet9", "T": 3}, "'resnet9'"),
        ("model", {"name": "resnet8", "T": 3, "depth": 5}, "model.depth"),
        ("model", {"name": "resnet8", "T": 0}, "model.T"),
        ("model", {"name": "resnet8", "T": 10**9}, "model.T"),
        ("model", {"name": "resnet8", "width": 2}, "model.T"),
        ("model", {"name": "resnet8", "T": 3, "width": -1}, "model.width"),
        ("model", {"name": "resnet8", "T": 3, "width": 10**12}, "model.width"),
        ("model", {"T": 3}, "name"),
        ("model", [], "malformed"),
        ("model", "resnet8", "malformed"),
        ("neuron", {"tau": "x"}, "neuron.tau"),
        ("neuron", {"tau": 1.0}, "neuron.tau"),
        ("neuron", {"taus": 2.0}, "neuron.taus"),
        ("neuron", 5, "neuron"),
        ("classes", "many", "classes"),
        ("classes", 1, "classes 1"),
        ("classes", 10**9, "classes 1000000000"),
        ("classes", 10**400, "is not a number"),
        ("classes", None, "classes"),
        ("classes", float("nan"), "is not a number"),
        ("input", [3, 16], "input"),
        ("input", [3, 16, 0], "input"),
        ("input", [3, 10**6, 10**6], "input"),
        ("input", "3x16x16", "input"),
        ("input", None, "input"),
    ],
)
def test_a_config_of_wrong_values(folder, key, value, said):
    edit(folder, **{key: value})
    assert said in refusal(folder, CONFIG)


@pytest.mark.parametrize("key", ["format", "schema", "model", "neuron", "classes", "input"])
def test_a_config_without_a_key(folder, key):
    config = json.loads((folder / CONFIG).read_text())
    del config[key]
    (folder / CONFIG).write_text(json.dumps(config))
    refusal(folder, CONFIG)


def test_a_config_without_the_sha256_of_the_weights(folder):
    edit(folder, weights_sha256=None)
    assert "None" in refusal(folder, WEIGHTS)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("classes", 11),
        ("input", [1, 16, 16]),
        ("model", {"name": "resnet8", "T": 3}),
        ("model", {"name": "resnet20", "T": 3, "width": 2}),
        # would take terabytes if it were built before it is compared
        ("model", {"name": "resnet18", "T": 1024, "width": 4096}),
        ("classes", 1_000_000),
    ],
    ids=str,
)
def test_a_config_of_another_network(folder, key, value):
    edit(folder, **{key: value})
    assert "tensor" in refusal(folder, WEIGHTS)


@pytest.mark.parametrize(
    "name",
    [
        "torchvision:vit_h_14",
        # cannot be built without memory
        "torchvision:regnet_y_128gf",
        pytest.param("timm:eva_giant_patch14_224", marks=pytest.mark.nightly),
    ],
)
def test_a_config_of_a_huge_network_of_a_library(folder, name):
    """Refused before gigabytes are allocated for a file of kilobytes."""
    edit(folder, model={"name": name}, neuron=None, input=[3, 224, 224])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert f"too few for {name}" in refusal(folder, WEIGHTS)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 2**20  # KiB


@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_weights_of_other_names(folder, change):
    tensors = safetensors.torch.load_file(folder / WEIGHTS)
    tensors["other"] = tensors.pop("body.head.bias") if change == "missing" else torch.zeros(1)
    put_weights(folder, safetensors.torch.save(tensors))
    assert change in refusal(folder, WEIGHTS)


class Trap:
    """Unpickling it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    "write",
    [lambda trap, path: path.write_bytes(pickle.dumps(trap)), torch.save],
    ids=["pickle", "torch.save"],
)
def test_nothing_is_unpickled(folder, write):
    sprung = folder / "sprung"
    write(Trap(sprung), folder / WEIGHTS)
    refusal(folder, WEIGHTS)
    put_weights(folder, (folder / WEIGHTS).read_bytes())
    assert "not a safetensors file" in refusal(folder, WEIGHTS)
    assert not sprung.exists()
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists()  # the trap would have sprung


def test_saving_leaves_only_the_two_files(folder):
    save_network(folder, network(seed=1), ABOUT)
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG, WEIGHTS]
    assert torch.equal(snnkd.load(folder).body.conv.weight, network(seed=1).body.conv.weight)
