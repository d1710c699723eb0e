"""result.json, which is also what `snnkd eval --json` prints."""

from __future__ import annotations

from typing import Any

from snnkd.measure.curve import Curve
from snnkd.measure.energy import CONVENTION


def make_result(curve: Curve, about: dict[str, Any]) -> dict[str, Any]:
    """The result object: what was run (`about`), then what was measured."""
    return {
        "schema": 1,
        **about,
        "images": curve.images,
        "T": len(curve.entries),
        "curve": curve.entries,
        "rate": curve.rate,
        "rate_per_layer": curve.rate_per_layer,
        "energy_convention": CONVENTION,
    }


def table(result: dict[str, Any]) -> list[list[str]]:
    """The curve as rows of text under a header row."""
    rows = [["t", "top-1 %", "top-5 %", "NLL", "ECE", "SynOps", "energy µJ"]]
    for e in result["curve"]:
        rows.append(
            [
                str(e["t"]),
                f"{e['top1']:.2f}",
                "-" if e["top5"] is None else f"{e['top5']:.2f}",
                f"{e['nll']:.3f}",
                f"{e['ece']:.3f}",
                "-" if e["synops"] is None else f"{e['synops']:,.0f}",
                f"{1000 * e['energy_mj']:.3f}",
            ]
        )
    return rows
