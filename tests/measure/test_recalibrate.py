"""Batch norm's statistics taken anew."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from snnkd.data import Split
from snnkd.data.loader import to_float
from snnkd.errors import UsageError
from snnkd.measure.recalibrate import recalibrate_norms
from snnkd.models import Network, Specification, build_network
from snnkd.schema.model import ResNetConfig
from snnkd.schema.neuron import NeuronConfig


def network() -> Network:
    torch.manual_seed(0)
    model = ResNetConfig(name="resnet8", width=4, T=2)
    return build_network(Specification(model=model, neuron=NeuronConfig(), classes=10, shape=(1, 16, 16)))


def images(count: int = 60) -> Split:
    pixels = torch.randint(
        256, (count, 1, 16, 16), generator=torch.Generator().manual_seed(1), dtype=torch.uint8
    )
    return Split(pixels, torch.zeros(count, dtype=torch.long))


def test_the_first_norm_has_the_statistics_of_its_input() -> None:
    made, train = network(), images()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    assert recalibrate_norms(made, train, 2, 60, lambda _: None) == 60
    with torch.no_grad():
        seen = made.body.conv(to_float(train.images))
    torch.testing.assert_close(made.body.norm.running_mean, seen.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(made.body.norm.running_var, seen.var((0, 2, 3)), rtol=1e-3, atol=1e-5)
    changed = {name for name, value in made.state_dict().items() if not torch.equal(value, before[name])}
    assert all("running" in name or "num_batches" in name for name in changed), "weights stay"
    assert not made.training
    assert {norm.momentum for norm in made.modules() if isinstance(norm, nn.BatchNorm2d)} == {0.1}


def test_timesteps_change_the_later_norms() -> None:
    short, long = network(), network()
    recalibrate_norms(short, images(), 1, 30, lambda _: None)
    recalibrate_norms(long, images(), 6, 30, lambda _: None)
    assert torch.equal(short.body.norm.running_mean, long.body.norm.running_mean)
    assert not torch.equal(
        short.body.stages[0][0].norm1.running_mean, long.body.stages[0][0].norm1.running_mean
    )


def test_a_small_last_batch_is_left_out() -> None:
    assert recalibrate_norms(network(), images(70), 1, 30, lambda _: None) == 60
    assert recalibrate_norms(network(), images(20), 1, 30, lambda _: None) == 20


def test_only_the_rows_of_the_split_are_seen() -> None:
    whole = images(60)
    rows = torch.arange(30, 60)
    part, alone = Split(whole.images, whole.labels[rows], rows), Split(whole.images[rows], whole.labels[rows])
    found = []
    for train in (part, alone):
        made = network()
        recalibrate_norms(made, train, 1, 30, lambda _: None)
        found.append(made.body.norm.running_mean.clone())
    assert torch.equal(*found)


def test_event_frames_are_seen_in_their_order() -> None:
    torch.manual_seed(0)
    model = ResNetConfig(name="resnet8", width=4, T=3)
    made = build_network(
        Specification(model=model, neuron=NeuronConfig(), classes=10, shape=(2, 16, 16), frames=3)
    )
    frames = torch.randint(
        9, (20, 3, 2, 16, 16), generator=torch.Generator().manual_seed(1), dtype=torch.uint8
    )
    assert (
        recalibrate_norms(made, Split(frames, torch.zeros(20, dtype=torch.long)), 3, 10, lambda _: None) == 20
    )
    assert made.body.norm.num_batches_tracked == 2


def test_nothing_to_recalibrate() -> None:
    made = network()
    made.body = nn.Flatten()
    with pytest.raises(UsageError, match="no batch normalisation"):
        recalibrate_norms(made, images(), 1, 30, lambda _: None)
