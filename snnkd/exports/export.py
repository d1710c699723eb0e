"""Export of a network: check, write to a temporary file, read back, compare, install."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from snnkd.catalog.formats import EXPORTS, FormatEntry
from snnkd.errors import RunError, UsageError
from snnkd.exports.agreement import Agreement, compare, is_faithful
from snnkd.exports.install import install
from snnkd.exports.protocol import Forward, load_format
from snnkd.exports.source import Source
from snnkd.exports.twin import Twin
from snnkd.files import from_os_error, write_json

MIN_UNFOLDED = 0.9
"""Fraction of predictions on which a folded twin must agree with its network; rounding changes few."""


def check_supported(entry: FormatEntry, source: Source) -> None:
    """Raise UsageError, naming the formats that support `source`, if the format of `entry` does not."""
    try:
        load_format(entry).check(source)
    except UsageError as error:
        others = [other.name for other in EXPORTS if other.name != entry.name and _supports(other, source)]
        raise UsageError(f"{error}; supported by {', '.join(others)}" if others else str(error)) from error


def _supports(entry: FormatEntry, source: Source) -> bool:
    try:
        load_format(entry).check(source)
    except UsageError:
        return False
    return True


def export_network(
    entry: FormatEntry,
    source: Source,
    target: Path,
    force: bool,
    images: Tensor,
    check_stop: Callable[[str], None],
) -> dict[str, Any]:
    """Export `source` to `target` in the format of `entry`; return its agreement with the original.

    `check_stop` may raise before anything is installed. Raises RunError, leaving no file, if the export read
    back disagrees with its source.
    """
    format = load_format(entry)
    reference = format.reference(source)
    report: dict[str, Any] = {}

    def write(staged: Path) -> None:
        format.write(staged, source)
        check_stop("while exporting; nothing was written")
        agreement = compare(reference, format.read_back(staged), images)
        network = reference.module if isinstance(reference, Twin) else source.loaded.network
        if not is_faithful(agreement, format.TOLERANCE, network, reference, images):
            raise RunError(
                f"{target}: the export differs from {source.loaded.folder} ({_summary(agreement)}); removed"
            )
        report.update(
            images=agreement.images, agreement=agreement.agreement, max_difference=agreement.max_difference
        )
        if isinstance(reference, Twin):
            report["agreement_unfolded"] = _unfolded(source, reference, images, target)
        check_stop("while exporting; nothing was written")

    install(target, force, write)
    return report


def write_report(target: Path, report: dict[str, Any]) -> None:
    """Write `report` next to the export, as <name>.json. Raises FileError or RunError."""
    path = target.with_name(f"{target.name}.json")
    try:
        write_json(path, report)
    except OSError as error:
        raise from_os_error(error, path) from error


def _summary(agreement: Agreement) -> str:
    return (
        f"agreement {agreement.agreement:.4f}, largest difference {agreement.max_difference:.3g}, "
        f"median over images {agreement.median_difference:.3g}"
    )


def _unfolded(source: Source, twin: Forward, images: Tensor, target: Path) -> float:
    """Fraction of predictions on which the folded twin agrees with the trained network."""
    agreement = compare(source.logits, twin, images).agreement
    if agreement < MIN_UNFOLDED:
        raise RunError(
            f"{target}: the folded twin agrees with {source.loaded.folder} on only {agreement:.4f}; removed"
        )
    return agreement
