"""The lock on a run directory, which also records its holder; and waiting for it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeVar

from snnkd import distributed, slurm
from snnkd.console import Console, duration
from snnkd.errors import FileError, Interrupted, Preempted, RunError, UsageError
from snnkd.files import from_os_error, guarding, parse_json
from snnkd.locks import Identities, check_unchanged, identify, local_locks, try_flock
from snnkd.runs.folder import CHECKPOINT

T = TypeVar("T")
NAME = "run.lock"
POLL = 1.0
"""Seconds between two attempts."""
MAX_STARTS = 5
"""Starts in a row without a new checkpoint that a run may have before it counts as failed: jobs that requeue
themselves end then."""


class RunLocked(FileError):
    """Another process has locked the run directory."""


class Lock:
    """Lock a run directory, on rank 0 for all ranks; on exit, record the outcome: done, stopped or failed.

    Raises RunLocked if another process has the lock, FileError if the folder cannot be written; on exit
    RunError in place of Preempted after MAX_STARTS starts without a new checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[str] | None = None
        self._identities: Identities = {}
        self._guard = contextlib.ExitStack()
        self._previous: dict[str, Any] = {}
        self._starts, self._checkpoint = 1, 0

    def __enter__(self) -> Lock:
        self._acquire()
        return self

    @distributed.on_rank0
    def _acquire(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = (self._folder / NAME).open("a+", encoding="utf-8")
        except OSError as error:
            raise from_os_error(error, self._folder) from error
        try:
            if not _try_lock(file):
                raise _locked(self._folder)
            self._file, self._previous = file, read_holder(self._folder)
            self._checkpoint = _checkpoint_time(self._folder)
            self._starts = 1 + vain_starts(self._folder, self._previous)
            self._identities = identify(self._folder, file)
            self.check()
            self._record("running")
            self._guard.enter_context(guarding(self._folder, self.check))
        except BaseException as error:
            with contextlib.suppress(OSError):  # closing flushes, which may fail again
                file.close()
            if isinstance(error, OSError):
                raise from_os_error(error, self._folder) from error
            raise

    def check(self) -> None:
        """Raise FileError if the folder or its lock file is not the one that was locked."""
        check_unchanged(self._identities)

    def _is_in_vain(self) -> bool:
        """Whether too many starts ended without a new checkpoint, this one included."""
        return self._starts >= MAX_STARTS and self._checkpoint == _checkpoint_time(self._folder)

    def _record(self, state: str, why: str = "") -> None:
        assert self._file is not None
        record = {
            "state": state,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
            "starts": self._starts,
            "checkpoint": self._checkpoint,
        }
        self._file.seek(0)
        self._file.truncate()
        json.dump(record | _present(job=slurm.job_name(), why=why), self._file)
        self._file.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is None:  # another rank than 0
            return
        self._guard.close()
        try:
            if error is None:
                self._record("done")
            elif isinstance(error, Preempted) and self._is_in_vain():
                failure = RunError(
                    f"{self._folder}: {self._starts} starts in a row without a new checkpoint, "
                    f"the last: {str(error).partition(';')[0]}; read the job's output"
                )
                self._record("failed", str(failure))
                raise failure from error
            elif isinstance(error, (Preempted, Interrupted)):
                if isinstance(error, Interrupted):  # by a person, not by a script in a loop
                    self._starts = 0
                self._record("stopped", str(error))
            elif isinstance(error, UsageError):  # refused: the run keeps its state
                self._starts -= 1
                self._record(str(self._previous.get("state", "stopped")), str(self._previous.get("why", "")))
            else:
                self._record("failed", f"{type(error).__name__}: {error}".splitlines()[0][:300])
        except OSError:
            pass  # a full disk must not hide the error being raised
        finally:
            with contextlib.suppress(OSError):
                self._file.close()


def vain_starts(folder: Path, holder: dict[str, Any]) -> int:
    """Starts in a row, up to the one that `holder` records, that were stopped or killed at one checkpoint."""
    starts = holder.get("starts")
    ended = holder.get("state") in ("running", "stopped")
    if not isinstance(starts, int) or not ended or holder.get("checkpoint") != _checkpoint_time(folder):
        return 0
    return starts


def _checkpoint_time(folder: Path) -> int:
    """When the newest checkpoint was written, in ns; 0 without one."""
    try:
        return (folder / CHECKPOINT).stat().st_mtime_ns
    except OSError:
        return 0


def warn_of_local_locks(folder: Path, console: Console) -> None:
    """Log where other machines do not see the lock of a run that this job has locked.

    They are asked if they take part in the job; otherwise the file system's type and options tell.
    """
    if slurm.job_name() is None and distributed.world_size() == 1:
        return
    kind = local_locks(folder)
    machines = distributed.all_gather(
        (socket.gethostname(), (folder / NAME).exists() and not is_held(folder))
    )
    others = sorted({host for host, unlocked in machines if unlocked})
    if kind or others:
        where = f"on {', '.join(others)}" if others else f"on other machines ({kind})"
        console.log(
            f"warning: the lock of {folder} is not seen {where}; start this run nowhere else at the same time"
        )


def record_done(folder: Path) -> None:
    """Record that a finished run is done, where its process was killed before it could."""
    if _says_running(folder):
        with contextlib.suppress(FileError), Lock(folder):  # a folder may be read-only by now
            pass


@distributed.on_rank0
def _says_running(folder: Path) -> bool:
    return read_holder(folder).get("state") == "running" and not is_held(folder)


def _try_lock(file: IO[str]) -> bool:
    """Call `try_flock` up to three times, since `snnkd status` takes a shared lock for a moment."""
    for pause in (0.05, 0.05, 0.0):
        if try_flock(file):
            return True
        time.sleep(pause)
    return False


def _locked(folder: Path) -> RunLocked:
    return RunLocked(f"{folder}: held by {describe_holder(read_holder(folder))}; wait for it or stop it")


def _present(**values: str | None) -> dict[str, str]:
    return {key: value for key, value in values.items() if value}


def describe_holder(holder: dict[str, Any]) -> str:
    """`process 71 of job 17_3 on node3 since 2026-11-28 14:02:11`; outside a Slurm job without it."""
    pid, host, since = (holder.get(key, "?") for key in ("pid", "host", "since"))
    job = f" of job {holder['job']}" if "job" in holder else ""
    return f"process {pid}{job} on {host} since {since}"


def check_free(folder: Path) -> None:
    """Raise RunLocked if a process has locked the run, before any work."""
    if is_held(folder):
        raise _locked(folder)


def retry_when_free(
    work: Callable[[], T], folder: Path, seconds: float, stop: Callable[[str], None], console: Console
) -> T:
    """Call `work`; each time it raises RunLocked, wait until `folder` is free and call it again.

    `work` must check what is left to do: another process may have finished the run meanwhile. Limits and
    errors are those of `wait_until_free`.
    """
    waited = 0.0
    if distributed.world_size() > 1:
        seconds = min(seconds, distributed.MAX_WAIT)
    while True:
        try:
            return work()
        except RunLocked:
            waited = wait_until_free(folder, seconds, stop, console, waited)


@distributed.on_rank0
def wait_until_free(
    folder: Path, seconds: float, stop: Callable[[str], None], console: Console, waited: float = 0.0
) -> float:
    """Wait until no process has locked the run; return the seconds waited, including earlier `waited` ones.

    Logs each holder once. Raises Preempted after `seconds` in all, and what `stop` raises.
    """
    start, logged = time.monotonic() - waited, ""
    while is_held(folder):
        record, waited = read_holder(folder), time.monotonic() - start
        holder = describe_holder(record)
        stop(f"while waiting for {folder}, held by {holder}")
        if waited >= seconds:
            raise Preempted(
                f"{folder}: held by {holder}; "
                f"waited {seconds:g} s (execution.wait) for it; the same command continues"
            )
        # another waiting process may take the lock first; a holder not recorded as "running" is about to exit
        if record.get("state") == "running" and holder != logged:
            console.log(
                f"waiting for {folder}, held by {holder}; "
                f"at most {duration(seconds - waited)} more (execution.wait)"
            )
            logged = holder
        time.sleep(min(POLL, seconds - waited))
    return time.monotonic() - start


def read_holder(folder: Path) -> dict[str, Any]:
    """The record in the lock file; empty if there is none or it is damaged."""
    try:
        value = parse_json((folder / NAME).read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def is_held(folder: Path) -> bool:
    """Whether a process has locked the run."""
    try:
        with (folder / NAME).open("r", encoding="utf-8") as file:
            return not try_flock(file, shared=True)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise from_os_error(error, folder / NAME) from error
