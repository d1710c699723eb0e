"""The memory allocator of CPU training."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt(3)."""
MAX_BLOCK = 2**30
"""Bytes of the largest block that is kept."""


def keep_freed_memory() -> bool:
    """Let the process keep freed memory for the next step; return whether that was set.

    glibc returns blocks above 32 MB to the system at once and gets them back zeroed, page by page: 40 % of a
    step of resnet20 at T = 4, batch 128, 32x32. Without glibc, or if the user tunes malloc, nothing changes.
    """
    if platform.libc_ver()[0] != "glibc" or any(
        name.startswith(("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")) for name in os.environ
    ):
        return False
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        return bool(mallopt(M_MMAP_THRESHOLD, MAX_BLOCK) and mallopt(M_TRIM_THRESHOLD, -1))
    return False
