"""An exponential moving average of the weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class EMA(AveragedModel):
    """average <- d average + (1 - d) weights after each step n = 1, 2, ..., with d = min(decay, n / (n + 9)).
    The growing d lets the initial weights fade (as in timm and TensorFlow). Running statistics of norms are
    averaged too, so that they match the weights.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__(network, use_buffers=True)
        self._decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, n: int) -> None:
        """Update the average with the weights after step `n`.

        `AveragedModel.update_parameters` copies its step count to the device in every step and waits for it.
        """
        rate = 1 - min(self._decay, n / (n + 9)) if n > 1 else 1.0
        averages, weights = [], []
        for average, weight in zip(_tensors(self.module), _tensors(network), strict=True):
            if average.is_floating_point():
                averages.append(average)
                weights.append(weight)
            else:
                average.copy_(weight)
        torch._foreach_lerp_(averages, weights, rate)
        self.n_averaged += 1


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    """Parameters and buffers, each once, even if shared."""
    return itertools.chain(module.parameters(), module.buffers())
