"""A lock on one data set, so that of several processes one fetches or unpacks it and the others find it done."""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from snnkd.errors import PlaceError
from snnkd.files import reason, trouble
from snnkd.report import Reporter

POLL = 0.2
"""Seconds between two looks at a lock that is waited for."""


@contextlib.contextmanager
def held(folder: Path, name: str, stop: Callable[[str], None], report: Reporter) -> Iterator[None]:
    """Hold `folder`/.`name`.lock while inside, after waiting for another process that does.

    The operating system lets go of it when its holder ends, however that is; the empty file stays. Raises PlaceError
    where the folder cannot be written or has no locks, and what `stop` raises while it waits.
    """
    path = folder / f".{name}.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        raise trouble(error, path) from error
    with file:
        said = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not said:
                    report.note(f"waiting for another process that prepares {name} in {folder}")
                said = True
                stop(f"while waiting for another process that prepares {name}")
                time.sleep(POLL)
            except OSError as error:
                raise PlaceError(f"{folder}: cannot be locked ({reason(error)}); data need a file system with flock") from error
        yield
