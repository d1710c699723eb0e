"""One export: refused in time, written as a draft, read back, compared, put in its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from snnkd.catalog.formats import FormatEntry
from snnkd.errors import RunError
from snnkd.exports.agreement import Agreement, compare, is_faithful
from snnkd.exports.install import install
from snnkd.exports.protocol import Forward, load_format
from snnkd.exports.source import Source
from snnkd.exports.twin import Twin
from snnkd.files import from_os_error, write_json

LEAST_UNFOLDED = 0.9
"""Predictions that a folded twin has to share with its network: folding rounds, and rounding changes few. Fewer are a mistake."""


def export_network(
    entry: FormatEntry,
    source: Source,
    target: Path,
    force: bool,
    images: Tensor,
    interrupted: Callable[[str], None],
) -> dict[str, Any]:
    """Write `source` to `target` in the format of `entry`; returns what the comparison on `images` found.

    `interrupted` may raise before anything is put in place. Raises RunError, and leaves nothing, when the file read back
    disis_faithful with what it was made from.
    """
    format = load_format(entry)
    reference = format.reference(source)
    found: dict[str, Any] = {}

    def fill(draft: Path) -> None:
        format.write(draft, source)
        interrupted("while exporting; nothing was written")
        agreement = compare(reference, format.read_back(draft), images)
        network = reference.module if isinstance(reference, Twin) else source.loaded.network
        if not is_faithful(agreement, format.TOLERANCE, network, reference, images):
            raise RunError(
                f"{target}: the export differs from {source.loaded.folder} ({_said(agreement)}); it was removed"
            )
        found.update(_reported(agreement))
        if isinstance(reference, Twin):
            found["agreement_unfolded"] = _unfolded(source, reference, images, target)
        interrupted("while exporting; nothing was written")

    install(target, force, fill)
    return found


def write_report(target: Path, report: dict[str, Any]) -> None:
    """Keep what was found beside the export, as <name>.json. Raises FileError or RunError."""
    path = target.with_name(f"{target.name}.json")
    try:
        write_json(path, report)
    except OSError as error:
        raise from_os_error(error, path) from error


def _reported(found: Agreement) -> dict[str, Any]:
    return {"images": found.images, "agreement": found.agreement, "max_difference": found.max_difference}


def _said(found: Agreement) -> str:
    return f"agreement {found.agreement:.4f}, by up to {found.max_difference:.3g}, {found.median_difference:.3g} in the median image"


def _unfolded(source: Source, twin: Forward, images: Tensor, target: Path) -> float:
    """The share of predictions that the twin shares with the network as it was trained."""
    shared = compare(source.logits, twin, images).agreement
    if shared < LEAST_UNFOLDED:
        raise RunError(
            f"{target}: the folded twin is_faithful with {source.loaded.folder} on {shared:.4f} only; it was removed"
        )
    return shared
