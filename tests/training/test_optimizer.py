"""Weight decay where it belongs, and the learning rate of each step by hand."""

import math
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from snnkd.catalog.neurons import build_neuron
from snnkd.models.activation import make_neuron
from snnkd.schema.run import TrainConfig
from snnkd.training.optimizer import clip_gradients, learning_rate, make_optimizer, set_learning_rate


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


def _scheduled(make: Callable[[torch.optim.Optimizer], LRScheduler], steps: int) -> list[float]:
    """The learning rate of each step by a scheduler of torch."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.4)
    scheduler, rates = make(optimizer), []
    for _ in range(steps):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return rates


def _one_cycle(strategy: Literal["cos", "linear"]) -> Callable[[torch.optim.Optimizer], LRScheduler]:
    return lambda optimizer: lr_scheduler.OneCycleLR(
        optimizer, 0.4, 40, pct_start=0.25, anneal_strategy=strategy, cycle_momentum=False, final_div_factor=4
    )


@pytest.mark.parametrize(
    ("keys", "make"),
    [
        ({"final_lr": 0.1}, lambda o: lr_scheduler.CosineAnnealingLR(o, 40, 0.1)),
        ({"schedule": "linear", "final_lr": 0.1}, lambda o: lr_scheduler.LinearLR(o, 1.0, 0.25, 40)),
        (
            {"schedule": "multistep", "milestones": (5, 15), "gamma": 0.2},
            lambda o: lr_scheduler.MultiStepLR(o, [10, 30], 0.2),
        ),
        ({"schedule": "constant"}, lambda o: lr_scheduler.ConstantLR(o, 1.0, 40)),
        ({"schedule": "one-cycle", "peak": 0.25, "final_lr": 0.004}, _one_cycle("cos")),
        ({"schedule": "triangular", "peak": 0.25, "final_lr": 0.004}, _one_cycle("linear")),
    ],
    ids=lambda value: value.get("schedule", "cosine") if isinstance(value, dict) else "",
)
def test_schedules_are_torchs(keys, make):
    assert rates(epochs=20, **keys) == pytest.approx(_scheduled(make, 40))


@pytest.mark.parametrize("schedule", ["one-cycle", "triangular"])
def test_one_cycle_of_few_steps(schedule):
    assert rates(epochs=1, schedule=schedule, peak=0.5) == pytest.approx([0.4, 0.0])
    assert learning_rate(TrainConfig(epochs=1, schedule=schedule), 0, 1) == pytest.approx(0)


def test_warmup_before_linear_and_multistep():
    assert rates(schedule="linear", warmup_epochs=2)[:6] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.3])
    made = rates(schedule="multistep", warmup_epochs=1, milestones=(2,), gamma=0.5)
    assert made == pytest.approx([0.2, 0.4, 0.4, 0.4, 0.2, 0.2, 0.2, 0.2])


@pytest.mark.parametrize(
    ("keys", "make"),
    [
        (
            {"nesterov": True, "weight_decay": 0.01},
            lambda p: torch.optim.SGD(p, 0.01, momentum=0.9, nesterov=True, weight_decay=0.01),
        ),
        (
            {"optimizer": "adam", "weight_decay": 0.1, "eps": 1e-3},
            lambda p: torch.optim.Adam(p, 0.01, eps=1e-3, weight_decay=0.1),
        ),
        (
            {"optimizer": "adamw", "weight_decay": 0.1, "betas": (0.8, 0.9)},
            lambda p: torch.optim.AdamW(p, 0.01, (0.8, 0.9), weight_decay=0.1),
        ),
    ],
    ids=["nesterov", "adam", "adamw"],
)
def test_steps_are_torchs(keys, make):
    ours, theirs = (torch.nn.Parameter(torch.arange(6.0).view(2, 3)) for _ in range(2))
    module = nn.Module()
    module.register_parameter("weight", ours)
    optimizers = make_optimizer([module], TrainConfig(lr=0.01, **keys)), make([theirs])
    for step in range(3):
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            parameter.grad = torch.sin(parameter.detach() + step)
            optimizer.step()
    assert torch.equal(ours, theirs)


def test_groups_have_decay_and_rate_of_their_own():
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), make_neuron(build_neuron("plif"), 4))
    train = TrainConfig(
        lr=0.4, schedule="constant", weight_decay=0.1, norm_weight_decay=0.2, norm_lr_factor=64,
        neuron_weight_decay=0.3, neuron_lr_factor=0.5,
    )  # fmt: skip
    optimizer = make_optimizer([network], train)
    set_learning_rate(optimizer, train, 0, 1)
    groups = [(len(g["params"]), g["weight_decay"], g["lr"]) for g in optimizer.param_groups]
    assert groups == [(1, 0.1, 0.4), (3, 0.2, 25.6), (1, 0.3, 0.2)]


@pytest.mark.parametrize(("max_norm", "after"), [(0.0, 5.0), (10.0, 5.0), (0.5, 0.5)])
def test_gradients_are_clipped_to_a_norm_over_all_parameters(max_norm, after):
    network = nn.Linear(1, 1)
    optimizer = make_optimizer([network], TrainConfig())
    network.weight.grad, network.bias.grad = torch.tensor([[3.0]]), torch.tensor([4.0])
    assert clip_gradients(optimizer, max_norm).item() == pytest.approx(5)
    assert math.hypot(network.weight.grad.item(), network.bias.grad.item()) == pytest.approx(after, rel=1e-4)
