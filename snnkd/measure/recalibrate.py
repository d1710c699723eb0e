"""Statistics of batch normalisation taken anew, as for more timesteps than a network was trained with."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from snnkd.data import Split
from snnkd.data.loader import to_batch
from snnkd.errors import UsageError
from snnkd.models import Network
from snnkd.seeds import derive

MOST_IMAGES = 10_000
"""Training images that are enough for a mean and a variance of each channel."""


@torch.no_grad()
def recalibrate_norms(
    network: Network, train: Split, T: int, batch_size: int, check: Callable[[str], None]
) -> int:
    """Set running statistics to the averages over batches of training images run for `T` timesteps; returns
    how many images.

    At most MOST_IMAGES, drawn at random, always the same, since a file may hold them class by class.
    Everything else stays in
    eval mode. Raises UsageError for a network without such norms.
    """
    norms = [
        m
        for m in network.modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats
    ]
    if not norms:
        raise UsageError(f"--recalibrate-bn: {network.specification.model.name} has no batch normalisation")
    network.eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain average over batches
        norm.train()
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(derive(0, "recalibration")))[
        :MOST_IMAGES
    ]
    whole = len(order) // batch_size * batch_size or len(
        order
    )  # a small last batch would count as much as a full one
    for chosen in order[:whole].split(batch_size):
        check("while recalibrating")
        network(to_batch(train.take(chosen).to(network.mean.device)), T)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
    return whole
