"""Interleaved timing of several workloads in one process, so that drift of the machine affects all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

Work = Callable[[], object]
NO_OP: Work = lambda: None  # noqa: E731


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Work, device: torch.device) -> float:
    wait(device)
    start = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - start


def steps_per_timing(device: torch.device) -> int:
    """Steps timed together. On a GPU many: training never waits for it, so the wait before and after must not be charged to one step.

    On a CPU two, so that a loop is not always timed with the caches that another one left.
    """
    return 20 if device.type == "cuda" else 2


def several(work: Work, times: int) -> Work:
    def repeated() -> None:
        for _ in range(times):
            work()

    return repeated


def time_steps(
    works: Mapping[str, Work], rounds: int, device: torch.device, between: Work = NO_OP
) -> dict[str, list[float]]:
    """`time_interleaved` for workloads that are one step each: seconds of one step, from `steps_per_timing`, after as many that do not count."""
    steps = steps_per_timing(device)
    many = {name: several(work, steps) for name, work in works.items()}
    for work in many.values():
        work()  # compiles, starts workers, warms caches
    return {
        name: [s / steps for s in taken]
        for name, taken in time_interleaved(many, rounds, device, between).items()
    }


def time_interleaved(
    works: Mapping[str, Work], rounds: int, device: torch.device, between: Work = NO_OP
) -> dict[str, list[float]]:
    """Seconds of each work in each round; every round runs all of them once, beginning with another one each time."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    names = list(works)
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            between()
            taken[name].append(seconds(works[name], device))
    return taken


def summary(values: Sequence[float], digits: int = 4) -> dict[str, float]:
    """Median and quartiles."""
    low, median, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    return {"median": round(median, digits), "q1": round(low, digits), "q3": round(high, digits)}


def ratio(times: Sequence[float], base: Sequence[float]) -> dict[str, float]:
    """How many times longer than `base`, round by round."""
    return summary([a / b for a, b in zip(times, base, strict=True)])


def relative_times(taken: Mapping[str, Sequence[float]], base: str) -> dict[str, Any]:
    """Ratio to `base` and milliseconds of each work."""
    return {
        name: {"ratio": ratio(times, taken[base]), "ms": summary([1000 * t for t in times])}
        for name, times in taken.items()
    }
