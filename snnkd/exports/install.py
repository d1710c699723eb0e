"""Atomic installation of an export: complete or not at all, and never over other files."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from snnkd.errors import FileError, UsageError
from snnkd.exports.card import CARD, OPENING
from snnkd.files import (
    CONFIG,
    WEIGHTS,
    check_guard,
    from_os_error,
    read_bytes,
    read_json,
    temporary_folder,
)
from snnkd.models.files import FORMAT

MARK = f'"format": "{FORMAT}"'.encode()
"""Part of the metadata of every exported file."""


def check_target(target: Path, force: bool) -> None:
    """Raise UsageError if `target` exists, unless `force` is set and it is an export of snnkd."""
    if not target.name:
        raise UsageError(f"--out {target}: no file name; give a new path")
    if not target.exists():
        return
    if not force:
        raise UsageError(f"--out {target}: exists; choose another path, or replace it with --force")
    if not _is_export(target):
        raise UsageError(f"--out {target}: not an export of snnkd; --force replaces only exports")


def _is_export(target: Path) -> bool:
    try:
        if target.is_file():
            content = read_bytes(target)
            return MARK in content and b"\0" in content  # a binary file, not text that quotes the mark
        names = {path.name for path in target.iterdir()} if target.is_dir() else set()
        if names - {CARD} != {WEIGHTS, CONFIG} or (
            CARD in names and not read_bytes(target / CARD).startswith(OPENING.encode())
        ):
            return False
        return read_json(target / CONFIG).get("format") == FORMAT
    except FileError:
        return False


def install(target: Path, force: bool, write: Callable[[Path], None]) -> None:
    """Let `write` create a file or folder in a temporary folder next to `target`, then rename it to `target`.

    On any error the temporary folder is removed and an existing `target` is kept. Operating system errors
    become FileError or RunError.
    """
    check_guard(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(target) as tmp:
            staged = tmp / "new"
            write(staged)
            check_guard(target)
            if force and target.exists():
                check_target(target, force)  # it may have changed during writing
                os.replace(target, tmp / "old")
            try:
                _move(staged, target)
            except OSError:
                if (old := tmp / "old").exists() and not target.exists():
                    os.replace(old, target)
                raise
    except OSError as error:
        raise from_os_error(error, f"--out {target}") from error


def _move(staged: Path, target: Path) -> None:
    """Rename; fails if `target` exists by now, which renaming a file would overwrite."""
    if staged.is_dir():
        os.rename(staged, target)
        return
    try:
        os.link(staged, target)
    except OSError as error:
        # only on file systems without hard links
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP) or target.exists():
            raise
        os.rename(staged, target)
