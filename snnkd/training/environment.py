"""Where a run runs: device, precision, threads, and the versions that its bytes depend on."""

from __future__ import annotations

import os
import platform
import re
from contextlib import AbstractContextManager
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch

from snnkd import distributed
from snnkd.errors import UsageError
from snnkd.schema.run import ExecutionConfig, TrainConfig

PACKAGES = ("torch", "torchvision", "spikingjelly", "numpy", "pillow", "matplotlib", "safetensors")


def pick_device(name: str) -> torch.device:
    """The device that `execution.device` names; under torchrun each process of a machine takes a GPU of its own.

    Raises UsageError when it is not there.
    """
    if distributed.world_size() > 1 and name.startswith("cuda:"):
        raise UsageError(
            f"device {name!r} given for {distributed.world_size()} processes; say cuda, and each takes its own"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and distributed.world_size() > 1:
        name = f"cuda:{distributed.local_rank()}"
    asked = re.fullmatch(r"cpu|cuda(?::(\d{1,3}))?", name)
    if asked is None:
        raise UsageError(f"device {name!r} is not auto, cpu, cuda or cuda:N")
    if name != "cpu" and int(asked[1] or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"device {name!r} is not there; this machine has {torch.cuda.device_count()} CUDA devices, --device cpu works"
        )
    if distributed.world_size() > 1 and name != "cpu":
        torch.cuda.set_device(name)  # what nccl works on
    return torch.device(name)  # only once it is known to be there: torch takes cuda:999 for another number


def check_track(execution: ExecutionConfig) -> None:
    """Raise UsageError for a viewer's files that cannot be written here."""
    if execution.track != "none" and find_spec(execution.track) is None:
        raise UsageError(
            f"execution.track: {execution.track} is not installed: pip install {execution.track}"
        )


def check_execution(train: TrainConfig, execution: ExecutionConfig, device: torch.device) -> None:
    """Raise UsageError for what this job's processes and device cannot do."""
    parts = distributed.world_size() * execution.accumulate
    if train.batch_size % parts or train.batch_size < 2 * parts:
        by = f"{distributed.world_size()} processes x execution.accumulate {execution.accumulate}"
        raise UsageError(
            f"train.batch_size: {train.batch_size} cannot be cut into equal parts of 2 or more by {by}; choose a multiple"
        )
    if execution.sync_norm and device.type == "cpu":
        raise UsageError(
            "execution.sync_norm: true works on GPUs only (SyncBatchNorm does not know gloo); set it to false"
        )


def autocast(config: ExecutionConfig, device: torch.device) -> AbstractContextManager[Any]:
    """bf16 autocast where `precision` asks for it or, by auto, where a GPU has it; otherwise nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=in_bf16(config, device))


def in_bf16(config: ExecutionConfig, device: torch.device) -> bool:
    """Whether `precision` means bf16 on this device."""
    return config.precision == "bf16" or (config.precision == "auto" and gpu_has_bf16(device))


def gpu_has_bf16(device: torch.device) -> bool:
    """Whether it is a GPU that computes in bf16: older ones only imitate it, slower than float32."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def versions() -> dict[str, str]:
    from snnkd import __version__

    return {
        "snnkd": __version__,
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


def hardware(device: torch.device) -> dict[str, Any]:
    """What a number was measured on. `vectors` are the instructions that torch uses here, half as wide on some machines of one name."""
    made: dict[str, Any] = {
        "device": device.type,
        "cpu": _cpu_name(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    if distributed.world_size() > 1:
        made["processes"] = distributed.world_size()
    if device.type == "cuda":
        made["gpu"] = torch.cuda.get_device_name(device)
    return made


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def reproducibility_requirements(execution: ExecutionConfig, device: torch.device) -> dict[str, Any]:
    """What has to stay the same for a continued run to give the same bytes."""
    made = versions()
    kind = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else torch.backends.cpu.get_cpu_capability()
    )
    return {
        "versions": {package: made[package] for package in ("torch", "spikingjelly", "numpy")},
        "machine": f"{platform.machine()} {kind}",
        "threads": execution.threads or torch.get_num_threads(),
        "bf16": in_bf16(execution, device),
        "compile": execution.compile,
        "processes": distributed.world_size(),
        "accumulate": execution.accumulate,
        "sync_norm": execution.sync_norm,
    }
