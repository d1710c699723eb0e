"""An exponential moving average of the weights, which then is the result."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from snnkd.models import Network

Average = AveragedModel


def make_average(network: Network, decay: float) -> Average | None:
    """average <- d x average + (1 - d) x weights after every step n = 1, 2, ...; None for decay 0.

    d = min(decay, n / (n + 9)), so that the first weights do not stay (as in timm and TensorFlow's averages). The norms'
    running statistics are averaged alike, so that they fit the weights.
    """
    if decay == 0:
        return None

    @torch.no_grad()
    def follow(averages: Sequence[Tensor], weights: Sequence[Tensor], steps: Tensor | int) -> None:
        n = torch.as_tensor(steps) + 1  # `steps` came before this one
        new = 1 - torch.clamp(n / (n + 9), max=decay)  # stays on its device
        for average, weight in zip(averages, weights, strict=True):
            if average.is_floating_point():
                average.lerp_(weight, new.to(average.dtype))
            else:
                average.copy_(weight)

    return AveragedModel(network, multi_avg_fn=follow, use_buffers=True)
