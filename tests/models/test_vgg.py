"""VGG: where it pools and how, the smallest images, and that a spiking one has no maximum."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import SMALL, Cli
from torch import nn

import snnkd
from snnkd.errors import FileError, UsageError
from snnkd.measure.counting import Counter
from snnkd.models import Network, Specification, build_network
from snnkd.models.features import feature_shapes
from snnkd.models.files import save_network
from snnkd.schema.model import VGGConfig
from snnkd.schema.neuron import NeuronConfig


def network(name: str = "vgg11", size: int = 16, T: int | None = None, pool: str = "avg") -> Network:
    torch.manual_seed(0)
    model = VGGConfig(name=name, T=T, width=4, pool=pool)  # type: ignore[arg-type]
    neuron = None if T is None else NeuronConfig()
    return build_network(Specification(model=model, neuron=neuron, classes=5, shape=(1, size, size))).eval()


def test_each_group_halves_the_image() -> None:
    assert feature_shapes(network(), (1, 16, 16)) == {
        "stage1": (4, 16, 16), "stage2": (8, 8, 8), "stage3": (16, 4, 4), "stage4": (32, 2, 2),
        "stage5": (32, 1, 1),
        "class_map": (5, 1, 1), "output": (32,),
    }  # fmt: skip
    assert feature_shapes(network("vgg16", 48), (1, 48, 48))["stage5"] == (32, 3, 3)


@pytest.mark.parametrize(("name", "weights"), [("vgg11", 8), ("vgg13", 10), ("vgg16", 13)])
def test_it_has_as_many_layers_as_its_name_says(name: str, weights: int) -> None:
    """With three linear layers in the original, one here."""
    convolutions = [module for module in network(name).modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == weights == int(name[3:]) - 3


@pytest.mark.parametrize("T", [None, 2])
def test_images_that_poolings_would_use_up_are_refused(T: int | None) -> None:
    with pytest.raises(
        UsageError,
        match=r"^model.name: vgg16 needs images of at least 16x16, these are 15x15; use resnet8$",
    ):
        network("vgg16", 15, T)


def test_an_ann_may_take_the_maximum() -> None:
    average, maximum = network(), network(pool="max")
    assert average.state_dict().keys() == maximum.state_dict().keys()
    images = torch.rand(2, 1, 16, 16)
    with torch.no_grad():
        assert not torch.allclose(average(images), maximum(images))
    assert [type(m) for m in maximum.modules() if "Pool" in type(m).__name__] == [nn.MaxPool2d] * 4


def test_a_student_that_takes_the_maximum_is_refused(cli: Cli) -> None:
    words = [*SMALL, "--model", "vgg11", "--set", "model.pool=max", "--set", "model.width=4"]
    ended = cli("distill", *words, "--loss", "none")
    assert ended.code == 2
    assert "model.pool: max in a spiking network, which needs avg" in ended.complaint
    assert not Path("runs").exists()
    taught = cli("teach", *words, "--epochs", 1)
    assert taught.code == 0, taught.err
    assert json.loads((taught.folder / "config.json").read_text())["model"]["pool"] == "max"


@torch.no_grad()
def test_after_a_pooling_come_macs_after_a_neuron_synops() -> None:
    """vgg11 in groups of 1, 1, 2, 2, 2: each group's first convolution sees averages (the stem an image),
    each second one spikes.
    """
    made = network(T=2)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.bias, 0.5)
    with Counter(made) as counter:
        made(torch.rand(2, 1, 16, 16))
    assert counter.counts.macs_once == 9 * 4 * 16**2
    firsts = 9 * 4 * 8 * 8**2 + 9 * 8 * 16 * 4**2 + 9 * 16 * 32 * 2**2 + 9 * 32 * 32
    assert counter.counts.macs_per_step == firsts + 32 * 5
    assert counter.counts.synops is not None
    assert counter.counts.synops.sum() > 0


def test_a_config_that_asks_for_what_cannot_be_is_a_bad_file(tmp_path: Path) -> None:
    save_network(tmp_path, network(), {})
    config = json.loads((tmp_path / "config.json").read_text())
    for change, said in (
        ({"input": [1, 8, 8]}, "at least 16x16"),
        ({"model": {**config["model"], "pool": "max", "T": 2}}, "model.pool: max"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(FileError, match=said):
            snnkd.load(tmp_path)


def test_cnn7_begins_by_passing_images_on() -> None:
    """The first filters of every convolution after the stem are the identity, the others random."""
    network = build_network(
        Specification(model=VGGConfig(name="cnn7", width=4), neuron=None, classes=3, shape=(3, 16, 16))
    )
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)][1:]
    assert len(convolutions) == 6
    for conv in convolutions:
        x = torch.rand(2, conv.in_channels, 8, 8)
        y = conv(x)
        torch.testing.assert_close(y[:, : conv.in_channels], x)
        assert conv.out_channels == conv.in_channels or y[:, conv.in_channels :].std() > 0.1
