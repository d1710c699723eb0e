"""Spikes, SynOps and MACs against SpikingJelly's SynOpCounter, brute force and formulas by hand."""

import itertools

import pytest
import torch
from spikingjelly.activation_based.op_counter import DispatchCounterMode, SynOpCounter
from torch import nn

from snnkd.catalog.neurons import build_neuron
from snnkd.measure.counting import Counter, fan_out, macs
from snnkd.models import Network, Specification, build_network
from snnkd.models.activation import LIF, make_neuron
from snnkd.schema.model import ResNetConfig
from snnkd.schema.neuron import NeuronConfig

T = 3


def network(name="resnet8", width=4, kind="snn", shape=(3, 16, 16), T=T):
    """An untrained network whose layers all fire, in float64: no rounding can flip a spike between two ways
    to run it."""
    torch.manual_seed(0)
    snn = kind == "snn"
    model = ResNetConfig(name=name, width=width, T=T if snn else None)
    made = build_network(
        Specification(model=model, neuron=NeuronConfig() if snn else None, classes=10, shape=shape)
    )
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.bias, 0.4)
        if isinstance(module, nn.Linear):
            nn.init.constant_(module.bias, 0.3)
    return made.double().eval()


def images(count=4, shape=(3, 16, 16), seed=0):
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@torch.inference_mode()
def count(made, *batches, T=None):
    with Counter(made) as counter:
        for batch in batches:
            made(batch, T)
    return counter.counts


def oracle(made, batch):
    """SpikingJelly's count, summed over images and timesteps. no_grad: inference mode hides the operators
    from it."""
    counter = SynOpCounter()
    with torch.no_grad(), DispatchCounterMode([counter]):
        made(batch)
    return counter.get_total()


@pytest.mark.parametrize(
    ("name", "width", "shape"),
    [("resnet8", 4, (3, 16, 16)), ("resnet8", 5, (1, 15, 18)), ("resnet19", 2, (3, 16, 16))],
)
def test_synops_are_those_of_spikingjelly(name, width, shape):
    """Strided convolutions, padding, 1x1 shortcuts, odd sizes, and (resnet19) a linear layer between
    neurons."""
    made, batch = network(name, width, shape=shape), images(shape=shape)
    found = count(made, batch)
    assert all(rate > 0.02 for rate in found.rates().values())
    assert found.synops.sum().item() == oracle(made, batch)
    for t in range(T):  # a run of t + 1 steps counts the first t + 1 entries
        assert found.synops[: t + 1].sum() == count(made, batch, T=t + 1).synops.sum()


def brute_force(conv, shape):
    """Connections of each input position, one weight at a time."""
    _, height, width = shape
    reach = torch.zeros(shape)
    inputs, outputs = conv.in_channels // conv.groups, conv.out_channels // conv.groups
    geometry = zip((height, width), conv.padding, conv.kernel_size, conv.stride, strict=True)
    rows, columns = (
        (size + 2 * padding - kernel) // stride + 1 for size, padding, kernel, stride in geometry
    )
    for y, x, i, j in itertools.product(
        range(rows), range(columns), range(conv.kernel_size[0]), range(conv.kernel_size[1])
    ):
        at = y * conv.stride[0] + i - conv.padding[0], x * conv.stride[1] + j - conv.padding[1]
        if 0 <= at[0] < height and 0 <= at[1] < width:
            for group, c, _ in itertools.product(range(conv.groups), range(inputs), range(outputs)):
                reach[group * inputs + c, at[0], at[1]] += 1
    return reach.double()


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(2, 3, 3, 1, 1),
        nn.Conv2d(2, 3, 3, 2, 1),
        nn.Conv2d(2, 3, 3),
        nn.Conv2d(2, 5, 1, 2),
        nn.Conv2d(4, 6, 3, 2, 1, groups=2),
        nn.Conv2d(4, 4, 3, 1, 1, groups=4),
        nn.Conv2d(2, 3, (3, 1), (1, 2), (1, 0)),
    ],
    ids=str,
)
def test_fan_out_by_brute_force(conv):
    shape = (conv.in_channels, 5, 6)
    assert torch.equal(fan_out(conv, torch.zeros(1, *shape)), brute_force(conv, shape))


