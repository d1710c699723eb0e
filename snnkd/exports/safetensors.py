"""model.safetensors, config.json and a README card in a folder of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load as load_arrays

from snnkd.errors import UsageError
from snnkd.exports.card import CARD, card
from snnkd.exports.protocol import Forward
from snnkd.exports.source import Source
from snnkd.files import write_atomic
from snnkd.models import build_network
from snnkd.models.files import WEIGHTS, load_network, save_network

TOLERANCE = 0.0
"""The same weights in the same code: not one bit may differ."""


def check(source: Source) -> None:
    """Raise UsageError for another T than the network's own: the files hold the network, which runs any T."""
    own = source.loaded.network.specification.T
    if own != source.T:
        raise UsageError(
            f"--T {source.T}: safetensors holds the network itself, trained at T = {own}; it runs any T once loaded"
        )


def write(folder: Path, source: Source) -> None:
    """Write the network, what its config.json says of it, and the card into `folder`, which is created."""
    folder.mkdir(parents=True)
    save_network(folder, source.loaded.network, source.loaded.config)
    write_atomic(folder / CARD, card(source).encode())


def read_back(folder: Path) -> Forward:
    """The network from the files alone, its tensors read by safetensors' numpy reader instead of the torch one."""
    specification = load_network(folder).network.specification
    arrays = load_arrays((folder / WEIGHTS).read_bytes())
    network = build_network(specification)
    network.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})
    return network.eval()


def reference(source: Source) -> Forward:
    """The network itself."""
    return source.logits
