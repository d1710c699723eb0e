"""The memory allocator of CPU training."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""glibc's names for mallopt(3)."""
KEPT = 2**30
"""Bytes of the largest block that is kept."""


def keep_freed_memory() -> bool:
    """Let the process keep what it frees, so that the next step finds it; returns whether that was set.

    glibc gives blocks above 32 MB back to the system at once and gets them back zeroed, page by page: at T =
    4 and batch 128 of 32x32 that was 40 % of a step of resnet20. Elsewhere, and where the user tunes malloc,
    nothing is changed.
    """
    if platform.libc_ver()[0] != "glibc" or any(
        name.startswith(("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")) for name in os.environ
    ):
        return False
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        return bool(mallopt(M_MMAP_THRESHOLD, KEPT) and mallopt(M_TRIM_THRESHOLD, -1))
    return False
