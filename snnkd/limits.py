"""What the system lets this process have: threads, and address space to import torch."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import threading
import time

from snnkd.errors import RunError

ENOUGH = 8 * 2**30
"""Bytes of address space with which torch's import is not tried first."""
NO_THREADS = "no more threads or processes can be started; raise `ulimit -u`, or the container's pids limit"
_NO_MEMORY = re.compile(r"MemoryError|bad_alloc|failed to map segment|annot allocate memory")


POOLS = 2
"""Pools of as many threads each: several libraries that torch and numpy load start their own."""


def startable_threads(wanted: int) -> int:
    """By how many, at most `wanted`, the pools can grow now: threads and address space may be limited."""
    done, started = threading.Event(), []
    try:
        for _ in range(POOLS * wanted):
            thread = threading.Thread(target=done.wait)
            thread.start()
            started.append(thread)
    except (RuntimeError, MemoryError):
        pass
    finally:
        done.set()
        for thread in started:
            thread.join()
            while os.path.exists(f"/proc/self/task/{thread.native_id}"):  # Linux counts it a moment longer
                time.sleep(0.001)
    return len(started) // POOLS


def check_threads(count: int, running: int) -> None:
    """Raise RunError if a pool of `running` threads cannot grow to `count`: OpenMP would end the process."""
    startable = running + startable_threads(count - running)
    if startable < count:
        raise RunError(
            f"execution.threads: {count}, set or recorded by the run, but {startable} can be started; "
            "raise `ulimit -u`"
        )


def check_address_space() -> None:
    """Raise RunError if torch cannot be imported within `ulimit -v`.

    It is tried in another process, since the loader of shared libraries may abort.
    """
    limit = address_space()
    if limit is None or limit >= ENOUGH:
        return
    tried = subprocess.run([sys.executable, "-P", "-c", "import torch"], capture_output=True, check=False)
    if tried.returncode and _NO_MEMORY.search(tried.stderr.decode(errors="replace")):
        raise RunError(
            f"out of memory: torch needs more than {limit // 2**20} MiB of address space; raise `ulimit -v`"
        )


def address_space() -> int | None:
    """Bytes of address space that this process may have (`ulimit -v`); None without a limit."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit
