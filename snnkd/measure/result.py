"""result.json, which is also what `snnkd eval --json` prints."""

from __future__ import annotations

from typing import Any

from snnkd.measure.cost import cost_sentence
from snnkd.measure.curve import Curve
from snnkd.measure.dynamic import dynamic_inference
from snnkd.measure.energy import CONVENTION, energy_mj


def make_result(curve: Curve, about: dict[str, Any], ann_macs: int | None = None) -> dict[str, Any]:
    """The result object: what was run (`about`), then what was measured; `ann_macs` are those of the student's topology as an ANN."""
    made = {
        "schema": 1,
        **about,
        "images": curve.images,
        "T": curve.entries[-1]["t"],
        "curve": curve.entries,
        "rate": curve.rate,
        "rate_per_layer": curve.rate_per_layer,
        "dynamic": dynamic_inference(curve.logits, curve.labels) if len(curve.entries) > 1 else None,
        "ann": None if ann_macs is None else {"macs": ann_macs, "energy_mj": energy_mj(ann_macs)},
        "energy_convention": CONVENTION,
    }
    return {**made, "energy_note": cost_sentence(made)}


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
