"""Efficiency of the convolutions of a training step: FLOP/s relative to a matrix product."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from snnkd.bench.clock import seconds, summary
from snnkd.bench.subject import Subject
from snnkd.environment import in_bf16

CONVOLUTIONS = ("aten::convolution", "aten::convolution_backward")
MATRIX = 1024
"""Rows and columns of the matrices whose product is timed."""
PRODUCTS = 4
"""Matrix products timed together."""


def measure_efficiency(subject: Subject, rounds: int) -> dict[str, Any]:
    """GFLOP/s of the step's convolutions, forward and backward, and of torch's matrix product, interleaved.

    `ratio` is their quotient round by round, `share` the convolutions' fraction of the step's time. The
    product has the step's precision. Returns an empty dictionary for a network without convolutions.
    """
    device = subject.stage.device
    flops = _convolution_flops(subject)
    if not flops:
        return {}
    dtype = torch.bfloat16 if in_bf16(subject.stage.recipe.execution, device) else torch.float32
    a, b = (torch.rand(MATRIX, MATRIX, device=device).to(dtype) for _ in range(2))
    _multiply(a, b)
    convolution_rates, matmul_rates, shares = [], [], []
    for _ in range(rounds):
        convolution, step = _profile_step(subject)
        convolution_rates.append(flops / convolution / 1e9)
        shares.append(convolution / step)
        product = seconds(lambda: _multiply(a, b), device)
        matmul_rates.append(PRODUCTS * 2 * MATRIX**3 / product / 1e9)
    return {
        "convolution_gflops": summary(convolution_rates, 3),
        "matmul_gflops": summary(matmul_rates, 3),
        "ratio": summary([c / m for c, m in zip(convolution_rates, matmul_rates, strict=True)], 3),
        "share": summary(shares, 3),
    }


def _multiply(a: Tensor, b: Tensor) -> None:
    for _ in range(PRODUCTS):
        torch.mm(a, b)


def _convolution_flops(subject: Subject) -> int:
    """FLOPs, two per MAC, of the convolutions of one step: teacher, student, and gradients."""
    images, labels = subject.batch()
    with FlopCounterMode(display=False) as counter:
        teacher = subject.teacher(images)
        # hooked: operations of a compiled network are not counted
        subject.train_step(images, labels, teacher, 0, hooked=True).total.backward()
    subject.optimizer.zero_grad(set_to_none=True)
    counts = counter.get_flop_counts()["Global"]
    return sum(
        count
        for operation, count in counts.items()
        if str(operation).replace("aten.", "aten::") in CONVOLUTIONS
    )


def _profile_step(subject: Subject) -> tuple[float, float]:
    """Seconds of the convolutions and of the step, on the device that computes them."""
    device = subject.stage.device
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else its log, and an error without a GPU, is in ours
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=activities) as profiler:
        step = seconds(subject.step, device)
    field = "device_time_total" if device.type == "cuda" else "cpu_time_total"
    times = {event.key: getattr(event, field) for event in profiler.key_averages()}
    return sum(times.get(name, 0.0) for name in CONVOLUTIONS) / 1e6, step
