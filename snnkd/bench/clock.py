"""Interleaved timing of workloads in one process, so that drift of the machine affects all equally."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

Work = Callable[[], object]


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Work, device: torch.device) -> float:
    """Wall-clock seconds of one call, including the device's work."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def steps_per_timing(device: torch.device) -> int:
    """Steps timed together: 20 on a GPU, to amortise the synchronisation, which training does not need.

    Two on a CPU, so that not every timed step starts with the caches of another workload.
    """
    return 20 if device.type == "cuda" else 2


def _repeat(work: Work, times: int) -> Work:
    def repeated() -> None:
        for _ in range(times):
            work()

    return repeated


def time_steps(
    works: Mapping[str, Work], rounds: int, device: torch.device, between: Work | None = None
) -> dict[str, list[float]]:
    """Seconds per step of each workload and round, after as many warm-up steps as are timed together."""
    steps = steps_per_timing(device)
    repeated = {name: _repeat(work, steps) for name, work in works.items()}
    for work in repeated.values():
        work()  # compile, start workers, fill caches
    return {
        name: [s / steps for s in times]
        for name, times in time_interleaved(repeated, rounds, device, between).items()
    }


def time_interleaved(
    works: Mapping[str, Work], rounds: int, device: torch.device, between: Work | None = None
) -> dict[str, list[float]]:
    """Seconds of each workload in each round; every round runs all once, each time starting with the next."""
    times: dict[str, list[float]] = {name: [] for name in works}
    names = list(works)
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            if between is not None:
                between()
            times[name].append(seconds(works[name], device))
    return times


def summary(values: Sequence[float], digits: int = 4) -> dict[str, float]:
    """Median and quartiles."""
    low, median, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values[0],) * 3
    return {"median": round(median, digits), "q1": round(low, digits), "q3": round(high, digits)}


def ratio(times: Sequence[float], base: Sequence[float]) -> dict[str, float]:
    """Time relative to `base`, round by round: median and quartiles."""
    return summary([a / b for a, b in zip(times, base, strict=True)])


def relative_times(seconds: Mapping[str, Sequence[float]], base: str) -> dict[str, Any]:
    """Ratio to workload `base`, and milliseconds, of each workload."""
    return {
        name: {"ratio": ratio(times, seconds[base]), "ms": summary([1000 * t for t in times])}
        for name, times in seconds.items()
    }
