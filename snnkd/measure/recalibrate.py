"""Re-estimation of batch norm statistics, for example at more timesteps than in training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from snnkd.data import Split
from snnkd.data.loader import to_batch
from snnkd.errors import UsageError
from snnkd.models import Network
from snnkd.seeds import derive

MAX_IMAGES = 10_000
"""Training images: enough for the mean and variance of each channel."""


@torch.no_grad()
def recalibrate_norms(
    network: Network, train: Split, T: int, batch_size: int, check: Callable[[str], None]
) -> int:
    """Set running statistics to averages over batches of training images at `T` timesteps.

    Uses at most MAX_IMAGES images, drawn at random (files may be sorted by class) with a fixed seed, and
    returns their number. Everything else stays in eval mode. Raises UsageError for a network without batch
    norm.
    """
    norms = [
        m
        for m in network.modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats
    ]
    if not norms:
        raise UsageError(
            f"--recalibrate-bn: {network.specification.model.name} has no batch normalisation; omit it"
        )
    network.eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # plain average over batches
        norm.train()
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(derive(0, "recalibration")))[
        :MAX_IMAGES
    ]
    # full batches only: a small last batch would have the weight of a full one
    images = len(order) // batch_size * batch_size or len(order)
    for chosen in order[:images].split(batch_size):
        check("while recalibrating")
        network(to_batch(train.take(chosen).to(network.mean.device)), T)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
    return images
