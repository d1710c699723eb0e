"""A folder with model.safetensors, config.json and a model card."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load as load_arrays

from snnkd.errors import UsageError
from snnkd.exports.card import CARD, card
from snnkd.exports.protocol import Forward
from snnkd.exports.source import Source
from snnkd.files import WEIGHTS, write_atomic
from snnkd.models import build_network
from snnkd.models.files import load_network, save_network

TOLERANCE = 0.0
"""The same weights in the same code must agree bitwise."""


def check(source: Source) -> None:
    """Raise UsageError for another T than the trained one, since the loaded network runs any T."""
    own = source.loaded.network.specification.T
    if own != source.T:
        raise UsageError(
            f"--T {source.T}: safetensors stores the network as trained, T = {own}; choose T after loading"
        )


def write(folder: Path, source: Source) -> None:
    """Create `folder` with the network, its config.json and the card."""
    folder.mkdir(parents=True)
    save_network(folder, source.loaded.network, source.loaded.config)
    write_atomic(folder / CARD, card(source).encode())


def read_back(folder: Path) -> Forward:
    """Load the network from the files alone, with safetensors' numpy reader instead of the torch one."""
    specification = load_network(folder).network.specification
    arrays = load_arrays((folder / WEIGHTS).read_bytes())
    network = build_network(specification)
    network.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})
    return network.eval()


def reference(source: Source) -> Forward:
    """The network itself."""
    return source.logits
