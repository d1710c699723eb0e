"""SGD with momentum, the learning rate of each step, and the gradient norm."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from snnkd.models.activation import neuron_parameters
from snnkd.schema.run import TrainConfig


def make_optimizer(modules: Iterable[nn.Module], train: TrainConfig) -> torch.optim.SGD:
    """SGD over all parameters of `modules`, with weight decay on weight matrices and kernels only.

    Decay of a norm's scale or a bias regularises nothing, and 0 is no better value for a neuron's own
    parameters, of whatever shape.
    """
    modules = list(modules)
    parameters = [parameter for module in modules for parameter in module.parameters()]
    of_neurons = {id(parameter) for module in modules for parameter in neuron_parameters(module).values()}
    decayed = [p for p in parameters if p.ndim > 1 and id(p) not in of_neurons]
    plain = [p for p in parameters if p.ndim <= 1 or id(p) in of_neurons]
    groups = [
        {"params": decayed, "weight_decay": train.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=train.lr, momentum=train.momentum)


def set_learning_rate(
    optimizer: torch.optim.Optimizer, train: TrainConfig, step: int, steps_per_epoch: int
) -> None:
    """Set `learning_rate` in every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(train, step, steps_per_epoch)


def learning_rate(train: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """At global step `step`: linear warm-up, then cosine to 0 one step after the last, or constant."""
    warmup, total = train.warmup_epochs * steps_per_epoch, train.epochs * steps_per_epoch
    if step < warmup:
        return train.lr * (step + 1) / warmup
    if train.schedule == "constant":
        return train.lr
    done = (step - warmup) / max(1, total - warmup)
    return train.lr * 0.5 * (1 + math.cos(math.pi * done))


def gradient_norm(optimizer: torch.optim.Optimizer) -> Tensor:
    """L2 norm of the gradients of all parameters."""
    return nn.utils.get_total_norm(
        [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    )
