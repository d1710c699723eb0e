"""Where data sets are kept."""

from __future__ import annotations

import os
from pathlib import Path


def data_folder() -> Path:
    """SNNKD_DATA, else snnkd/ in the user's cache folder."""
    chosen = os.environ.get("SNNKD_DATA")
    if chosen:
        return Path(chosen)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "snnkd"
