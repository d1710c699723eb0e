"""From the baseline loop to snnkd's: the speedup of each change, one added at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch

from snnkd.bench.baseline_loop import FEATURES, BaselineLoop
from snnkd.bench.clock import Work, ratio, summary, time_steps
from snnkd.bench.subject import make_subject
from snnkd.environment import gpu_has_bf16, in_bf16
from snnkd.training.compiling import Mode
from snnkd.training.setup import Stage

SETTLE = 0.2
"""Seconds of pause before each timing, in which data workers of other loops fill their queues."""
OURS = "snnkd"
OPTIMIZATIONS = {
    "workers": "data on the device, batched augmentation",
    "copies": "first layer once",
    "loop": "SpikingJelly's multi-step neuron",
    "rows": "channels_last",
    "items": "sums kept on the device",
}
"""What snnkd does instead of each baseline feature, in the order of the table."""


def time_baseline(stage: Stage, compile: Mode, rounds: int) -> dict[str, Any]:
    """Time the baseline loop and snnkd's, interleaved: images/s of both and the speedup."""
    loop, subject = BaselineLoop(_with_precision(stage, "float32")), make_subject(stage, compile)
    times = _time({"baseline": loop.step, OURS: subject.step}, rounds, stage.device)
    loop.close()
    return {
        "images_per_s": _per_second(times["baseline"], stage),
        "images_per_s_snnkd": _per_second(times[OURS], stage),
        "ratio": ratio(times["baseline"], times[OURS]),
        "features": FEATURES,
    }


def time_ablations(stage: Stage, compile: Mode, rounds: int) -> list[dict[str, Any]]:
    """Time the baseline loop with cumulative optimizations, interleaved; `speedup` is over the baseline."""
    works: dict[str, Work] = {}
    loops = []
    features = list(FEATURES)
    for name, change in [
        ("baseline loop", None),
        *((text, feature) for feature, text in OPTIMIZATIONS.items()),
    ]:
        if change:
            features.remove(change)
        loops.append(BaselineLoop(_with_precision(stage, "float32"), tuple(features)))
        works[name] = loops[-1].step
    works |= _execution_options(stage, compile)
    times = _time(works, rounds, stage.device)
    for loop in loops:
        loop.close()
    base = times["baseline loop"]
    return [
        {
            "change": name,
            "images_per_s": _per_second(seconds, stage),
            "speedup": ratio(base, seconds),
            "step_ms": summary([1000 * s for s in seconds], 2),
        }
        for name, seconds in times.items()
    ]


def _execution_options(stage: Stage, compile: Mode) -> dict[str, Callable[[], object]]:
    """snnkd's step compiled, and in bf16 where the hardware supports it."""
    works: dict[str, Callable[[], object]] = {}
    default = in_bf16(stage.recipe.execution, stage.device)
    remark = "" if default else " (not by default)"
    if compile != "off":
        works[f"compile: {compile}"] = make_subject(_with_precision(stage, "float32"), compile).step
    if default or has_bf16(stage.device):
        works[f"bf16{remark}"] = make_subject(_with_precision(stage, "bf16"), compile).step
    return works


def _with_precision(stage: Stage, precision: Literal["float32", "bf16"]) -> Stage:
    return replace(
        stage, recipe=replace(stage.recipe, execution=replace(stage.recipe.execution, precision=precision))
    )


def has_bf16(device: torch.device) -> bool:
    """Whether the device has bf16 instructions."""
    return (
        gpu_has_bf16(device)
        if device.type == "cuda"
        else bool(torch.backends.mkldnn.is_available()) and _cpu_bf16()
    )


def _cpu_bf16() -> bool:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return any(
                word in line
                for line in file
                if line.startswith("flags")
                for word in ("avx512_bf16", "amx_bf16")
            )
    except OSError:
        return False


def _time(works: dict[str, Work], rounds: int, device: torch.device) -> dict[str, list[float]]:
    return time_steps(works, rounds, device, lambda: time.sleep(SETTLE))


def _per_second(times: list[float], stage: Stage) -> float:
    return round(stage.recipe.train.batch_size / summary(times, 9)["median"], 2)
