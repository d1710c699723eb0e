"""ONNX, opset 20: unrolled timesteps, dynamic batch, normalisation inside; read back with onnxruntime."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from snnkd.exports.extras import package, quietly
from snnkd.exports.plain import batch_axis, check_plain, example, unrolled
from snnkd.exports.protocol import Forward
from snnkd.exports.source import Source
from snnkd.files import read_bytes, write_atomic

TOLERANCE = 1e-4
"""onnxruntime folds norms into convolutions and sums in another order."""
OPSET = 20


def check(source: Source) -> None:
    """Raise UsageError for a neuron without an implementation in plain torch operations."""
    check_plain(source.loaded.network, "onnx")


def write(path: Path, source: Source) -> None:
    """Write the model, `images` `[batch, C, H, W]` to `logits` `[T, batch, classes]`; deterministic bytes."""
    network = source.loaded.network
    with quietly("torch.onnx"), torch.no_grad():
        program = torch.onnx.export(
            unrolled(network, source.T),
            (example(network),),
            dynamo=True,
            dynamic_shapes=({batch_axis(network): "batch"},),
            opset_version=OPSET,
            input_names=["images"],
            output_names=["logits"],
            verbose=False,
        )
        model = program.model_proto  # type: ignore[union-attr]
        _strip_debug_info(model.graph)
        metadata = source.metadata()
        properties = {
            "snnkd": json.dumps(metadata),
            **{key: str(metadata[key]) for key in ("T", "classes", "weights_sha256", "format")},
        }
        package("onnx").helper.set_model_props(model, properties)
        content = model.SerializeToString(deterministic=True)
    write_atomic(path, content)


def _strip_debug_info(graph: object) -> None:
    """Remove the source locations, with local paths, that the exporter stores in nodes and values."""
    for part in ("node", "input", "output", "value_info", "initializer"):
        for item in getattr(graph, part):
            item.ClearField("metadata_props")
            item.ClearField("doc_string")
    graph.ClearField("metadata_props")  # type: ignore[attr-defined]


def read_back(path: Path) -> Forward:
    """Load the model in onnxruntime on the CPU, with its default optimisations."""
    onnxruntime = package("onnxruntime")
    with quietly("onnxruntime"):
        settings = onnxruntime.SessionOptions()
        settings.log_severity_level = 3
        session = onnxruntime.InferenceSession(read_bytes(path), settings, providers=["CPUExecutionProvider"])

    def forward(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])

    return forward


def reference(source: Source) -> Forward:
    """The network itself."""
    return source.logits
