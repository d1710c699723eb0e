"""Features by name: what a network offers, kept only when wanted, equal to what they say they are."""

from __future__ import annotations

import pytest
import torch

from snnkd.models import Network, Specification, build_network
from snnkd.models.activation import LIF, ReLU
from snnkd.models.features import Features, feature_shapes
from snnkd.schema.model import ResNetConfig
from snnkd.schema.neuron import NeuronConfig


def network(name: str = "resnet8", neuron: NeuronConfig | None = None, T: int | None = None) -> Network:
    torch.manual_seed(0)
    model = ResNetConfig(name=name, width=4, T=T)
    return build_network(Specification(model=model, neuron=neuron, classes=5, shape=(1, 16, 16))).eval()


def test_what_a_resnet_offers() -> None:
    assert feature_shapes(network(), (1, 16, 16)) == {
        "stage1": (4, 16, 16), "stage2": (8, 8, 8), "stage3": (16, 4, 4), "class_map": (5, 4, 4),
        "output": (16,),
    }  # fmt: skip
    assert feature_shapes(network("resnet19"), (1, 16, 16))["output"] == (256,)
    assert list(feature_shapes(network("resnet18"), (1, 16, 16)))[:4] == [
        "stage1",
        "stage2",
        "stage3",
        "stage4",
    ]


@pytest.mark.parametrize("name", ["resnet8", "resnet19"])
def test_only_the_wanted_are_kept_and_logits_stay_the_same(name: str) -> None:
    made, images = network(name, NeuronConfig(), 3), torch.rand(2, 1, 16, 16)
    features = Features(["stage2", "output"])
    with torch.no_grad():
        logits = made(images, None, features)
        assert torch.equal(logits, made(images))
    assert features.kept.keys() == {"stage2", "output"}
    assert features.kept["stage2"].shape[0] == 3 * 2
    assert torch.equal(made.body.head(features.kept["output"]).unflatten(0, (3, -1)), logits)


def test_what_is_not_wanted_is_not_computed() -> None:
    def never() -> torch.Tensor:
        raise AssertionError

    Features(["a"]).offer("b", never)


def test_a_class_map_answers_at_every_position() -> None:
    """With one linear layer at the end the answers at the positions average to the answer of the whole."""
    made, images, features = network(), torch.rand(3, 1, 16, 16), Features(["class_map"])
    with torch.no_grad():
        logits = made(images, 1, features)[0]
    assert torch.allclose(features.kept["class_map"].mean((2, 3)), logits, atol=1e-5)


def test_asking_for_shapes_leaves_the_network_as_it_was() -> None:
    made = network().train()
    before = {key: value.clone() for key, value in made.state_dict().items()}
    feature_shapes(made, (1, 16, 16))
    assert made.training
    assert all(torch.equal(value, before[key]) for key, value in made.state_dict().items())


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("resnet8", "body.stages.2.0.act2"),
        ("resnet20", "body.stages.2.2.act2"),
        ("resnet19", "body.hidden_act"),
    ],
)
def test_only_the_last_activation_is_replaced(name: str, last: str) -> None:
    plain, replaced = (network(name, NeuronConfig(last=kind), 2) for kind in ("spike", "relu"))  # type: ignore[arg-type]
    assert {key for key, module in replaced.named_modules() if isinstance(module, ReLU)} == {last}
    spiking = {key for key, module in plain.named_modules() if isinstance(module, LIF)}
    assert {key for key, module in replaced.named_modules() if isinstance(module, LIF)} == spiking - {last}


def test_a_replaced_activation_makes_macs_of_what_follows() -> None:
    """The classifier's input is an average either way; the rate counts neurons that spike."""
    from snnkd.measure.counting import Counter

    made = network("resnet19", NeuronConfig(last="relu"), 2)
    with torch.no_grad(), Counter(made) as counter:
        made(torch.rand(2, 1, 16, 16))
    assert "body.hidden_act" not in counter.counts.spikes
    assert counter.counts.macs_per_step >= 256 * 5
