"""What papers report for methods, data sets and networks that snnkd has, read from paper_results.csv.

All are the papers' numbers, none was measured here. Most are of the best test epoch, which snnkd never
selects, and were reached with each paper's own recipe and teacher. Whatever prints them says so.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class PaperResult:
    """A number of one paper, a row of the file; an empty cell is None."""

    method: str
    """A loss of `snnkd list losses`, or one of `NOT_HERE`."""
    data: str
    """A data set of `snnkd list data`, all of it."""
    model: str
    """A network of `snnkd list models`, with its default options."""
    neuron: str
    """A neuron of `snnkd list neurons`."""
    T: int | None
    """Timesteps; None where our source does not report them."""
    top1: float | None
    """In percent on the test split; None where only the rate is known."""
    rate: float | None
    """Firing rate, a fraction, as the paper counts it."""
    source: str
    """Key of references.bib: the paper that reports it, which may be another than that of the method."""


NOT_HERE = ("MEOM",)
"""Methods of which too little is known for a preset."""


def _read(path: Path) -> tuple[PaperResult, ...]:
    with path.open(encoding="utf-8", newline="") as file:
        return tuple(
            PaperResult(
                method=row["method"],
                data=row["data"],
                model=row["model"],
                neuron=row["neuron"],
                T=int(row["T"]) if row["T"] else None,
                top1=float(row["top1"]) if row["top1"] else None,
                rate=float(row["rate"]) if row["rate"] else None,
                source=row["source"],
            )
            for row in csv.DictReader(file)
        )


PAPER_RESULTS = _read(Path(__file__).with_suffix(".csv"))


def find_paper_results(data: str, model: str, T: int) -> tuple[PaperResult, ...]:
    """Published results for a full data set and a network at T timesteps, then those without a reported T."""
    same = [each for each in PAPER_RESULTS if (each.data, each.model) == (data, model)]
    return (*(each for each in same if each.T == T), *(each for each in same if each.T is None))
