"""The export formats, one entry each, with the packages that each needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from snnkd.catalog.registry import Entry, Registry
from snnkd.errors import UsageError
from snnkd.schema import fields
from snnkd.schema.run import ExportConfig


@dataclass(frozen=True, kw_only=True)
class FormatEntry(Entry):
    """A module of `snnkd.exports`; see `snnkd.exports.protocol.Format`."""

    packages: tuple[str, ...] = ()
    """Optional packages that it imports."""


EXPORTS = Registry("format", [
    FormatEntry("safetensors", "a folder with model.safetensors, config.json and a README card",
                "snnkd.exports.safetensors"),
    FormatEntry("nir", "a graph for other simulators and chips, norms folded", "snnkd.exports.nir",
                packages=("nir", "nirtorch", "h5py")),
    FormatEntry("onnx", "T unrolled, any batch size", "snnkd.exports.onnx",
                packages=("onnx", "onnxscript", "onnxruntime")),
    FormatEntry("pt2", "torch.export, T unrolled, any batch size; torch alone loads it", "snnkd.exports.pt2"),
])  # fmt: skip


def build_export(values: Any, where: str = "export") -> ExportConfig:
    """The checked section. Raises UsageError for a format that does not exist."""
    section = fields.build(ExportConfig, values, where)
    for i, name in enumerate(section.formats):
        if name not in EXPORTS:
            known = ", ".join(entry.name for entry in EXPORTS)
            raise UsageError(f"{where}.formats.{i}: {name!r} is not one of {known}")
    return section
