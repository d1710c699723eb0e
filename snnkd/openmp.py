"""Defaults of OpenMP, which runs torch's CPU threads; to be set before torch is imported.

Variables set by the user (OMP_*, GOMP_*, KMP_*) win.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

from snnkd.limits import startable_threads

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
SPIN_COUNT = 1000
"""Iterations that a waiting thread spins before it sleeps. libgomp's default of 300,000 keeps the cores busy,
and training becomes very slow next to other processes."""


def set_openmp_defaults() -> None:
    """Let waiting threads sleep early, and start no more threads than there are CPUs, or than can be started.

    The user's OMP_NUM_THREADS is lowered only where OpenMP would end the process.
    """
    if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}:
        os.environ["OMP_WAIT_POLICY"] = "passive"
        os.environ["GOMP_SPINCOUNT"] = str(SPIN_COUNT)
    wanted = os.environ.get("OMP_NUM_THREADS") or str(available_cpus())
    if not re.fullmatch(r"[1-9]\d{0,3}", wanted):  # a list for nested levels
        return
    threads = 1 + startable_threads(int(wanted) - 1)
    if threads < int(wanted) or ("OMP_NUM_THREADS" not in os.environ and threads < allowed_cpus()):
        os.environ["OMP_NUM_THREADS"] = str(threads)  # OpenMP knows the affinity by itself


def allowed_cpus() -> int:
    """CPUs of this process's affinity; those of the machine where the system has none (macOS)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_cpus() -> int:
    """CPUs of the affinity, at most the CPU quota of the container (rounded up)."""
    quota = _cgroup_quota()
    return allowed_cpus() if quota is None else max(1, min(allowed_cpus(), math.ceil(quota)))


def _cgroup_quota() -> float | None:
    """The smallest CPU quota of this process's control groups, in CPUs; None without one."""
    try:
        lines = OWN_CGROUP.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    quotas = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            quotas += [_v2_quota(folder) for folder in _with_parents(CGROUPS, path)]
        elif "cpu" in controllers.split(","):
            quotas += [_v1_quota(folder) for folder in _with_parents(CGROUPS / "cpu", path)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _with_parents(root: Path, path: str) -> list[Path]:
    """The folder of the group and those above it: every level may limit."""
    folder = root / path.strip("/")
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(root))]


def _v2_quota(folder: Path) -> float | None:
    """CPUs by `cpu.max`, such as "150000 100000"."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _v1_quota(folder: Path) -> float | None:
    """CPUs by `cpu.cfs_quota_us`, -1 without a limit, and `cpu.cfs_period_us`."""
    try:
        quota, period = (int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
