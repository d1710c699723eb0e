"""torch.export: a .pt2 file that needs only torch to load, unrolled timesteps, dynamic batch."""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch
from torch import Tensor

from snnkd.exports.extras import quietly
from snnkd.exports.plain import batch_axis, check_plain, example, unrolled
from snnkd.exports.protocol import Forward
from snnkd.exports.source import Source
from snnkd.files import read_bytes, write_atomic

TOLERANCE = 1e-4
"""The decomposed graph may call other kernels, which round differently."""
METADATA = "snnkd.json"
"""Extra file inside the archive: the network's metadata."""


def check(source: Source) -> None:
    """Raise UsageError for a neuron without an implementation in plain torch operations."""
    check_plain(source.loaded.network, "pt2")


def write(path: Path, source: Source) -> None:
    """Write the program with its metadata; deterministic bytes."""
    network = source.loaded.network
    with quietly("torch.export"), torch.no_grad():
        shapes = ({batch_axis(network): torch.export.Dim("batch", min=1)},)
        traced = torch.export.export(
            unrolled(network, source.T), (example(network),), dynamic_shapes=shapes, strict=False
        )
        program = traced.run_decompositions()
        for node in program.graph.nodes:  # they contain paths and memory addresses
            for key in ("stack_trace", "from_node"):
                node.meta.pop(key, None)
        # to memory: torch would store the name of a file
        content = io.BytesIO()
        torch.export.save(program, content, extra_files={METADATA: json.dumps(source.metadata())})
    write_atomic(path, content.getvalue())


def read_back(path: Path) -> Forward:
    """Load the program with torch.export.load."""
    with quietly("torch.export.load"):
        program = torch.export.load(io.BytesIO(read_bytes(path))).module()

    def forward(images: Tensor) -> Tensor:
        logits: Tensor = program(images)
        return logits

    return forward


def reference(source: Source) -> Forward:
    """The network itself."""
    return source.logits
