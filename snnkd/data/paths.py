"""Where data sets and their caches are stored."""

from __future__ import annotations

import os
from pathlib import Path


def data_folder() -> Path:
    """The folder SNNKD_DATA, by default snnkd/ in the user's cache folder."""
    folder = os.environ.get("SNNKD_DATA")
    if folder:
        return Path(folder)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "snnkd"