def test_fan_out_of_a_linear_layer():
    assert fan_out(nn.Linear(7, 5), torch.zeros(1, 7)) == 5


def test_the_stem_counts_as_macs_also_for_a_binary_image():
    made = network()
    binary = (images() > 0.5).double()
    found = count(made, binary)
    assert found.macs_once == 9 * 3 * 4 * 16 * 16
    by_stem = (fan_out(made.body.conv, binary) * binary).sum()
    assert by_stem > 0
    assert found.synops.sum() + by_stem == oracle(made, binary)


def test_macs_of_resnet8_by_hand():
    """Padding included, bias left out: 3x3 stem, three blocks (two with a 1x1 shortcut), head."""
    w, side = 4, 16
    stem = 9 * 3 * w * side**2
    first = 2 * 9 * w * w * side**2
    second = (9 * w * 2 * w + 9 * (2 * w) ** 2 + w * 2 * w) * (side // 2) ** 2
    third = (9 * 2 * w * 4 * w + 9 * (4 * w) ** 2 + 2 * w * 4 * w) * (side // 4) ** 2
    head = 4 * w * 10
    ann = count(network(kind="ann"), images())
    assert ann.macs_once + ann.macs_per_step == stem + first + second + third + head
    assert (ann.synops, ann.rate(), ann.spikes) == (None, None, {})
    snn = count(network(), images())
    assert (snn.macs_once, snn.macs_per_step) == (stem, head)


def test_macs_of_resnet20_are_near_the_published_ones():
    """He et al.'s ResNet-20 on 32x32 is quoted with 41 M multiply-adds; ours has two 1x1 shortcuts on top."""
    made = build_network(
        Specification(model=ResNetConfig(name="resnet20"), neuron=None, classes=10, shape=(3, 32, 32))
    ).eval()
    found = count(made, torch.rand(1, 3, 32, 32))
    first = 9 * (3 + 6 * 16) * 16 * 32**2
    second = (9 * (16 + 5 * 32) + 16) * 32 * 16**2
    third = (9 * (32 + 5 * 64) + 32) * 64 * 8**2
    assert found.macs_once + found.macs_per_step == first + second + third + 64 * 10
    assert 40.5e6 < first + second + third < 41.5e6


def test_macs_of_a_grouped_convolution():
    conv = nn.Conv2d(4, 6, 3, 2, 1, groups=2)
    assert macs(conv, conv(torch.zeros(2, 4, 8, 8))) == 9 * 2 * 6 * 4 * 4


class Tokens(nn.Module):
    """Layers over tokens as a network of the user's may have them: Conv1d over `[T*B, D, N]`, Linear over
    `[T*B, N, D]` and `[T, B, D]`."""

    def __init__(self, activation):
        super().__init__()
        self.act1, self.act2, self.act3 = activation(), activation(), activation()
        self.conv = nn.Conv1d(3, 6, 3, 1, 1)
        self.linear = nn.Linear(6, 5)
        self.head = nn.Linear(5, 10)

    def forward(self, images, T):
        x = self.act1(images.flatten(2).repeat(T, 1, 1), T)
        x = self.act2(self.conv(x) + 1, T)
        x = x.transpose(1, 2) * 2  # no spikes: MACs
        x = self.act3(self.linear(x) + 1, T).sum(1)
        return self.head(x.unflatten(0, (T, -1)))


@torch.inference_mode()
def test_operations_of_tokens():
    torch.manual_seed(0)
    specification = Specification(model=ResNetConfig(T=T), neuron=NeuronConfig(), classes=10, shape=(3, 4, 4))
    made = Network(Tokens(lambda: make_neuron(NeuronConfig())), specification).double()
    seen = {}
    made.body.act1.register_forward_hook(lambda m, i, spikes: seen.update(first=spikes.clone()))
    found = count(made, 3 * images(4, (3, 4, 4)))
    reach = torch.full((16,), 3.0).double()
    reach[0] = reach[-1] = 2.0  # a kernel of 3 hangs over at both ends
    assert seen["first"].sum() > 0
    assert found.synops.sum() == (seen["first"] * reach * 6).sum()
    assert (found.macs_once, found.macs_per_step) == (0, 16 * 6 * 5 + 5 * 10)


@pytest.mark.parametrize("neuron", ["if", "plif", "glif", "sliding-psn", "qif"])
def test_synops_of_every_kind_of_neuron_are_those_of_spikingjelly(neuron):
    torch.manual_seed(0)
    model = ResNetConfig(width=4, T=T)
    made = build_network(
        Specification(model=model, neuron=build_neuron(neuron), classes=10, shape=(3, 16, 16))
    )
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.bias, 0.6)
    made.double().eval()
    found = count(made, images())
    assert all(rate > 0.02 for rate in found.rates().values())
    assert found.synops.sum().item() == oracle(made, images())


@torch.inference_mode()
def test_linear_after_a_neuron_counts_synops_and_after_a_mean_macs():
    """resnet19: hidden layer behind the pooling (MACs at each step), head behind the hidden neurons
    (SynOps)."""
    found = count(network("resnet19", 2), images())
    assert found.macs_per_step == 8 * 256  # 2 x 2 x 2 channels into 256 hidden units
    assert found.spikes["body.hidden_act"].sum() > 0


@torch.inference_mode()
def test_rates_are_means_of_spikes():
    made, batch, seen = network(), images(), {}
    for name, module in made.named_modules():
        if isinstance(module, LIF):
            module.register_forward_hook(
                lambda module, inputs, spikes, name=name: seen.update({name: spikes.clone()})
            )
    found = count(made, batch)
    rates = found.rates()
    assert rates.keys() == seen.keys()
    for name, spikes in seen.items():
        assert rates[name] == pytest.approx(spikes.mean().item(), rel=1e-12)
        assert torch.equal(found.spikes[name], spikes.unflatten(0, (T, -1)).flatten(1).sum(1))
        assert found.neurons[name] == spikes[0].numel()
    everything = torch.cat([spikes.flatten() for spikes in seen.values()])
    assert found.rate() == pytest.approx(everything.mean().item(), rel=1e-12)


@torch.inference_mode()
def test_batches_of_different_size_add_up():
    made, batch = network(), images(7)
    whole, parts = count(made, batch), count(made, batch[:4], batch[4:6], batch[6:])
    assert parts.images == whole.images == 7
    assert torch.equal(parts.synops, whole.synops)
    assert (parts.macs_once, parts.macs_per_step, parts.neurons) == (
        whole.macs_once,
        whole.macs_per_step,
        whole.neurons,
    )
    assert parts.rates() == whole.rates()


@pytest.mark.parametrize("how", ["position", "name", "all by name"])
@torch.inference_mode()
def test_timesteps_may_be_given_in_any_way(how):
    made, batch = network(), images()
    with Counter(made) as counter:
        if how == "position":
            made(batch, 2)
        elif how == "name":
            made(batch, T=2)
        else:
            made(images=batch, T=2)
    assert torch.equal(counter.counts.synops, count(made, batch).synops[:2])
    assert counter.counts.images == 4


def test_one_timestep_is_counted_whole():
    found = count(network(T=1), images())
    assert found.macs_once + found.macs_per_step == 9 * 3 * 4 * 16 * 16 + 16 * 10
    assert len(found.synops) == 1


@torch.inference_mode()
def test_counting_changes_nothing_and_leaves_nothing():
    made, batch = network().float(), images().float()
    before = made(batch)
    with Counter(made):
        during = made(batch)
    assert torch.equal(before, during)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in made.modules())
    assert torch.equal(made(batch), before)


def test_hooks_are_removed_after_an_error():
    made = network()
    with pytest.raises(ZeroDivisionError), Counter(made):
        raise ZeroDivisionError
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in made.modules())
