"""torch.export: a .pt2 file that torch alone loads, T unrolled, any batch size."""

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
"""The same kernels from the decomposed graph: other ones may round otherwise."""
FACTS = "snnkd.json"
"""The extra file inside that says what the network is."""


def check(source: Source) -> None:
    """Raise UsageError for a neuron that has no plain form."""
    check_plain(source.loaded.network, "pt2")


def write(path: Path, source: Source) -> None:
    """Write the program with `snnkd.json` inside; the same network gives the same bytes."""
    network = source.loaded.network
    with quietly("torch.export"), torch.no_grad():
        shapes = ({batch_axis(network): torch.export.Dim("batch", min=1)},)
        traced = torch.export.export(
            unrolled(network, source.T), (example(network),), dynamic_shapes=shapes, strict=False
        )
        program = traced.run_decompositions()
        for node in program.graph.nodes:  # paths of this machine, addresses in this process
            for key in ("stack_trace", "from_node"):
                node.meta.pop(key, None)
        # into memory: a file's name would be written into it
        content = io.BytesIO()
        torch.export.save(program, content, extra_files={FACTS: json.dumps(source.facts())})
    write_atomic(path, content.getvalue())


def read_back(path: Path) -> Forward:
    """The program as torch.export.load gives it."""
    with quietly("torch.export.load"):
        program = torch.export.load(io.BytesIO(read_bytes(path))).module()

    def answer(images: Tensor) -> Tensor:
        made: Tensor = program(images)
        return made

    return answer


def reference(source: Source) -> Forward:
    """The network itself."""
    return source.logits
