"""The baseline of `snnkd bench` does the same work as snnkd, only slower: the same losses, feature by
feature.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch

from snnkd.bench.baseline_loop import FEATURES, BaselineLoop, PlainLIF
from snnkd.bench.subject import Subject, make_stage, make_subject
from snnkd.models.activation import LIF
from snnkd.recipe import resolve_stage
from snnkd.schema.neuron import NeuronConfig
from snnkd.schema.run import DistillRecipe
from snnkd.seeds import derive
from snnkd.training.setup import Stage

CPU = torch.device("cpu")


def stage(loss: str = "hta-kl", *settings: str, T: int = 4) -> Stage:
    small = ["data.size=8", "data.channels=3", "data.augment=[]", "train.lr=0.1", "model.width=4", *settings]
    recipe = resolve_stage("glyphs", "distill", loss=loss, T=T, batch_size=6, settings=small)
    assert isinstance(recipe, DistillRecipe)
    return make_stage(recipe, CPU)


def exact(subject: Subject) -> None:
    """In float64: in float32, rounding flips some spikes, and with them the fourth digit of the loss."""
    assert subject.stage.teacher is not None
    subject.objective.double()
    for network in (subject.network, subject.stage.teacher.network):
        network.double()
        network.register_forward_pre_hook(lambda module, given: (given[0].double(), *given[1:]))


def ours(of: Stage) -> Iterator[float]:
    subject = make_subject(of, "off")
    exact(subject)
    while True:
        yield subject.step()[0].value.item()


def theirs(of: Stage, *features: str) -> Iterator[float]:
    loop = BaselineLoop(of, features)
    exact(loop.subject)
    for at in itertools.count():
        torch.manual_seed(
            derive(loop.subject.stage.recipe.seed, "noise", 0, at)
        )  # bkdsnn drops the same channels
        yield loop.step()


@pytest.mark.parametrize("loss", ["hta-kl", "bkdsnn"])
def test_the_first_20_losses_are_ours(loss: str) -> None:
    given = stage(loss)
    found, wanted = (list(itertools.islice(losses, 20)) for losses in (theirs(given, *FEATURES), ours(given)))
    assert found == pytest.approx(wanted, abs=1e-4)
    assert found == pytest.approx(wanted, abs=1e-6)
    assert len({round(loss, 6) for loss in found}) == 20, "the batches differ, and it learns"


def plainly(of: Stage, *features: str) -> Iterator[float]:
    loop = BaselineLoop(of, (*features, "items"))
    while True:
        yield loop.step()


def test_in_float32_what_adds_in_the_same_order_gives_the_same_bits() -> None:
    given = stage()
    subject = make_subject(given, "off")
    wanted = [subject.step()[0].value.item() for _ in range(20)]
    assert list(itertools.islice(plainly(given, "workers"), 20)) == wanted
    for feature in ("copies", "loop"):  # their gradients are added up in another order
        assert [next(plainly(given, feature))] == wanted[:1]


@pytest.mark.parametrize("feature", sorted(set(FEATURES) - {"items"}))
def test_each_feature_alone_changes_no_loss(feature: str) -> None:
    given = stage()
    found, wanted = (
        list(itertools.islice(losses, 4)) for losses in (theirs(given, feature, "items"), ours(given))
    )
    assert found == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("surrogate", ["sigmoid", "atan"])
@pytest.mark.parametrize(
    "other", [{}, {"decay_input": True}, {"detach_reset": True, "tau": 3.0, "threshold": 0.5}]
)
def test_the_plain_neuron_is_the_neuron(reset: str, surrogate: str, other: dict[str, float]) -> None:
    config = NeuronConfig(reset=reset, surrogate=surrogate, **other)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    both = [
        torch.randn(12, 3, 2, 2, dtype=torch.float64, generator=generator.manual_seed(1))
        .mul(2)
        .requires_grad_()
        for _ in range(2)
    ]
    weights = torch.randn(12, 3, 2, 2, dtype=torch.float64, generator=generator)
    spikes = [neuron(x, 4) for neuron, x in zip((LIF(config), PlainLIF(config)), both, strict=True)]
    for found in spikes:
        (found * weights).sum().backward()
    assert spikes[0].equal(spikes[1])
    assert 0 < float(spikes[0].detach().mean()) < 1
    assert both[0].grad is not None
    assert torch.allclose(both[0].grad, both[1].grad, atol=1e-12)  # type: ignore[arg-type]
