"""File locks by flock, which the kernel releases when their process exits, and the lock of a data set."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

from snnkd.console import Console
from snnkd.errors import FileError
from snnkd.files import from_os_error, guarding, reason

LOCKED = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
"""Error numbers of flock for a file that another process has locked."""
POLL = 0.2
"""Seconds between two attempts."""


def try_flock(file: IO[Any], *, shared: bool = False) -> bool:
    """Lock an open file without waiting; False if another process has locked it. Closing the file unlocks it.

    Raises FileError on a file system without locks.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in LOCKED:
            return False
        raise FileError(
            f"{Path(file.name).parent}: cannot be locked ({reason(error)}); "
            "use a file system with flock, such as a local disk"
        ) from error
    return True


MOUNTS = Path("/proc/self/mounts")
"""Linux's table of mounted file systems."""
LOCAL_TYPES = ("fuse.sshfs", "fuse.rclone", "fuse.s3fs", "fuse.gcsfuse")
LOCAL_OPTIONS = {"nolock", "local_lock=all", "local_lock=flock", "localflock"}
"""Network file systems, and mount options of NFS and Lustre, whose flock stays on its machine."""


def local_locks(folder: Path) -> str | None:
    """The type or option of the file system of `folder` whose locks other machines do not see; else None."""
    try:
        mounts = [line.split()[1:4] for line in MOUNTS.read_text(encoding="utf-8").splitlines()]
    except OSError:  # of another system
        return None
    parents = [folder.resolve(), *folder.resolve().parents]
    matches = [each for each in mounts if len(each) == 3 and Path(each[0]) in parents]
    if not matches:
        return None
    _, kind, options = max(matches, key=lambda each: len(each[0]))
    if kind in LOCAL_TYPES:
        return kind
    return next((f"{kind}, {each}" for each in options.split(",") if each in LOCAL_OPTIONS), None)


Identities = dict[Path, tuple[int, int]]
"""Device and inode of a folder and of the locked file in it."""


def identify(folder: Path, file: IO[Any]) -> Identities:
    """The identities of `folder` and its lock file. Raises OSError."""
    return {folder: _identity(os.stat(folder)), Path(file.name): _identity(os.fstat(file.fileno()))}


def check_unchanged(identities: Identities) -> None:
    """Raise FileError if a folder or lock file is not the one that was locked: it was removed, moved or
    restored, and another process may have locked what is there now."""
    for path, locked in identities.items():
        try:
            here = _identity(os.stat(path))
        except OSError as error:
            lost = f"{path}: {reason(error)}"
        else:
            lost = "" if here == locked else f"{path}: not the one that this process locked"
        if lost:
            raise FileError(f"{lost}; it was moved or removed while in use; repeat the command")


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def dataset_lock(folder: Path, name: str, stop: Callable[[str], None], console: Console) -> Iterator[None]:
    """Lock `folder`/.`name`.lock, so that one process downloads or unpacks a data set while others wait.

    The empty file stays. Writes into the folder are refused once it or the file was moved or removed. Raises
    FileError for a folder that cannot be written, and what `stop` raises while waiting.
    """
    path = folder / f".{name}.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        raise from_os_error(error, path) from error
    with file:
        waiting = False
        while not try_flock(file):
            if not waiting:
                console.log(f"waiting for another process that prepares {name} in {folder}")
            waiting = True
            stop(f"while waiting for another process that prepares {name}")
            time.sleep(POLL)
        check = partial(check_unchanged, identify(folder, file))
        check()
        with guarding(folder, check):
            yield
