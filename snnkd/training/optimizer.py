"""SGD with momentum and the learning rate of each step."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from snnkd.models.activation import neuron_parameters
from snnkd.schema.run import TrainConfig


def make_optimizer(modules: Iterable[nn.Module], train: TrainConfig) -> torch.optim.SGD:
    """Of all parameters of `modules`. Weight decay on matrices and kernels only: shrinking a norm's scale or a bias regularises nothing.

    None on what a spiking layer learns either, matrices over timesteps included: towards 0 is no better neuron.
    """
    modules = list(modules)
    parameters = [parameter for module in modules for parameter in module.parameters()]
    kept = {id(parameter) for module in modules for parameter in neuron_parameters(module).values()}
    decayed = [p.ndim > 1 and id(p) not in kept for p in parameters]
    groups = [
        {
            "params": [p for p, yes in zip(parameters, decayed, strict=True) if yes],
            "weight_decay": train.weight_decay,
        },
        {"params": [p for p, yes in zip(parameters, decayed, strict=True) if not yes], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=train.lr, momentum=train.momentum)


def learning_rate(train: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """At global step `step`: linear rise over the warm-up, then cosine, 0 just after the last step (or constant)."""
    warmup, total = train.warmup_epochs * steps_per_epoch, train.epochs * steps_per_epoch
    if step < warmup:
        return train.lr * (step + 1) / warmup
    if train.schedule == "constant":
        return train.lr
    done = (step - warmup) / max(1, total - warmup)
    return train.lr * 0.5 * (1 + math.cos(math.pi * done))
