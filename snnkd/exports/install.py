"""Putting an export in its place: whole and checked, or not at all; nothing of anybody else's is replaced."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from snnkd.errors import FileError, UsageError
from snnkd.exports.card import CARD, OPENING
from snnkd.files import from_os_error, read_bytes, read_json
from snnkd.models.files import CONFIG, FORMAT, WEIGHTS

MARK = f'"format": "{FORMAT}"'.encode()
"""Stands in every exported file, in what it says of itself."""


def check_target(target: Path, force: bool) -> None:
    """Raise UsageError when `target` exists and is not an export that `force` allows to replace."""
    if not target.name:
        raise UsageError(f"--out {target}: has no name of its own; give a folder that is not there yet")
    if not target.exists():
        return
    if not force:
        raise UsageError(f"--out {target}: exists; choose another place, or --force to replace it")
    if not _is_export(target):
        raise UsageError(
            f"--out {target}: holds other things than an export of snnkd; --force replaces only those"
        )


def _is_export(target: Path) -> bool:
    try:
        if target.is_file():
            content = read_bytes(target)
            return MARK in content and b"\0" in content  # and no text about such files
        names = {path.name for path in target.iterdir()} if target.is_dir() else set()
        if names - {CARD} != {WEIGHTS, CONFIG} or (
            CARD in names and not read_bytes(target / CARD).startswith(OPENING.encode())
        ):
            return False
        return read_json(target / CONFIG).get("format") == FORMAT
    except FileError:
        return False


def install(target: Path, force: bool, make: Callable[[Path], None]) -> None:
    """Let `make` fill a draft, a file or folder, beside `target`, then rename it there.

    Whatever goes wrong, the draft is removed and what stood at `target` stays. Raises FileError or RunError for the
    operating system's errors.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as tmp:
            draft = Path(tmp) / "new"
            make(draft)
            if force and target.exists():
                check_target(target, force)  # again: the draft took time
                os.replace(target, Path(tmp) / "old")
            try:
                _move(draft, target)
            except OSError:
                if (old := Path(tmp) / "old").exists() and not target.exists():
                    os.replace(old, target)
                raise
    except OSError as error:
        raise from_os_error(error, f"--out {target}") from error


def _move(draft: Path, target: Path) -> None:
    """Rename; fails when something came to stand at `target` meanwhile, over which a file's plain rename would go."""
    if draft.is_dir():
        os.rename(draft, target)
        return
    try:
        os.link(draft, target)
    except OSError as error:
        if (
            error.errno not in (errno.EPERM, errno.EOPNOTSUPP) or target.exists()
        ):  # a file system without hard links
            raise
        os.rename(draft, target)
