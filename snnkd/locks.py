"""A lock on one data set, so that of several processes one fetches or unpacks it and the others find it done."""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from snnkd.console import Console
from snnkd.errors import FileError
from snnkd.files import from_os_error, reason

POLL = 0.2
"""Seconds between two looks at a lock that is waited for."""


@contextlib.contextmanager
def dataset_lock(folder: Path, name: str, stop: Callable[[str], None], console: Console) -> Iterator[None]:
    """Hold `folder`/.`name`.lock while inside, after waiting for another process that does.

    The operating system lets go of it when its holder ends, however that is; the empty file stays. Raises FileError
    where the folder cannot be written or has no locks, and what `stop` raises while it waits.
    """
    path = folder / f".{name}.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        raise from_os_error(error, path) from error
    with file:
        said = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not said:
                    console.log(f"waiting for another process that prepares {name} in {folder}")
                said = True
                stop(f"while waiting for another process that prepares {name}")
                time.sleep(POLL)
            except OSError as error:
                raise FileError(
                    f"{folder}: cannot be locked ({reason(error)}); data need a file system with flock"
                ) from error
        yield
