"""model.safetensors and config.json in a folder of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load as load_arrays

from snnkd.models import Network, build_network
from snnkd.models.files import WEIGHTS, Loaded, load_network, save_network

TOLERANCE = 0.0
"""The same weights in the same code: not one bit may differ."""


def write(folder: Path, loaded: Loaded) -> None:
    """Write the network and what its config.json says of it into `folder`, which is created."""
    folder.mkdir(parents=True)
    save_network(folder, loaded.network, loaded.config)


def read_back(folder: Path) -> Network:
    """The network from the files alone, its tensors read by safetensors' numpy reader instead of the torch one."""
    specification = load_network(folder).network.specification
    arrays = load_arrays((folder / WEIGHTS).read_bytes())
    network = build_network(specification)
    network.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})
    return network.eval()
