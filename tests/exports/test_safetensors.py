"""The safetensors export: written, read back by the numpy reader, and every change noticed."""

import json

import pytest
import torch
from torch import nn

from snnkd.errors import FileError, UsageError
from snnkd.exports import safetensors as export
from snnkd.exports.agreement import compare, is_faithful
from snnkd.exports.card import CARD
from snnkd.exports.source import Source
from snnkd.files import CONFIG, WEIGHTS, sha256
from snnkd.models import Specification, build_network
from snnkd.models.files import load_network, save_network
from snnkd.schema.model import ResNetConfig
from snnkd.schema.neuron import NeuronConfig

IMAGES = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=["snn", "ann"])
def loaded(request, tmp_path):
    torch.manual_seed(0)
    snn = request.param == "snn"
    model = ResNetConfig(name="resnet8", width=4, T=3 if snn else None)
    network = build_network(
        Specification(model=model, neuron=NeuronConfig() if snn else None, classes=10, shape=(3, 16, 16))
    )
    network.mean.fill_(0.4)  # not 0 and 1, which hide an export that changes them
    network.std.fill_(0.3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # so that layers fire
            nn.init.constant_(module.bias, 0.4)
    (tmp_path / "run").mkdir()
    save_network(tmp_path / "run", network, {"seed": 0, "data_sha256": "d"})
    return load_network(tmp_path / "run")


def source_of(loaded, T=None):
    return Source(loaded, T or loaded.network.specification.T)


@pytest.fixture
def folder(loaded, tmp_path):
    export.write(tmp_path / "deep" / "export", source_of(loaded))
    return tmp_path / "deep" / "export"


def flip(folder, offset):
    """Change one bit of the weights, `offset` bytes before their end."""
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-offset] ^= 0x40
    (folder / WEIGHTS).write_bytes(content)
    return bytes(content)


def test_what_is_written(loaded, folder):
    assert sorted(path.name for path in folder.iterdir()) == [CARD, CONFIG, WEIGHTS]
    assert (folder / WEIGHTS).read_bytes() == (loaded.folder / WEIGHTS).read_bytes()
    config = json.loads((folder / CONFIG).read_text())
    assert config["weights_sha256"] == loaded.sha256
    assert (config["seed"], config["data_sha256"]) == (0, "d")


def test_read_back_it_is_the_same_bitwise(loaded, folder):
    network = export.read_back(folder)
    assert network.specification == loaded.network.specification
    assert not network.training
    found = compare(loaded.network, network, IMAGES)
    assert (found.agreement, found.max_difference) == (1.0, export.TOLERANCE)


def test_an_export_is_a_network_to_load(loaded, folder):
    assert compare(loaded.network, load_network(folder).network, IMAGES).max_difference == 0


def test_a_flipped_weight_is_refused(folder):
    flip(folder, 1)
    with pytest.raises(FileError, match="damaged"):
        export.read_back(folder)


def test_a_flipped_weight_with_a_fresh_checksum_makes_a_difference(loaded, folder):
    """One bit of the exponent of the head's first weight."""
    content = bytearray((folder / WEIGHTS).read_bytes())
    size = int.from_bytes(content[:8], "little")
    start = 8 + size + json.loads(content[8 : 8 + size])["body.head.weight"]["data_offsets"][0]
    content = flip(folder, len(content) - start - 3)
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | {"weights_sha256": sha256(content)}))
    found = compare(loaded.network, export.read_back(folder), IMAGES)
    assert found.max_difference > 0
    assert not is_faithful(found, export.TOLERANCE, loaded.network, loaded.network, IMAGES)


def test_an_existing_folder_is_not_overwritten(loaded, folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(FileExistsError):
        export.write(folder, source_of(loaded))
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_another_t_is_refused(loaded):
    export.check(source_of(loaded))
    with pytest.raises(UsageError, match="--T 9: safetensors stores the network as trained"):
        export.check(source_of(loaded, 9))
