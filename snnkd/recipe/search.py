"""Search: axes of a sweep that are distributions, and points drawn from them by a Sobol sequence.

Point k of a search depends only on `search.seed`, k and the axes: tasks of a job array agree on it without a
coordinator, and more samples continue the same sequence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from snnkd.errors import UsageError, counted, did_you_mean
from snnkd.schema import fields

if TYPE_CHECKING:  # a recipe without a search does without numpy
    import numpy as np
    from numpy.typing import NDArray

MAX_AXES = 32
"""Dimensions of the sequence, always all drawn, so that adding an axis does not change other values."""
DIGITS = 4
"""Significant digits of a drawn number: enough for a search, and the same on every machine."""
MAX_DRAWS_PER_SAMPLE = 16
"""Maximum points drawn per sample before a search with too few distinct settings is refused."""

Values = dict[str, Any]
Quantile = Callable[[float], Any]
"""The value at u in [0, 1)."""


@dataclass(frozen=True)
class SearchAxis:
    """A searched key, its value at u in [0, 1), and its dimension of the sequence."""

    key: str
    quantile: Quantile
    dimension: int


def read_distribution(key: str, value: Mapping[str, Any]) -> Quantile:
    """The quantiles of {uniform: [a, b]}, {log_uniform: [a, b]}, {integers: [a, b]} or {choice: [...]}.

    Raises UsageError for another name, a range that is empty or of no numbers, a logarithm of 0 or below.
    """
    where = f"sweep: {key!r}"
    if len(value) != 1:
        raise UsageError(f"{where}: {dict(value)!r} is not one distribution, such as {{uniform: [0, 1]}}")
    ((name, values),) = value.items()
    if name not in _READERS:
        raise UsageError(f"{where}: unknown distribution {name!r}{did_you_mean(str(name), _READERS)}")
    if not isinstance(values, list):
        raise UsageError(f"{where}: {name}: {values!r} is not a list; write {{{name}: [a, b]}}")
    return _READERS[name](values, f"{where}: {name}")


def _uniform(values: list[Any], where: str) -> Quantile:
    low, high = _range(values, float, where)
    return lambda u: _rounded(low + u * (high - low), low, high)


def _log_uniform(values: list[Any], where: str) -> Quantile:
    low, high = _range(values, float, where)
    if low <= 0:
        raise UsageError(f"{where}: {low:g} has no logarithm; the range must be above 0")
    return lambda u: _rounded(math.exp(math.log(low) + u * math.log(high / low)), low, high)


def _integers(values: list[Any], where: str) -> Quantile:
    low, high = _range(values, int, where)
    return lambda u: low + int(u * (high - low + 1))


def _choice(values: list[Any], where: str) -> Quantile:
    if len(values) < 2 or any(value in values[:i] for i, value in enumerate(values)):
        raise UsageError(f"{where}: {values!r}; give at least two different values")
    return lambda u: values[int(u * len(values))]


_READERS: dict[str, Callable[[list[Any], str], Quantile]] = {
    "uniform": _uniform,
    "log_uniform": _log_uniform,
    "integers": _integers,
    "choice": _choice,
}


def _range(values: list[Any], kind: type, where: str) -> tuple[Any, Any]:
    if len(values) != 2:
        raise UsageError(f"{where}: {values!r} is not a range; write two numbers, [a, b]")
    low, high = (fields.coerce(kind, value, where) for value in values)
    if not low < high or not math.isfinite(high - low):
        raise UsageError(f"{where}: [{low:g}, {high:g}] is empty; the first must be below the second")
    return low, high


def _rounded(value: float, low: float, high: float) -> float:
    return min(max(float(f"{value:.{DIGITS}g}"), low), high)


def draw(axes: Sequence[SearchAxis], samples: int, seed: int, where: str = "") -> list[Values]:
    """The first `samples` distinct points of the sequence, each as values by key.

    Raises UsageError where the axes have fewer; `where` names their tasks.
    """
    points: dict[str, Values] = {}
    drawn = 0
    while len(points) < samples and drawn < MAX_DRAWS_PER_SAMPLE * samples:
        block = _sobol(max(2 * drawn, samples), seed)[drawn:]
        drawn += len(block)
        for row in block:
            point = {axis.key: axis.quantile(float(row[axis.dimension])) for axis in axes}
            points.setdefault(repr(point), point)
    if len(points) < samples:
        raise UsageError(
            f"search.samples: {samples}, but the axes {where}have only {counted(len(points), 'setting')}; "
            "list the values instead"
        )
    return list(points.values())[:samples]


@lru_cache(maxsize=8)
def _sobol(count: int, seed: int) -> NDArray[np.float64]:
    """The scrambled Sobol sequence (Owen 1998) up to the next power of two of points, `[n, MAX_AXES]`."""
    from scipy.stats import qmc  # takes seconds to import

    sequence: NDArray[np.float64] = qmc.Sobol(MAX_AXES, scramble=True, rng=seed).random_base2(
        math.ceil(math.log2(count))
    )
    return sequence
