"""NIR (Pedersen et al. 2024, doi 10.1038/s41467-024-52259-9): the folded twin as a graph for other simulators and chips.

The graph takes NORMALISED images, (x - mean) / std, the same at every timestep: a mean subtracted before a convolution that
pads with zeros is no bias of that convolution. `mean`, `std`, `T` and `dt` stand in the graph's metadata.
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
"""The importer rebuilds the same layers; another build of them may round otherwise."""
DT = 1e-4
"""Seconds of a timestep, as NIR's simulators take it unless told otherwise; a neuron's tau there is tau times this."""
NORMALISED = "floats 0..1, normalised: (x - mean) / std per channel"
INPUT = f"images, {NORMALISED}; the same at each of the T timesteps"
FRAMES = f"event frames, counts / 255 as {NORMALISED}; frame t at timestep t"


def check(source: Source) -> None:
    """Raise UsageError that names the layer which NIR cannot say."""
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
        draft = (
            Path(tmp) / "graph"
        )  # h5py writes to a file in many steps, of which each could fail at the target
        package("nir").write(draft, graph)
        content = draft.read_bytes()
    write_atomic(path, content)


def _renamed(graph: Any, names: dict[str, str]) -> Any:
    """The graph with the names of the network's own layers on its nodes."""
    nodes = {names.get(name, name): node for name, node in graph.nodes.items()}
    edges = [(names.get(one, one), names.get(other, other)) for one, other in graph.edges]
    return package("nir").NIRGraph(nodes, edges)


def metadata(source: Source) -> dict[str, Any]:
    """What the graph says of itself; `snnkd` holds all of it as one JSON text."""
    network = source.loaded.network
    takes = INPUT if network.specification.frames is None else FRAMES
    facts = source.facts() | {
        "mean": network.mean.tolist(),
        "std": network.std.tolist(),
        "dt": DT,
        "input_is": takes,
    }
    return {
        "snnkd": json.dumps(facts),
        "T": source.T,
        "dt": DT,
        "mean": network.mean.numpy(),
        "std": network.std.numpy(),
        "input_is": takes,
        "weights_sha256": source.loaded.sha256,
    }


def read_back(path: Path) -> Forward:
    """The graph as nir reads it and SpikingJelly's importer builds it; mean, std and T from its metadata."""
    nir = package("nir")
    with quietly("the import from NIR"):
        from spikingjelly.activation_based import nir_exchange

        graph = nir.read(path)
        about = graph.metadata
        built = nir_exchange.import_from_nir(graph, dt=float(about["dt"]), step_mode="m").eval()
    mean, std = (torch.as_tensor(about[key]).float() for key in ("mean", "std"))
    T = int(about["T"])

    def answer(images: Tensor) -> Tensor:
        logits, _ = built(over_time(images, mean, std, T), None)
        made: Tensor = logits
        return made

    return answer


def reference(source: Source) -> Forward:
    """The folded twin in SpikingJelly's own layers."""
    return Twin(source.loaded.network, source.T)
