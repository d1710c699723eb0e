"""The Slurm job that this process runs in, from the variables that Slurm sets."""

from __future__ import annotations

import contextlib
import math
import os
import re
import subprocess
import time

from snnkd.errors import UsageError

MARGIN = 120.0
"""Seconds before the limit for saving and for the interpreter's end; of a short job a quarter of its time."""


def job_name() -> str | None:
    """The job as squeue prints it: `17`, or `17_3` for task 3 of an array; None outside a job."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID") or None


def usable_seconds() -> float:
    """Seconds that this job may still work, a margin before its time limit; 0 when there are none left.

    Raises UsageError outside a job, and when Slurm does not tell its end.
    """
    if job_name() is None:
        raise UsageError(
            "--max-time 'auto' needs a Slurm job, and SLURM_JOB_ID is not set; give a time, 3:50:00"
        )
    left = _end_of_job() - time.time()
    return max(0.0, left - min(MARGIN, left / 4))


def _end_of_job() -> float:
    """The job's time limit in seconds since 1970; infinite for a job without one."""
    end = os.environ.get("SLURM_JOB_END_TIME", "")  # set by Slurm 23.02 and later
    if end.isdecimal():
        return float(end)
    # its id in the environment is the task's own, also in an array
    number = os.environ.get("SLURM_JOB_ID", "")
    command = ["scontrol", "--oneliner", "show", "job", number]
    shown, match = "", None
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        shown = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout
        match = re.search(r"\bEndTime=(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)", shown)
    if "TimeLimit=UNLIMITED" in shown:
        return math.inf
    if match is None:
        raise UsageError(f"--max-time 'auto': `{' '.join(command)}` shows no EndTime; give a time, 3:50:00")
    return time.mktime(time.strptime(match[1], "%Y-%m-%dT%H:%M:%S"))
