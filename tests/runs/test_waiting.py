"""Waiting for a run that another process holds: who is named, how long, and who comes next."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from snnkd.console import Console
from snnkd.errors import FileError, Preempted
from snnkd.runs import lock
from snnkd.runs.lock import Lock, RunLocked, check_free, retry_when_free, wait_until_free


class Told(Console):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def log(self, line: str) -> None:
        self.lines.append(line)


def never(where: str) -> None:
    pass


@contextmanager
def held_for(folder: Path, seconds: float) -> Iterator[None]:
    """Hold the run for that long; its lock is another open file, which is what counts, not another
    process."""
    taken = threading.Event()

    def hold() -> None:
        with Lock(folder):
            taken.set()
            time.sleep(seconds)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait(10)
    yield
    thread.join()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "POLL", 0.02)


def test_held_is_a_bad_place(tmp_path: Path) -> None:
    with Lock(tmp_path), pytest.raises(RunLocked, match="wait for it or stop it") as caught:
        check_free(tmp_path)
    assert isinstance(caught.value, FileError)
    assert caught.value.exit_code == 3


def test_one_that_is_letting_go_is_not_said(tmp_path: Path) -> None:
    """It writes how its work ended, and when, before the lock is free: that is no other holder."""
    told, letting_go = Told(), threading.Event()
    with Lock(tmp_path) as held:
        waiter = threading.Thread(
            target=lambda: wait_until_free(tmp_path, 3600, lambda where: letting_go.set(), told)
        )
        assert held._file is not None
        held._file.seek(0)
        held._file.truncate()  # as at the beginning of writing
        held._file.flush()
        waiter.start()
        assert letting_go.wait(10)
        letting_go.clear()
        held._record("done")
        assert letting_go.wait(10)
    waiter.join()
    assert told.lines == []


def test_it_waits_until_the_run_is_free_and_says_so_once(tmp_path: Path) -> None:
    told = Told()
    with held_for(tmp_path, 0.3):
        waited = wait_until_free(tmp_path, 3600, never, told)
    assert 0.2 < waited < 10
    (line,) = told.lines
    assert line.startswith(f"waiting for {tmp_path}, held by process ")
    assert line.endswith("; at most 1:00:00 more (execution.wait)")


def test_nothing_is_said_of_a_free_run(tmp_path: Path) -> None:
    told = Told()
    assert wait_until_free(tmp_path, 0, never, told) < 1
    assert told.lines == []


@pytest.mark.parametrize(("seconds", "before"), [(0, 0.0), (0.1, 0.0), (5, 5.0)])
def test_the_bound_counts_what_was_waited_before(tmp_path: Path, seconds: float, before: float) -> None:
    start = time.monotonic()
    with (
        Lock(tmp_path),
        pytest.raises(
            Preempted, match=rf"waited {seconds:g} s \(execution.wait\).*the same command continues"
        ) as caught,
    ):
        wait_until_free(tmp_path, seconds, never, Told(), before)
    assert caught.value.exit_code == 75
    assert time.monotonic() - start < 2


def test_it_ends_when_asked_to_stop(tmp_path: Path) -> None:
    def stop(where: str) -> None:
        raise Preempted(where)

    with Lock(tmp_path), pytest.raises(Preempted, match=f"while waiting for {tmp_path}, held by process"):
        wait_until_free(tmp_path, 3600, stop, Told())


def test_work_that_is_held_off_is_begun_again(tmp_path: Path) -> None:
    """Two that find it free: one gets it, the other is refused once more and waits on."""
    times = []

    def work() -> str:
        times.append(1)
        if len(times) == 2:
            raise RunLocked("another one was quicker")
        with Lock(tmp_path):
            return "done"

    with held_for(tmp_path, 0.2):
        assert retry_when_free(work, tmp_path, 3600, never, Told()) == "done"
    assert len(times) == 3


def test_of_many_that_wait_each_comes_in_turn(tmp_path: Path) -> None:
    inside, most, done = [], [], []

    def work() -> None:
        with Lock(tmp_path):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)
            inside.pop()

    def wait() -> None:
        retry_when_free(work, tmp_path, 3600, never, Told())
        done.append(1)

    with held_for(tmp_path, 0.2):
        threads = [threading.Thread(target=wait) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert (len(done), max(most)) == (6, 1)


def test_other_errors_of_the_work_are_its_own(tmp_path: Path) -> None:
    def work() -> None:
        raise FileError("no room")

    with pytest.raises(FileError, match="no room"):
        retry_when_free(work, tmp_path, 3600, never, Told())
