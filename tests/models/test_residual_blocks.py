"""The three residual blocks: what they compute, and what of it counts as SynOps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from snnkd.measure.counting import Counter, fan_out
from snnkd.models import Network, Specification, build_network
from snnkd.models.activation import LIF
from snnkd.models.features import Features
from snnkd.schema.model import ResNetConfig
from snnkd.schema.neuron import NeuronConfig

T = 3


def network(name: str, width: int = 4) -> Network:
    """With norms that let all layers fire, in float64."""
    torch.manual_seed(0)
    model = ResNetConfig(name=name, T=T, width=width)
    made = build_network(Specification(model=model, neuron=NeuronConfig(), classes=5, shape=(1, 16, 16)))
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.constant_(module.bias, 0.4)
    return made.double().eval()


def images() -> Tensor:
    return torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def inputs_of(made: Network) -> dict[str, Tensor]:
    """What each weight layer takes."""
    seen: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(
            lambda module, inputs, output, name=name: seen.update({name: inputs[0].clone()})
        )
        for name, module in made.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    ]
    made(images())
    for handle in handles:
        handle.remove()
    return seen


@torch.no_grad()
def test_sums_of_spikes_make_macs_and_single_spikes_synops() -> None:
    """SEW-ResNet: from the second block on the input is a sum of spikes, also where all of its values happen
    to be 0 or 1.
    """
    made = network("sew-resnet18")
    seen = inputs_of(made)
    spikes = {name for name in seen if name.endswith("conv2") or name == "body.stages.0.0.conv1"}
    synops, per_step = 0.0, 0
    for name, x in seen.items():
        module = made.get_submodule(name)
        assert isinstance(module, (nn.Conv2d, nn.Linear))
        if name in spikes:
            assert set(x.unique().tolist()) <= {0.0, 1.0}
            synops += float((x * fan_out(module, x)).sum())
        elif name != "body.conv":
            size = x[0].numel() if isinstance(module, nn.Linear) else None
            stride = module.stride[0] if isinstance(module, nn.Conv2d) else 1
            per_step += (
                size * module.out_features
                if size
                else module.weight.numel() * (x.shape[2] // stride) * (x.shape[3] // stride)
            )  # type: ignore[operator]
    assert seen["body.stages.1.0.conv1"].max() >= 2, "a sum of spikes"
    with Counter(made) as counter:
        made(images())
    assert counter.counts.synops is not None
    assert float(counter.counts.synops.sum()) == synops > 0
    assert counter.counts.macs_per_step == per_step


@torch.no_grad()
def test_sew_blocks_add_spikes_also_on_shortcuts_that_change_shape() -> None:
    made, features = network("sew-resnet34"), Features()
    made(images(), None, features)
    for i, blocks in enumerate((3, 4, 6, 3)):
        values = features.kept[f"stage{i + 1}"]
        assert torch.equal(values, values.round())
        assert 1 < values.max() <= blocks + 1


@torch.no_grad()
def test_ms_convolutions_see_spikes_and_shortcuts_currents() -> None:
    made, features = network("ms-resnet18"), Features()
    made(images(), None, features)
    seen = inputs_of(made)
    main = {name: x for name, x in seen.items() if name.endswith(("conv1", "conv2"))}
    assert len(main) == 16
    assert all(set(x.unique().tolist()) == {0.0, 1.0} for x in main.values())
    with Counter(made) as counter:
        made(images())
    assert counter.counts.synops is not None
    assert float(counter.counts.synops.sum()) == sum(
        float((x * fan_out(made.get_submodule(n), x)).sum()) for n, x in main.items()
    )  # type: ignore[arg-type]
    shortcuts = (4 * 8 * 8**2) + (8 * 16 * 4**2) + (16 * 32 * 2**2)
    assert counter.counts.macs_per_step == shortcuts + 32 * 5
    assert not torch.equal(features.kept["stage3"], features.kept["stage3"].round()), "currents"
    assert set(features.kept["stage4"].unique().tolist()) <= {0.0, 1.0}, "after the last neuron"


@pytest.mark.parametrize("name", ["ms-resnet18", "ms-resnet34", "resnet20w"])
@torch.no_grad()
def test_blocks_that_begin_as_their_shortcut(name: str) -> None:
    """The last norm of each block starts at 0, as in the authors' code: at first a block without projection
    hands on what it got.
    """
    torch.manual_seed(0)
    model = ResNetConfig(name=name, T=T, width=4)
    made = build_network(
        Specification(model=model, neuron=NeuronConfig(), classes=5, shape=(1, 16, 16))
    ).eval()
    block = made.body.get_submodule("stages.0.1")
    x = torch.randn(6, 4, 8, 8) if name.startswith("ms") else (torch.rand(6, 4, 8, 8) > 0.8).float()
    assert torch.equal(block(x, T), x)


@torch.no_grad()
def test_the_wide_resnet20_averages_where_resnet18_strides() -> None:
    made = network("resnet20w")
    seen = inputs_of(made)
    assert seen["body.stages.0.0.conv1"].shape[2:] == (8, 8), "pooled after the stem"
    assert seen["body.stages.1.0.shortcut.1"].shape[2:] == (4, 4)
    neurons = [name for name, module in made.named_modules() if isinstance(module, LIF)]
    assert len(neurons) == 3 + 2 * 8
    odd = build_network(
        Specification(
            model=ResNetConfig(name="resnet20w", width=2, T=2),
            neuron=NeuronConfig(),
            classes=5,
            shape=(1, 15, 17),
        )
    )
    assert odd(torch.rand(2, 1, 15, 17)).shape == (2, 2, 5)
