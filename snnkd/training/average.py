"""An exponential moving average of the weights, which then is the result."""

from __future__ import annotations

from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from snnkd.models import Network

Average = AveragedModel


def make_average(network: Network, decay: float) -> Average | None:
    """average <- decay x average + (1 - decay) x weights after every step, from those after the first; None for decay 0.

    The norms' running statistics are averaged alike, so that they fit the weights.
    """
    if decay == 0:
        return None
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
