"""One process per run: a lock that the operating system releases with its holder, and that names the holder; and waiting for it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from snnkd import distributed
from snnkd.console import Console, duration
from snnkd.errors import FileError, Interrupted, Preempted, UsageError
from snnkd.files import from_os_error, parse_json, reason

T = TypeVar("T")
NAME = "run.lock"
HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
"""How flock says that another process has the lock."""
POLL = 1.0
"""Seconds between two looks at a lock that is waited for."""


class Held(FileError):
    """Another process holds the run directory."""


class Lock:
    """Hold a run directory. On leaving, the file says how the work ended: done, stopped or failed.

    Raises Held when another process holds it, FileError when the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME

    def __enter__(self) -> Lock:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a+", encoding="utf-8")
        except OSError as error:
            raise from_os_error(error, self._path.parent) from error
        try:
            self._take()
        except OSError as error:
            self._file.close()
            if error.errno not in HELD:
                raise _unlockable(self._path.parent, error) from error
            raise _held(self._path.parent) from error
        self._before = read_holder(self._path.parent)
        try:
            self._say("running")
        except OSError as error:
            with contextlib.suppress(OSError):  # it tries to write once more
                self._file.close()
            raise from_os_error(error, self._path.parent) from error
        return self

    def _take(self) -> None:
        for last in (False, False, True):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError:
                if last:
                    raise
                time.sleep(0.05)  # `snnkd status` holds it for a moment to see whether it is held

    def _say(self, state: str, why: str = "") -> None:
        about = {
            "state": state,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        self._file.seek(0)
        self._file.truncate()
        json.dump({**about, "why": why} if why else about, self._file)
        self._file.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._say("done")
            elif isinstance(error, (Preempted, Interrupted)):
                self._say("stopped", str(error))
            elif isinstance(error, UsageError):  # refused, which is no failure of the run that stands here
                self._say(str(self._before.get("state", "stopped")), str(self._before.get("why", "")))
            else:
                self._say("failed", f"{type(error).__name__}: {error}".splitlines()[0][:300])
        except OSError:
            pass  # a full disk must not hide the error that is on its way
        finally:
            with contextlib.suppress(OSError):
                self._file.close()


def _unlockable(folder: Path, error: OSError) -> FileError:
    return FileError(
        f"{folder}: cannot be locked ({reason(error)}); runs need a file system with flock, such as local disks have"
    )


def _held(folder: Path) -> Held:
    return Held(f"{folder}: held by {_name(read_holder(folder))}; wait for it or stop it")


def _name(holder: dict[str, Any]) -> str:
    return f"process {holder.get('pid', '?')} on {holder.get('host', '?')} since {holder.get('since', '?')}"


def check_free(folder: Path) -> None:
    """Raise Held when a process holds the run now: a look ahead of work that comes before taking it."""
    if is_held(folder):
        raise _held(folder)


def in_turn(
    work: Callable[[], T], folder: Path, seconds: float, stop: Callable[[str], None], console: Console
) -> T:
    """`work()`, again each time that another process held `folder` and let go of it; see `wait_until_free`.

    `work` looks by itself whether something is left to do. Of several that wait, one gets the lock and the others are
    Held again, which is no error here.
    """
    waited = 0.0
    if distributed.world_size() > 1:
        seconds = min(seconds, distributed.LONGEST_WAIT)
    while True:
        try:
            return work()
        except Held:
            so_far = waited
            waited = distributed.on_rank0(lambda: wait_until_free(folder, seconds, stop, console, so_far))  # noqa: B023


def wait_until_free(
    folder: Path, seconds: float, stop: Callable[[str], None], console: Console, waited: float = 0.0
) -> float:
    """Wait while a process holds the run, `seconds` in all; returns how long it has waited, `waited` before included.

    Says once for whom. Raises Preempted when the time is over, and what `stop` raises when asked to stop.
    """
    start, said = time.monotonic() - waited, ""
    while is_held(folder):
        about, waited = read_holder(folder), time.monotonic() - start
        holder = _name(about)
        stop(f"while waiting for {folder}, held by {holder}")
        if waited >= seconds:
            raise Preempted(
                f"{folder}: held by {holder}; waited {seconds:g} s (execution.wait) for it; the same command continues"
            )
        # another one may take it while this one sleeps; one that says no longer (or not yet) that it runs is about to let go
        if about.get("state") == "running" and holder != said:
            console.log(
                f"waiting for {folder}, held by {holder}; at most {duration(seconds - waited)} more (execution.wait)"
            )
            said = holder
        time.sleep(min(POLL, seconds - waited))
    return time.monotonic() - start


def read_holder(folder: Path) -> dict[str, Any]:
    """What the lock file says; empty when there is none or it is damaged."""
    try:
        value = parse_json((folder / NAME).read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def is_held(folder: Path) -> bool:
    """Whether a process holds the run now."""
    try:
        with (folder / NAME).open("r", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno not in HELD:
            raise _unlockable(folder, error) from error
        return True
    return False
