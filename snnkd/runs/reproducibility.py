"""The setup that bitwise reproducibility depends on, recorded when a run starts, compared when it resumes."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import torch

from snnkd import distributed
from snnkd.environment import in_bf16, versions
from snnkd.errors import FileError, UsageError
from snnkd.files import RUN, read_json
from snnkd.runs.folder import difference
from snnkd.schema import fields
from snnkd.schema.marks import Bounds
from snnkd.schema.run import ExecutionConfig


@dataclass(frozen=True, kw_only=True)
class Versions:
    """Versions of the numerical packages."""

    torch: str
    spikingjelly: str
    numpy: str


@dataclass(frozen=True, kw_only=True)
class Reproducibility:
    """The setup under which equal recipes and seeds give bitwise equal results; `needs` in run.json."""

    versions: Versions
    machine: str
    """Architecture and GPU, or the CPU's instruction set."""
    threads: Annotated[int, Bounds(1, 4096)]
    bf16: bool
    compile: Literal["neurons", "on", "off"]
    processes: int
    accumulate: int
    sync_norm: bool


def reproducibility(
    execution: ExecutionConfig, compile: Literal["neurons", "on", "off"], device: torch.device
) -> Reproducibility:
    """The setup of this process."""
    if device.type == "cuda":
        processor = torch.cuda.get_device_name(device)
    else:
        processor = torch.backends.cpu.get_cpu_capability()
    package = versions()
    return Reproducibility(
        versions=Versions(
            torch=package["torch"], spikingjelly=package["spikingjelly"], numpy=package["numpy"]
        ),
        machine=f"{platform.machine()} {processor}",
        threads=execution.threads or torch.get_num_threads(),
        bf16=in_bf16(execution, device),
        compile=compile,
        processes=distributed.world_size(),
        accumulate=execution.accumulate,
        sync_norm=execution.sync_norm,
    )


def recorded_reproducibility(folder: Path) -> Reproducibility:
    """The setup a run was started with. Raises FileError if run.json is damaged."""
    try:
        return fields.build(Reproducibility, read_json(folder / RUN).get("needs"), "needs")
    except UsageError as error:
        raise FileError(f"{folder / RUN}: damaged: {error}") from error


def check_resumable(
    folder: Path, recorded: Reproducibility, current: Reproducibility, anyway: bool = False
) -> str | None:
    """Raise UsageError if a resumed run would not be bitwise identical to an uninterrupted one.

    The number of threads is restored. Another number of processes is allowed, and anything with `anyway`;
    returns what then differs, which changes the last digits, or None.
    """
    current = replace(current, threads=recorded.threads)
    change = difference(fields.to_plain(recorded), fields.to_plain(current))
    if change is None:
        return None
    key, old, new = change
    if not anyway and replace(current, processes=recorded.processes) != recorded:
        raise UsageError(
            f"{folder}: started with {key} = {old!r}, here it is {new!r}; "
            "resume on the original setup, or --continue-anyway"
        )
    return f"{key} {old!r}, then {new!r}"
