"""Where data sets and their caches are stored."""

from __future__ import annotations

import os
from pathlib import Path

from snnkd.files import user_path


def data_folder() -> Path:
    """The folder SNNKD_DATA, by default snnkd/ in the user's cache folder."""
    folder = os.environ.get("SNNKD_DATA")
    return (
        user_path(folder) if folder else user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "snnkd"
    )
