"""What a bug report needs: versions, machine, device and folders. Works where packages are missing."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from re import match
from typing import Any

from snnkd import __version__
from snnkd.errors import FileError
from snnkd.files import data_folder
from snnkd.openmp import available_cpus
from snnkd.runs.folder import runs_folder

VARIABLES = (
    *("SNNKD_RUNS", "SNNKD_DATA", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"),
    *("HF_HOME", "HF_ENDPOINT", "HF_HUB_OFFLINE", "SLURM_JOB_ID", "TORCHELASTIC_RUN_ID"),
)
"""Variables of the environment that change what snnkd does."""


def collect() -> dict[str, Any]:
    """The facts that `snnkd info --json` prints; what is missing is None."""
    return {
        "schema": 1,
        "snnkd": __version__,
        "folder": str(Path(__file__).parent),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": available_cpus(),
        "packages": {name: _version(name) for name in _dependencies()},
        "torch": _torch(),
        "runs": _folder(runs_folder),
        "data": _folder(data_folder),
        "environment": {name: value for name in VARIABLES if (value := os.environ.get(name)) is not None},
    }


def _dependencies() -> list[str]:
    """The packages that snnkd declares, the required ones first; those of tests are left out."""
    try:
        declared = requires("snnkd") or []
    except PackageNotFoundError:  # not installed: run from a checkout
        declared = ["torch", "torchvision", "spikingjelly", "typer", "numpy", "pillow", "matplotlib"]
    names = [match(r"[\w.-]+", each)[0] for each in declared if "extra == 'test'" not in each]  # type: ignore[index]
    return list(dict.fromkeys(names))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _torch() -> dict[str, Any]:
    """Device and threads as torch sees them, or the error of importing it."""
    try:
        import torch
    except Exception as error:  # also a library that it cannot load
        return {"error": " ".join(f"{type(error).__name__}: {error}".split())[:200]}
    cuda = torch.cuda.is_available()
    count = torch.cuda.device_count() if cuda else 0
    return {
        "threads": torch.get_num_threads(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "cuda": torch.version.cuda,
        "gpus": [torch.cuda.get_device_name(i) for i in range(count)],
    }


def _folder(find: Callable[[], Path]) -> dict[str, Any]:
    """A folder's path, state and free space, or why it is not known."""
    try:
        path = find()
    except FileError as error:
        return {"error": str(error)}
    nearest = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
    state = "missing" if nearest != path.absolute() else "present"
    writable = os.access(nearest, os.W_OK | os.X_OK)
    return {
        "path": str(path),
        "state": state if writable else f"{state}, not writable",
        "free_bytes": shutil.disk_usage(nearest).free,
    }
