"""An exponential moving average of the weights, which then is the result."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from snnkd.models import Network

Average = AveragedModel


def make_average(network: Network, decay: float) -> Average | None:
    """average <- d x average + (1 - d) x weights after every step n = 1, 2, ...; None for decay 0.

    d = min(decay, n / (n + 9)), so that the first weights do not stay (as in timm and TensorFlow's averages). The norms'
    running statistics are averaged alike, so that they fit the weights.
    """
    return AveragedModel(network, use_buffers=True) if decay else None


@torch.no_grad()
def follow(average: Average, network: Network, decay: float, n: int) -> None:
    """Take the `n`-th step that `network` has made into its average.

    Not `update_parameters`, which takes its number of steps to the device, and waits for it, in each.
    """
    new = 1 - min(decay, n / (n + 9)) if n > 1 else 1.0
    numbers: tuple[list[Tensor], list[Tensor]] = [], []
    for old, now in zip(_tensors(average.module), _tensors(network), strict=True):
        if old.is_floating_point():
            numbers[0].append(old)
            numbers[1].append(now)
        else:
            old.copy_(now)
    torch._foreach_lerp_(*numbers, new)
    average.n_averaged += 1


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    """Each once, also where layers share one."""
    return itertools.chain(module.parameters(), module.buffers())
