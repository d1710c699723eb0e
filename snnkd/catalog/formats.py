"""What formats there are to export to, one entry each, with the packages that each needs."""

from __future__ import annotations

from snnkd.catalog.registry import Entry, Registry
from snnkd.schema.run import ExportConfig

_PLACE = "snnkd.exports"
EXPORTS = Registry(
    "format",
    [
        Entry("safetensors", "a folder with model.safetensors, config.json and a README card",
              ExportConfig, f"{_PLACE}.safetensors"),
        Entry("nir", "a graph for other simulators and chips, norms folded",
              ExportConfig, f"{_PLACE}.nir", details=(("packages", ("nir", "nirtorch", "h5py")),)),
        Entry("onnx", "T unrolled, any batch size",
              ExportConfig, f"{_PLACE}.onnx", details=(("packages", ("onnx", "onnxscript", "onnxruntime")),)),
        Entry("pt2", "torch.export, T unrolled, any batch size; torch alone loads it",
              ExportConfig, f"{_PLACE}.pt2"),
    ],
)  # fmt: skip
