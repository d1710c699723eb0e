"""Graceful stop: a signal or a time limit sets a flag, and work ends at its next safe point.

The first SIGTERM, SIGUSR1, SIGUSR2, SIGHUP, SIGXCPU or SIGINT requests a stop; a second one ends the process
at once, by the signal's default action. Signals ignored when the process started stay ignored: SIGHUP under
nohup, SIGINT of a shell's background job.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

from snnkd import distributed
from snnkd.errors import Interrupted, Preempted

SIGNALS = distributed.SIGNALS


def ignore_late_signals() -> None:
    """Ignore all SIGNALS but SIGINT: the work is done, and the process takes up to seconds to exit."""
    if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
        for number in SIGNALS:
            if number != signal.SIGINT:
                signal.signal(number, signal.SIG_IGN)


class Stop:
    """A context manager that watches signals and a deadline. `reason` says why to stop, or None.

    For the command line: after it the process is about to exit, which takes seconds, and a signal that comes
    too late must not replace its exit code. All but SIGINT are ignored from then on.
    """

    def __init__(self, max_seconds: float | None = None, since: float | None = None) -> None:
        """`since` is the time.monotonic() from which `max_seconds` count; now by default."""
        self._deadline = (
            None if max_seconds is None else (time.monotonic() if since is None else since) + max_seconds
        )
        self._limit = max_seconds
        self._signal: signal.Signals | None = None
        self._request: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def _receive(self, number: int, frame: FrameType | None) -> None:
        several = distributed.world_size() > 1
        if self._signal is not None and (several or number == signal.SIGXCPU):
            # torchrun forwards what the terminal or the batch system has sent already; if saving hangs, it
            # kills. The kernel repeats SIGXCPU every second until the hard limit.
            return
        if self._signal is not None or (several and not distributed.JOINED.is_set()):
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self._signal = signal.Signals(number)

    def request(self, reason: str) -> None:
        """Ask for a stop, as a signal does; `reason` is what asks."""
        self._request = reason

    @property
    def requested(self) -> bool:
        return self._signal is not None or self._request is not None

    @property
    def reason(self) -> str | None:
        if self._signal is not None:
            return self._signal.name
        if self._request is not None:
            return self._request
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return f"--max-time ({self._limit:.6g} s)"
        return None

    def error(self, where: str) -> Preempted | Interrupted:
        """What to raise once the work is saved; `where` says how far it is."""
        return self._error(self.reason, where)

    def error_together(self, where: str) -> Preempted | Interrupted:
        """`error` on all ranks, of which one or more have a reason."""
        reasons = distributed.all_gather(self.reason)
        return self._error(self.reason or next(filter(None, reasons)), where)

    def _error(self, reason: str | None, where: str) -> Preempted | Interrupted:
        kind = Interrupted if self._signal is signal.SIGINT else Preempted
        return kind(f"stopped by {reason} {where}; the same command continues")

    def check(self, where: str) -> None:
        """Raise if there is a reason to stop; for work that saves nothing."""
        if self.reason:
            raise self.error(where)

    def check_together(self, where: str) -> None:
        """`check` on all ranks: if one has a reason to stop, all raise."""
        if distributed.any_rank(bool(self.reason)):
            raise self.error_together(where)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # a rank with an error that all share waits for torchrun's SIGTERM, so that only rank 0 prints it
        waits = error is not None and distributed.world_size() > 1
        for number, handler in self._before.items():
            signal.signal(number, handler if waits or number == signal.SIGINT else signal.SIG_IGN)
        if error is None and self._signal is signal.SIGINT:
            # the work is done, but a shell's loop around it must end all the same
            raise Interrupted("stopped by SIGINT; the work of this command was done")
