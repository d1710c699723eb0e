"""The head of HTA-KL: which of a sample's classes belong to it, on any device and in numpy."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from numpy.typing import NDArray
from torch import Tensor

from snnkd.errors import RequestError

Head = Literal["top1", "strict", "cover"]
Numbers = TypeVar("Numbers", Tensor, NDArray[Any])
TINY = 1.2e-38
"""A normal number of float32: a distance below it counts as none."""


def check_split(delta: float, head: str) -> None:
    """Raise RequestError for a delta that is not in (0, 1] and for an unknown head."""
    if not 0 < delta <= 1:
        raise RequestError(f"delta {delta} is not in (0, 1]")
    if head not in ("top1", "strict", "cover"):
        raise RequestError(f"head {head!r} is not one of top1, strict, cover")


def in_head(total: Numbers, delta: float, head: Head) -> Numbers:
    """Which classes are the head, from the likeliest on, `[B, C]`; `total` `[B, C]` are the sums S_i of the i largest probabilities.

    top1: those with S_i <= delta, and i = 1 (the AKL reference code; never empty). strict: S_i < delta (the paper as
    quoted; empty once max p >= delta). cover: S_i - p_i < delta, that is one more (the smallest set that reaches delta).
    """
    inside: Numbers = total <= delta if head == "top1" else total < delta
    if head == "cover":
        inside[:, 1:] = total[:, :-1] < delta
    if head != "strict":
        inside[:, 0] = True
    return inside
