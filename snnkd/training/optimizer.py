"""The optimizer and its parameter groups, the learning rate of each step, and the gradient norm."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from snnkd.models.activation import neuron_parameters
from snnkd.schema.run import OPTIMIZER_KEYS, TrainConfig

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}
ONE_CYCLE_START = 1 / 25
"""First learning rate of one-cycle relative to the highest, as in torch's OneCycleLR."""


def make_optimizer(modules: Iterable[nn.Module], train: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer of `train` over all parameters of `modules`, in `parameter_groups`."""
    own = {key: getattr(train, key) for key in OPTIMIZER_KEYS[train.optimizer]}
    return OPTIMIZERS[train.optimizer](parameter_groups(modules, train), lr=train.lr, **own)  # type: ignore[call-arg]


def parameter_groups(modules: Iterable[nn.Module], train: TrainConfig) -> list[dict[str, Any]]:
    """Weights, norms with biases, and the parameters of neurons: each with its weight decay and lr factor.

    By default only weights decay. Decay of a norm's scale or a bias regularises nothing, and 0 is no better
    value for a neuron's own parameters, of whatever shape.
    """
    modules = list(modules)
    of_neurons = {id(parameter) for module in modules for parameter in neuron_parameters(module).values()}
    groups: dict[str, list[nn.Parameter]] = {"weight": [], "norm": [], "neuron": []}
    for parameter in (parameter for module in modules for parameter in module.parameters()):
        kind = "neuron" if id(parameter) in of_neurons else "weight" if parameter.ndim > 1 else "norm"
        groups[kind].append(parameter)
    decays = (train.weight_decay, train.norm_weight_decay, train.neuron_weight_decay)
    factors = (1.0, train.norm_lr_factor, train.neuron_lr_factor)
    return [
        {"params": parameters, "weight_decay": decay, "lr_factor": factor}
        for parameters, decay, factor in zip(groups.values(), decays, factors, strict=True)
    ]


def set_learning_rate(
    optimizer: torch.optim.Optimizer, train: TrainConfig, step: int, steps_per_epoch: int
) -> None:
    """Set `learning_rate` in every parameter group, times the group's factor."""
    rate = learning_rate(train, step, steps_per_epoch)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_factor"]


def learning_rate(train: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """At global step `step`, by the formulas of torch.optim.lr_scheduler.

    A function of the step, not a scheduler with state: a resumed run continues exactly.
    """
    warmup, total = train.warmup_epochs * steps_per_epoch, train.epochs * steps_per_epoch
    if step < warmup:
        return train.lr * (step + 1) / warmup
    curve = _cosine if train.schedule in ("cosine", "one-cycle") else _linear
    if train.schedule in ("one-cycle", "triangular"):
        return _one_cycle(train, curve, step, total)
    if train.schedule in ("cosine", "linear"):
        return curve(train.lr, train.final_lr, (step - warmup) / max(1, total - warmup))
    passed = sum(step >= milestone * steps_per_epoch for milestone in train.milestones)  # none if constant
    return train.lr * train.gamma**passed


def _one_cycle(train: TrainConfig, curve: Callable[..., float], step: int, total: int) -> float:
    """As OneCycleLR: the last step of each phase has the rate at its end."""
    top, last = train.peak * total - 1, total - 1
    if step < top:
        return curve(train.lr * ONE_CYCLE_START, train.lr, step / top)
    return curve(train.lr, train.final_lr, (step - top) / (last - top))


def _linear(start: float, end: float, done: float) -> float:
    return start + (end - start) * done


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * done))


def clip_gradients(optimizer: torch.optim.Optimizer, max_norm: float) -> Tensor:
    """Scale the gradients down to the L2 norm `max_norm`, if that is above 0; returns their norm before."""
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if max_norm > 0:
        nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return norm
