"""Device, precision, hardware and package versions of this process."""

from __future__ import annotations

import functools
import os
import platform
import re
from contextlib import AbstractContextManager
from importlib.metadata import version
from typing import Any

import torch

from snnkd import distributed
from snnkd.errors import UsageError, counted
from snnkd.schema.run import ExecutionConfig

PACKAGES = ("torch", "torchvision", "spikingjelly", "numpy", "pillow", "matplotlib", "safetensors")


def pick_device(name: str) -> torch.device:
    """The torch device of `execution.device`; under torchrun each process picks its own GPU.

    Raises UsageError for another name and for a device that this machine does not have.
    """
    if distributed.world_size() > 1 and name.startswith("cuda:"):
        raise UsageError(
            f"device {name!r} given for {distributed.world_size()} processes; "
            "use --device cuda, each process picks its own GPU"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and distributed.world_size() > 1:
        name = f"cuda:{distributed.local_rank()}"
    match = re.fullmatch(r"cpu|cuda(?::(\d{1,3}))?", name)
    if match is None:
        raise UsageError(f"device {name!r} is not auto, cpu, cuda or cuda:N")
    if name != "cpu" and int(match[1] or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"device {name!r} is missing; "
            f"this machine has {counted(torch.cuda.device_count(), 'CUDA device')}, --device cpu works"
        )
    if distributed.world_size() > 1 and name != "cpu":
        torch.cuda.set_device(name)  # for nccl
    return torch.device(name)  # after the check: torch reads cuda:999 as another number


def device_line(device: torch.device, config: ExecutionConfig, threads: int) -> str:
    """`device: cuda (NVIDIA H200), bf16`, or `device: cpu, 2 threads, float32; no GPU found` for auto."""
    precision = "bf16" if in_bf16(config, device) else "float32"
    if device.type == "cuda":
        return f"device: {device} ({torch.cuda.get_device_name(device)}), {precision}"
    fallback = "; no GPU found" if config.device == "auto" else ""
    return f"device: cpu, {counted(threads, 'thread')}, {precision}{fallback}"


def autocast(config: ExecutionConfig, device: torch.device) -> AbstractContextManager[Any]:
    """bf16 autocast where `in_bf16`, otherwise a no-op."""
    return torch.autocast(device.type, torch.bfloat16, enabled=in_bf16(config, device))


def in_bf16(config: ExecutionConfig, device: torch.device) -> bool:
    """Whether `precision` is bf16 on this device; auto is, on GPUs that have it."""
    return config.precision == "bf16" or (config.precision == "auto" and gpu_has_bf16(device))


def gpu_has_bf16(device: torch.device) -> bool:
    """Whether a GPU computes in bf16; older ones emulate it, slower than float32."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def versions() -> dict[str, str]:
    from snnkd import __version__

    return {
        "snnkd": __version__,
        "python": platform.python_version(),
        **{package: _installed(package) for package in PACKAGES},
    }


@functools.cache
def _installed(package: str) -> str:
    return version(package)  # reads and parses a file of its own each time


def hardware(device: torch.device) -> dict[str, Any]:
    """Device, CPU, threads and GPU for results; `vectors`: torch's CPU instruction set."""
    values: dict[str, Any] = {
        "device": device.type,
        "cpu": _cpu_name(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    if distributed.world_size() > 1:
        values["processes"] = distributed.world_size()
    if device.type == "cuda":
        values["gpu"] = torch.cuda.get_device_name(device)
    return values


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
