"""Spikformer and QKFormer: pinned to SpikingJelly's model zoo, published sizes, operations of attention, and
that they learn.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from spikingjelly.activation_based.layer.attention import TokenQKAttention
from spikingjelly.activation_based.model.spikformer import Spikformer as ZooSpikformer
from spikingjelly.activation_based.neuron import LIFNode
from torch import nn

from snnkd.catalog.models import MODELS
from snnkd.console import Console
from snnkd.data import load_data
from snnkd.errors import UsageError
from snnkd.measure.counting import Counter
from snnkd.models import Network, Specification, build_network
from snnkd.models.activation import make_neuron
from snnkd.models.attention import TokenAttention
from snnkd.schema.data import GlyphsConfig
from snnkd.schema.fields import build as build_section
from snnkd.schema.neuron import NeuronConfig
from snnkd.training.firing_rates import watch

T = 3
SMALL = {"spikformer": {"dim": 32, "depth": 2, "heads": 4}, "qkformer": {"dim": 32, "depth": 3, "heads": 4}}


def specification(name: str, neuron: Any = NeuronConfig(), **model: Any) -> Specification:  # noqa: B008
    section = {"name": name, **model} | ({"T": T} if neuron else {})
    made = build_section(MODELS[name].options, section, "model")
    return Specification(model=made, neuron=neuron, classes=10, shape=(3, 16, 16))


def network(name: str, neuron: Any = NeuronConfig(), **model: Any) -> Network:  # noqa: B008
    """One whose layers all fire, in float64: no rounding flips a spike between two ways to compute it."""
    torch.manual_seed(0)
    return awake(build_network(specification(name, neuron, **(SMALL[name] | model)))).double().eval()


def awake(made: Any) -> Any:
    generator = torch.Generator().manual_seed(1)
    for module in made.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.8, 1.2, generator=generator)
            nn.init.uniform_(module.bias, 0.0, 1.5, generator=generator)
    return made


def images(count: int = 4) -> torch.Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "parameters", "published"),
    # published for CIFAR, with biases before the norms, which change nothing and are left out here
    [("spikformer", 9_310_906, 9.32e6), ("qkformer", 6_699_898, 6.74e6)],
)
def test_parameters_are_pinned_near_the_published_ones(name: str, parameters: int, published: float) -> None:
    for neuron in (None, NeuronConfig()):
        with torch.device("meta"):
            made = build_network(Specification(
                model=MODELS[name].options(name=name, T=4 if neuron else None),
                neuron=neuron,
                classes=10,
                shape=(3, 32, 32),
            ))  # fmt: skip
        found = sum(p.numel() for p in made.parameters())
        assert found == parameters
        assert abs(found / published - 1) < 0.01


def copy_weights(ours: nn.Module, zoo: nn.Module) -> None:
    """Of ours into the zoo's, layer by layer in the order of their making, which is the same; its 1x1
    convolutions have one dimension.
    """
    kinds = (nn.Conv1d, nn.Conv2d, nn.Linear, nn.modules.batchnorm._BatchNorm)
    left, right = ([m for m in made.modules() if isinstance(m, kinds)] for made in (ours, zoo))
    assert len(left) == len(right)
    with torch.no_grad():
        for a, b in zip(left, right, strict=True):
            for (key, p), (other, q) in zip(a.named_parameters(), b.named_parameters(), strict=True):
                assert key == other
                q.copy_(p.view(q.shape))


NEURON = {"tau": 2.0, "decay_input": True, "detach_reset": True}


def test_spikformer_is_that_of_the_zoo() -> None:
    """With the same weights and neurons: the same spikes of the last block at every timestep, and logits."""
    torch.manual_seed(0)
    zoo = ZooSpikformer(
        T=T,
        img_size_h=16,
        img_size_w=16,
        patch_size=4,
        num_classes=10,
        embed_dims=32,
        num_heads=4,
        depths=2,
        tau=2.0,
        detach_reset=True,
    )
    zoo = zoo.double().eval()
    ours = network("spikformer", NeuronConfig(**NEURON))
    copy_weights(ours, zoo)
    with torch.no_grad():
        expected = zoo(images())
        found = ours(images())
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_token_attention_is_that_of_the_zoo() -> None:
    torch.manual_seed(0)
    zoo = TokenQKAttention(32, 4).double().eval()
    ours = awake(TokenAttention(32, 4, lambda: make_neuron(NeuronConfig(**NEURON), T))).double().eval()
    copy_weights(ours, zoo)
    x = torch.randint(0, 3, (T * 2, 32, 4, 4), generator=torch.Generator().manual_seed(3)).double()
    with torch.no_grad():
        expected, found = zoo(x.unflatten(0, (T, 2)).flatten(3)), ours(x, T)
    assert 0.05 < expected.mean() < 0.95
    assert torch.equal(found.unflatten(0, (T, 2)).flatten(3), expected)
    assert isinstance(zoo.attn_lif, LIFNode)
    assert zoo.attn_lif.v_threshold == 0.5


@torch.inference_mode()
def test_operations_of_attention_by_hand() -> None:
    """Every spike that goes into a product is looked at one by one."""
    for name in SMALL:
        made = network(name)
        seen: dict[str, torch.Tensor] = {}
        for key, module in made.named_modules():
            if key.endswith(("qkv_act", "qk_act", ".gate")):
                module.register_forward_hook(
                    lambda m, i, output, key=key, seen=seen: seen.update({key: output.clone()})
                )
        with Counter(made) as counter:
            made(images())
        synops = sum(_attention(key, spikes, made) for key, spikes in seen.items()) + _weights(made)
        assert counter.counts.synops is not None
        assert counter.counts.synops.sum().item() == synops
        assert all(rate > 0.01 for rate in counter.counts.rates().values())


def _attention(key: str, spikes: torch.Tensor, made: Network) -> float:
    """Self-attention: d channels a head for each spike of queries and keys. Q-K: one for each spike of
    queries and keys.
    """
    if key.endswith("qkv_act"):
        d = spikes.shape[1] // 3 // 4
        return d * float(spikes[:, : 2 * 4 * d].sum())
    if key.endswith("qk_act"):
        return float(spikes.sum())
    return 0.0


def _weights(made: Network) -> float:
    """SynOps of the convolutions whose input is spikes: those after a neuron, and after the gate of Q-K
    attention.
    """
    total = 0.0
    handles = []

    def hook(module: nn.Conv2d, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal total
        x = inputs[0]
        if set(x.unique().tolist()) <= {0.0, 1.0}:  # a sum of two layers' spikes has twos
            ones = torch.ones_like(module.weight)
            total += float(nn.functional.conv2d(x, ones, None, module.stride, module.padding).sum())

    for module in made.modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(hook))
    made(images())
    for handle in handles:
        handle.remove()
    return total


@torch.inference_mode()
@pytest.mark.parametrize("name", list(SMALL))
def test_an_ann_makes_macs_of_attention_too(name: str) -> None:
    made = network(name, None)
    with Counter(made) as counter:
        made(images())
    convolutions = 0
    for module in made.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(
                lambda m, i, output: counted.append(output[0].numel() * m.weight[0].numel())
            )
    counted: list[int] = []
    made(images(1))
    convolutions = sum(counted)
    # spikformer: 2 blocks of q (k^T v), 16 tokens; qkformer: gates of 8x256 and 16x64, one self-attention
    # over 16 tokens
    attention = {"spikformer": 2 * 2 * 8 * 32 * 16, "qkformer": 8 * 256 + 16 * 64 + 2 * 8 * 32 * 16}
    assert counter.counts.macs_per_step == convolutions + attention[name]


@torch.inference_mode()
def test_sums_of_spikes_are_exact_under_bf16() -> None:
    """More than 256 coincidences: bf16 would round them."""
    from snnkd.models.attention import SelfProduct

    spikes = (torch.rand(1, 3 * 16, 32, 32, generator=torch.Generator().manual_seed(0)) < 0.9).float()
    product = SelfProduct(1)
    wanted = product(spikes)
    assert wanted.max() > 256
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(product(spikes.bfloat16()), wanted)


@pytest.mark.parametrize(
    ("name", "keys", "said"),
    [
        ("spikformer", {"dim": 36}, "model.dim: 36 is not a multiple of 8"),
        ("spikformer", {"dim": 32, "heads": 5}, "model.dim: 32 is not a multiple of 5"),
        ("qkformer", {"dim": 32, "heads": 3}, "model.dim: 32 is not a multiple of 12"),
        ("qkformer", {"depth": 2}, "model.depth: 2 is too small"),
        ("spikformer", {"patch": 3}, "model.patch: 3 is not one of 2, 4, 8, 16"),
    ],
)
def test_sizes_that_cannot_be_are_refused(name: str, keys: dict[str, int], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        specification(name, **keys)
    assert said in str(caught.value)


@pytest.mark.parametrize("patch", [2, 4, 8, 16])
@torch.inference_mode()
def test_a_patch_is_so_many_pixels(patch: int) -> None:
    from snnkd.models.features import feature_shapes

    assert feature_shapes(network("spikformer", patch=patch).float(), (3, 16, 16))["stage1"] == (
        32,
        16 // patch,
        16 // patch,
    )


def test_heads_change_the_answer_and_not_the_weights() -> None:
    one, two = network("spikformer", heads=1), network("spikformer", heads=8)
    assert all(
        torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    )
    with torch.inference_mode():
        assert not torch.equal(one(images()), two(images()))


@pytest.mark.parametrize(
    ("name", "depth"), [("spikformer", 1), pytest.param("qkformer", 3, marks=pytest.mark.nightly)]
)
@pytest.mark.parametrize("kind", ["ann", "snn"])
def test_it_learns_glyphs_by_heart_and_no_layer_is_silent(name: str, depth: int, kind: str) -> None:
    """40 glyphs of 10 classes, 100 steps (an ANN 20): above 3 x chance. New images: test_every_model.py and
    its stored results.
    """
    data = load_data(
        GlyphsConfig(classes=10, train_images=40, test_images=20, size=8, noise=0.0, augment=()),
        Console(quiet=True),
    )
    seen, labels = data.train.images.float() / 255, data.train.labels
    neuron = NeuronConfig() if kind == "snn" else None
    model = MODELS[name].options(name=name, T=2 if neuron else None, dim=32, depth=depth, heads=2)
    torch.manual_seed(0)
    made = build_network(Specification(model=model, neuron=neuron, classes=10, shape=data.shape)).train()
    optimizer = torch.optim.SGD(made.parameters(), lr=0.05, momentum=0.9)
    for _ in range(100 if neuron else 20):
        optimizer.zero_grad()
        with watch(made) as rates:
            answers = made(seen).mean(0)
        nn.functional.cross_entropy(answers, labels).backward()
        optimizer.step()
    assert (answers.argmax(1) == labels).float().mean() > 0.3
    assert all(0 < rate < 0.95 for rate in rates.values())
    assert bool(rates) == (kind == "snn")
