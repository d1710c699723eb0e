"""Weight decay where it belongs, and the learning rate of each step by hand."""

import math

import pytest
import torch
from torch import nn

from snnkd.catalog.neurons import build_neuron
from snnkd.models.activation import make_neuron
from snnkd.schema.run import TrainConfig
from snnkd.training.optimizer import learning_rate, make_optimizer


def test_no_weight_decay_on_norm_and_bias():
    network = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 3))
    optimizer = make_optimizer(network, TrainConfig(weight_decay=0.1, momentum=0.8, lr=0.3))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    by_name = {name: decay[id(p)] for name, p in network.named_parameters()}
    assert by_name == {"0.weight": 0.1, "1.weight": 0, "1.bias": 0, "3.weight": 0.1, "3.bias": 0}
    assert all(
        (group["momentum"], group["lr"], group["nesterov"]) == (0.8, 0.3, False)
        for group in optimizer.param_groups
    )


@pytest.mark.parametrize("name", ["plif", "klif", "glif", "psn", "masked-psn", "sliding-psn"])
def test_no_weight_decay_on_what_a_spiking_layer_learns(name):
    """Matrices over timesteps included."""
    network = nn.Sequential(nn.Linear(2, 3), make_neuron(build_neuron(name), 4))
    optimizer = make_optimizer([network], TrainConfig(weight_decay=0.1))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    learned = [p for key, p in network.named_parameters() if key.startswith("1.")]
    assert learned
    assert {decay[id(p)] for p in learned} == {0.0}
    assert decay[id(network[0].weight)] == 0.1


def test_a_step_is_sgd_with_momentum():
    network = nn.Linear(1, 1)
    with torch.no_grad():
        network.weight.fill_(2)
        network.bias.fill_(2)
    optimizer = make_optimizer([network], TrainConfig(weight_decay=0.5, momentum=0.5, lr=0.1))
    for _ in range(2):
        for parameter in network.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    # bias: 2 - 0.1 - 0.1 * (0.5 + 1); weight: gradients 1 + 0.5 w, buffer 2 then 1 + 1.9
    assert network.bias.item() == pytest.approx(1.75)
    assert network.weight.item() == pytest.approx(2 - 0.2 - 0.1 * (0.5 * 2 + 1 + 0.5 * 1.8))


def rates(**words: object) -> list[float]:
    train = TrainConfig(**{"lr": 0.4, "epochs": 4, **words})
    return [learning_rate(train, step, 2) for step in range(2 * train.epochs)]


def test_cosine():
    assert rates() == pytest.approx([0.2 * (1 + math.cos(math.pi * step / 8)) for step in range(8)])
    assert rates()[0] == 0.4
    assert rates()[4] == pytest.approx(0.2)
    assert learning_rate(TrainConfig(lr=0.4, epochs=4), 8, 2) == pytest.approx(0)


def test_cosine_with_warmup():
    made = rates(warmup_epochs=2)
    assert made[:4] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert made[4:] == pytest.approx([0.4, 0.2 * (1 + math.sqrt(0.5)), 0.2, 0.2 * (1 - math.sqrt(0.5))])


def test_constant_and_nothing_but_warmup():
    assert rates(schedule="constant", warmup_epochs=1) == pytest.approx([0.2, *[0.4] * 7])
    assert rates(warmup_epochs=4) == pytest.approx([0.05 * step for step in range(1, 9)])
