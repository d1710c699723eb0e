"""Means of an epoch, carried over an interruption; a loss that is not finite ends the work."""

import io
import math

import pytest
import torch

from snnkd.errors import RunError
from snnkd.losses.outputs import Loss
from snnkd.training.epoch_metrics import EpochMetrics

CPU = torch.device("cpu")
LOGITS = torch.tensor([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0]])


def add(tally: EpochMetrics, loss: float, **watched: float) -> None:
    labels = torch.tensor([0, 1, 1])  # two of three right
    value, others = torch.tensor(loss), {name: torch.tensor(value) for name, value in watched.items()}
    tally.add([Loss(value, others, value, LOGITS, labels)], torch.tensor(0.5))


def test_means():
    tally = EpochMetrics(CPU)
    assert tally.means() == {}
    add(tally, 1.0, w_head=0.25)
    add(tally, 2.0, w_head=0.75)
    assert tally.means() == {
        "loss": 1.5,
        "w_head": 0.5,
        "gradient": 0.5,
        "train_top1": pytest.approx(200 / 3),
    }
    assert (tally.images, tally.steps) == (6, 2)


def test_a_step_of_micro_batches_is_one_step_of_their_mean():
    tally, labels = EpochMetrics(CPU), torch.tensor([0, 1, 1])
    parts = [
        Loss(torch.tensor(v), {"kl": torch.tensor(2 * v)}, torch.tensor(v), LOGITS, labels)
        for v in (1.0, 3.0)
    ]
    tally.add(parts, torch.tensor(0.5))
    assert tally.means() == {"loss": 2.0, "kl": 4.0, "gradient": 0.5, "train_top1": pytest.approx(200 / 3)}
    assert (tally.images, tally.steps) == (6, 1)


def test_of_two_mixed_images_the_larger_share_is_the_label():
    tally = EpochMetrics(CPU)
    shares = torch.tensor([[0.6, 0.4], [0.6, 0.4], [0.0, 1.0]])  # the answers are 0, 1, 0
    tally.add([Loss(torch.tensor(1.0), {}, torch.tensor(1.0), LOGITS, shares)], torch.tensor(0.5))
    assert tally.means()["train_top1"] == pytest.approx(100 / 3)


def test_sums_are_kept_in_double_precision():
    tally = EpochMetrics(CPU)
    for _ in range(1000):
        add(tally, 0.1)
    assert tally.means()["loss"] == pytest.approx(float(torch.tensor(0.1)), rel=1e-12)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_names_the_epoch(value):
    tally = EpochMetrics(CPU)
    add(tally, 1.0)
    tally.check_finite(2)
    add(tally, value)
    add(tally, 1.0)  # a sum does not forget
    with pytest.raises(RunError, match=rf"^the loss became {value} in epoch 3, by step 3 \(loss\)") as caught:
        tally.check_finite(2)
    assert caught.value.exit_code == 4
    assert str(caught.value).splitlines() == [str(caught.value)]


def test_a_watched_value_counts_too():
    tally = EpochMetrics(CPU)
    add(tally, 1.0, w_head=math.nan)
    with pytest.raises(RunError, match="w_head"):
        tally.check_finite(0)


def test_state_and_restore():
    whole, first, second = EpochMetrics(CPU), EpochMetrics(CPU), EpochMetrics(CPU)
    for tally in (whole, first):
        add(tally, 0.1, w_head=0.3)
    buffer = io.BytesIO()
    torch.save(first.state(), buffer)
    buffer.seek(0)
    add(first, 9.0)  # what follows does not change a state already taken
    second.restore(torch.load(buffer, weights_only=True))
    for tally in (whole, second):
        add(tally, 0.7, w_head=0.9)
    assert second.means() == whole.means()
    assert second.state() == whole.state()
    assert EpochMetrics(CPU).state() == {"images": 0, "steps": 0, "sums": {}}
