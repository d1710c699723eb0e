"""Runs set aside, renamed and tagged; nothing is ever deleted, and a running run is left alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from snnkd.console import Console
from snnkd.errors import FileError, UsageError
from snnkd.files import from_os_error, write_json
from snnkd.runs.find import is_run
from snnkd.runs.folder import TAGS
from snnkd.runs.lock import check_free


def check_runs(folders: Sequence[Path]) -> None:
    """Raise FileError for a folder that is no run, or one that a process is working in."""
    for folder in folders:
        try:
            known = is_run(folder)
        except OSError as error:
            raise from_os_error(error, folder) from error
        if not known:
            raise FileError(f"{folder}: not a run; `snnkd status` lists runs")
        check_free(folder)


def remove(folders: Sequence[Path], console: Console) -> None:
    """Move runs to .aside beside them."""
    from snnkd.runs.open import set_aside  # imports torch

    check_runs(folders)
    for folder in folders:
        set_aside(folder, console)


def rename(folder: Path, name: str) -> Path:
    """Give a run another name in the same folder; return its new path."""
    if not name or name.startswith(".") or Path(name).name != name:
        raise UsageError(f"{name!r} is not a name of a run; give one without / and without a dot before it")
    check_runs([folder])
    target = folder.parent / name
    if target.exists():
        raise UsageError(f"{target}: exists; choose another name")
    try:
        os.rename(folder, target)
    except OSError as error:
        raise from_os_error(error, folder) from error
    return target


def tag(folder: Path, tags: Sequence[str]) -> None:
    """Replace a run's tags, words that `snnkd status` shows; none removes them."""
    for each in tags:
        if not each.strip() or "," in each or len(each.splitlines()) > 1:
            raise UsageError(f"{each!r} is not a tag; give words without commas and line breaks")
    check_runs([folder])
    try:
        write_json(folder / TAGS, {"tags": list(dict.fromkeys(tags))})
    except OSError as error:
        raise from_os_error(error, folder) from error
