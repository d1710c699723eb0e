"""The published loop, and what each change makes of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch

from snnkd.bench.baseline_loop import FEATURES, BaselineLoop
from snnkd.bench.clock import Work, ratio, summary, time_steps
from snnkd.bench.subject import make_subject
from snnkd.stage import Stage
from snnkd.training.compiling import Mode
from snnkd.training.environment import gpu_has_bf16, in_bf16

SETTLE = 0.2
"""Seconds before a loop is timed, in which worker processes of another one fill their queues: their work must not be charged to it."""
OURS = "snnkd"
CHANGES = {
    "workers": "data on the device, batched augmentation",
    "copies": "first layer once",
    "loop": "SpikingJelly's multi-step neuron",
    "rows": "channels_last",
    "items": "sums kept on the device",
    "autograd": "teacher in inference mode",
}
"""What is done instead of each feature, in the order of the table."""


def time_baseline(stage: Stage, compile: Mode, rounds: int) -> dict[str, Any]:
    """The published loop and ours in turn: images/s of the baseline and how many times as fast ours is."""
    loop, subject = BaselineLoop(_at(stage, "float32")), make_subject(stage, compile)
    taken = _in_turn({"baseline": loop.step, OURS: subject.step}, rounds, stage.device)
    loop.close()
    return {
        "images_per_s": _per_second(taken["baseline"], stage),
        "images_per_s_snnkd": _per_second(taken[OURS], stage),
        "ratio": ratio(taken["baseline"], taken[OURS]),
        "features": FEATURES,
    }


def time_ablations(stage: Stage, compile: Mode, rounds: int) -> list[dict[str, Any]]:
    """From the published loop to ours and beyond, one change more in each row; all in turn, `speedup` over the published loop."""
    works: dict[str, Work] = {}
    loops = []
    features = list(FEATURES)
    for name, change in [("published loop", None), *((text, feature) for feature, text in CHANGES.items())]:
        if change:
            features.remove(change)
        loops.append(BaselineLoop(_at(stage, "float32"), tuple(features)))
        works[name] = loops[-1].step
    works |= _further(stage, compile)
    taken = _in_turn(works, rounds, stage.device)
    for loop in loops:
        loop.close()
    base = taken["published loop"]
    return [
        {
            "change": name,
            "images_per_s": _per_second(times, stage),
            "speedup": ratio(base, times),
            "step_ms": _step_ms(times),
        }
        for name, times in taken.items()
    ]


def _further(stage: Stage, compile: Mode) -> dict[str, Callable[[], object]]:
    """What keys of `execution` add: compiled, and bf16 where the hardware has it."""
    made: dict[str, Callable[[], object]] = {}
    usual = in_bf16(stage.recipe.execution, stage.device)
    remark = "" if usual else " (not by default)"
    if compile != "off":
        made[f"compile: {compile}"] = make_subject(_at(stage, "float32"), compile).step
    if usual or has_bf16(stage.device):
        made[f"bf16{remark}"] = make_subject(_at(stage, "bf16"), compile).step
    return made


def _at(stage: Stage, precision: Literal["float32", "bf16"]) -> Stage:
    return replace(
        stage, recipe=replace(stage.recipe, execution=replace(stage.recipe.execution, precision=precision))
    )


def has_bf16(device: torch.device) -> bool:
    """Whether bf16 is faster than float32 on this device, as far as it says so."""
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


def _in_turn(works: dict[str, Work], rounds: int, device: torch.device) -> dict[str, list[float]]:
    return time_steps(works, rounds, device, lambda: time.sleep(SETTLE))


def _per_second(times: list[float], stage: Stage) -> float:
    return round(stage.recipe.train.batch_size / summary(times, 9)["median"], 2)


def _step_ms(times: list[float]) -> dict[str, float]:
    return summary([1000 * t for t in times], 2)
