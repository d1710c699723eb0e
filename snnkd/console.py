"""Progress of a run on stderr: a progress bar on a terminal, one plain line per epoch
elsewhere; and in the run's log.txt.

Work never fails because nobody can read of it: what stderr does not take is lost, log.txt has it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from snnkd.errors import FileError
from snnkd.files import check_guard
from snnkd.streams import Stderr

Item = TypeVar("Item")

LOG = "log.txt"
MAX_LOG_BYTES = 2**20
"""A larger log.txt becomes log.txt.1, which is replaced."""


class Console:
    """`log` prints a line, `bar` shows progress; `quiet` prints nothing."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self._logged: set[str] = set()
        self._log_file: Path | None = None
        stderr = Stderr()
        # FORCE_COLOR must not draw bars into a file
        force = None if stderr.isatty() else False
        self.console = RichConsole(
            file=stderr,  # type: ignore[arg-type]
            force_terminal=force,
            soft_wrap=True,
            highlight=False,
            markup=False,
        )

    def log(self, line: str) -> None:
        if not self.quiet:
            self.console.print(line)
        if self._log_file is not None:
            _append(self._log_file, line)

    @contextlib.contextmanager
    def log_into(self, folder: Path) -> Iterator[None]:
        """Also append lines, with their time, to log.txt in `folder`; an error that is raised, too."""
        self._log_file = folder / LOG
        try:
            yield
        except Exception as error:
            _append(self._log_file, f"{type(error).__name__}: {error}")
            raise
        finally:
            self._log_file = None

    def log_once(self, line: str) -> None:
        """`log`, unless this console has logged the same line before."""
        if line not in self._logged:
            self._logged.add(line)
            self.log(line)

    def bar(self, title: str, total: int, done: int = 0) -> Bar:
        """A progress bar as a context manager; nothing is drawn if stderr is not a terminal."""
        return Bar(self.console if self.console.is_terminal and not self.quiet else None, title, total, done)


def _append(path: Path, line: str) -> None:
    """Append a line with its time. A full disk, or a run that another process took, loses it: a log is no
    reason to stop."""
    entry = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n"
    with contextlib.suppress(OSError, FileError):
        check_guard(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, entry.encode("utf-8", "backslashreplace"))
            full = os.fstat(descriptor).st_size > MAX_LOG_BYTES
        finally:
            os.close(descriptor)
        if full:
            os.replace(path, path.with_name(f"{LOG}.1"))


class Bar:
    """One progress bar; `advance()` once per step."""

    def __init__(self, console: RichConsole | None, title: str, total: int, done: int) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            TextColumn("{task.completed}/{task.total}"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=console, transient=True) if console else None
        self._title, self._total, self._done = title, total, done
        self._task: TaskID | None = None
        self._described = time.monotonic()

    def __enter__(self) -> Bar:
        if self._progress is not None:
            self._progress.start()
            self._task = self._progress.add_task(self._title, total=self._total, completed=self._done)
        return self

    def describe(self, title: str) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=title)

    def is_due(self) -> bool:
        """Whether a bar is shown and its description older than a second: then it is worth computing one."""
        now = time.monotonic()
        if self._progress is None or now - self._described < 1:
            return False
        self._described = now
        return True

    def over(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items, each an advance once the next is asked for."""
        for item in items:
            yield item
            self.advance()

    def advance(self) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()


def duration(seconds: float) -> str:
    """Seconds as `1:02:03` or `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Clock:
    """Seconds by the clock `now`, from here on: wall time, or with `time.process_time` that of the CPUs."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._start = now, now()

    def seconds(self) -> float:
        return self._now() - self._start
