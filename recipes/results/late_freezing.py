"""snnkd, with the early layers of cnn7 frozen in the last epoch: a lever that levers.py measures.

    python recipes/results/late_freezing.py teach|distill [OPTIONS]

The stem and the pair of convolutions behind it keep weights, norms and running statistics, and their backward
pass is left out. Not for runs that are stopped in the last epoch: the freezing is not saved.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from unittest import mock

import torch
from torch import nn

from snnkd.cli import main
from snnkd.models import Network
from snnkd.schema.run import TrainConfig
from snnkd.training import loop
from snnkd.training.compiling import Mode, compile_for_training
from snnkd.training.optimizer import set_learning_rate

EARLY = ("conv", "norm", "groups.1")
trained: list[Network] = []


def remember_network(network: Network, mode: Mode) -> AbstractContextManager[nn.Module]:
    trained[:] = [network]
    return compile_for_training(network, mode)


def freeze_in_last_epoch(
    optimizer: torch.optim.Optimizer, train: TrainConfig, step: int, steps_per_epoch: int
) -> None:
    """In place of what the loop calls before each step, when there are no gradients yet."""
    if step == (train.epochs - 1) * steps_per_epoch:
        trained[0].freeze(EARLY)
        trained[0].train()
    set_learning_rate(optimizer, train, step, steps_per_epoch)


if __name__ == "__main__":
    with (
        mock.patch.object(loop, "compile_for_training", remember_network),
        mock.patch.object(loop, "set_learning_rate", freeze_in_last_epoch),
    ):
        main()
