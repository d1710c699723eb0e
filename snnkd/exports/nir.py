"""NIR (Pedersen et al. 2024, doi 10.1038/s41467-024-52259-9): the folded twin as a graph for simulators.

The graph's input is NORMALISED images, (x - mean) / std, at every timestep: with zero padding, the
subtraction of a mean cannot be folded into the convolution's bias. `mean`, `std`, `T` and `dt` are in the
graph's metadata.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snnkd.exports.extras import package, quietly
from snnkd.exports.protocol import Forward
from snnkd.exports.source import Source
from snnkd.exports.twin import Twin, check_exportable, node_names, over_time
from snnkd.files import write_atomic

TOLERANCE = 1e-4
"""The importer rebuilds the same layers, whose kernels may round differently."""
DT = 1e-4
"""Seconds per timestep, the default of NIR's simulators; a neuron's tau in NIR is tau times this."""
NORMALISED = "floats 0..1, normalised: (x - mean) / std per channel"
INPUT = f"images, {NORMALISED}; the same at each of the T timesteps"
FRAMES = f"event frames, counts / 255 as {NORMALISED}; frame t at timestep t"


def check(source: Source) -> None:
    """Raise UsageError naming the first layer that NIR does not support."""
    check_exportable(source.loaded.network)


def write(path: Path, source: Source) -> None:
    """Write the graph of the folded twin."""
    network = source.loaded.network
    twin = Twin(network, source.T)
    package("nir"), package("nirtorch")
    with quietly("the export to NIR"), tempfile.TemporaryDirectory() as tmp:
        from spikingjelly.activation_based import nir_exchange

        graph = nir_exchange.export_to_nir(
            twin.module, torch.zeros(1, 1, *network.specification.shape), dt=DT
        )
        graph = _renamed(graph, node_names(twin.module, network))
        graph.metadata = metadata(source)
        path_in_tmp = Path(tmp) / "graph"  # h5py writes in many steps, each of which could fail at the target
        package("nir").write(path_in_tmp, graph)
        content = path_in_tmp.read_bytes()
    write_atomic(path, content)


def _renamed(graph: Any, names: dict[str, str]) -> Any:
    """Name the graph's nodes after the network's layers."""
    nodes = {names.get(name, name): node for name, node in graph.nodes.items()}
    edges = [(names.get(a, a), names.get(b, b)) for a, b in graph.edges]
    return package("nir").NIRGraph(nodes, edges)


def metadata(source: Source) -> dict[str, Any]:
    """The graph's metadata; its key `snnkd` has all of it as one JSON string."""
    network = source.loaded.network
    input_is = INPUT if network.specification.frames is None else FRAMES
    facts = source.metadata() | {
        "mean": network.mean.tolist(),
        "std": network.std.tolist(),
        "dt": DT,
        "input_is": input_is,
    }
    return {
        "snnkd": json.dumps(facts),
        "T": source.T,
        "dt": DT,
        "mean": network.mean.numpy(),
        "std": network.std.numpy(),
        "input_is": input_is,
        "weights_sha256": source.loaded.sha256,
    }


def read_back(path: Path) -> Forward:
    """Read the graph with nir and build it with SpikingJelly's importer; its metadata has mean, std, T."""
    nir = package("nir")
    with quietly("the import from NIR"):
        from spikingjelly.activation_based import nir_exchange

        graph = nir.read(path)
        metadata = graph.metadata
        network = nir_exchange.import_from_nir(graph, dt=float(metadata["dt"]), step_mode="m").eval()
    mean, std = (torch.as_tensor(metadata[key]).float() for key in ("mean", "std"))
    T = int(metadata["T"])

    def forward(images: Tensor) -> Tensor:
        logits: Tensor = network(over_time(images, mean, std, T), None)[0]
        return logits

    return forward


def reference(source: Source) -> Forward:
    """The folded twin in SpikingJelly's own layers."""
    return Twin(source.loaded.network, source.T)
