"""Few threads, little address space, and systems without what only Linux has."""

from __future__ import annotations

import os
import re
import resource
import select
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from conftest import SMALL, Cli, finish, forbid, start

from snnkd import openmp
from snnkd.cli.app import _explain
from snnkd.errors import RunError
from snnkd.limits import check_threads, startable_threads


@pytest.fixture
def few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five threads beside the main one can be started."""
    start_thread = threading.Thread.start
    begun: list[threading.Thread] = []

    def start(thread: threading.Thread) -> None:
        begun[:] = [other for other in begun if other.is_alive()]
        if len(begun) == 5:
            raise RuntimeError("can't start new thread")
        start_thread(thread)
        begun.append(thread)

    monkeypatch.setattr(threading.Thread, "start", start)


def test_threads_are_counted_for_two_pools(few_threads: None) -> None:
    assert startable_threads(0) == 0
    assert startable_threads(1) == 1
    assert startable_threads(8) == 2


@pytest.mark.parametrize(("own", "expected"), [("8", "3"), ("2", "2"), ("4,2", "4,2"), (None, "3")])
def test_no_more_threads_of_openmp_than_can_be_started(
    few_threads: None, monkeypatch: pytest.MonkeyPatch, own: str | None, expected: str
) -> None:
    monkeypatch.setattr(openmp, "allowed_cpus", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", own or "")
    openmp.set_openmp_defaults()
    assert os.environ["OMP_NUM_THREADS"] == expected


def test_a_run_with_more_threads_than_can_be_started(cli: Cli, few_threads: None) -> None:
    refused = cli("teach", *SMALL, "--set", "execution.threads=64")
    assert refused.code == 4
    assert "execution.threads: 64, set or recorded by the run, but 3 can be started" in refused.complaint
    check_threads(3, 1)
    with pytest.raises(RunError):
        check_threads(4, 1)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("can't start new thread"),
        RuntimeError("Resource temporarily unavailable"),
        BlockingIOError(11, "Resource temporarily unavailable"),
    ],
)
def test_no_more_threads_at_work(error: Exception) -> None:
    code, message = _explain(error)
    assert code == 4
    assert "raise `ulimit -u`" in message


def test_little_address_space() -> None:
    """torch's libraries are not even mapped; what they raise where they are differs, down to an abort."""
    space = 2**30
    limited = start(
        "teach", *SMALL, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (space, space))
    )
    ended = finish(limited)
    assert ended.code == 4
    assert "torch needs more than 1024 MiB of address space; raise `ulimit -v`" in ended.complaint


def test_memory_that_the_limit_took(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "raise `ulimit -v`" not in _explain(MemoryError())[1]
    monkeypatch.setattr("snnkd.cli.app.address_space", lambda: 2**32)
    assert "raise `ulimit -v`" in _explain(MemoryError())[1]


LINUX = {
    os: r"sched_|posix_f|copy_file_range|eventfd|memfd|pidfd|splice|getrandom|.*xattr|unshare|setns|fdatasync",
    signal: r"SIGRT|SIGPWR|SIGSTKFLT|SIGPOLL|SIGCLD|sig(timed)?wait(info)?$|pidfd",
    select: r"epoll|EPOLL",
    socket: r"AF_(NETLINK|PACKET|ALG|VSOCK|CAN)",
    time: r"CLOCK_(BOOTTIME|TAI|REALTIME_COARSE)|pthread_getcpuclockid",
    resource: r"prlimit|RLIMIT_(MSGQUEUE|NICE|RTPRIO|RTTIME|SIGPENDING|OFILE)|RUSAGE_THREAD",
}
"""What Python has on Linux and not on macOS, by module, as patterns of names."""


def test_nothing_that_only_linux_has_is_needed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [(m, name) for m, pattern in LINUX.items() for name in dir(m) if re.match(pattern, name)]
    assert (os, "sched_getaffinity") in names
    with monkeypatch.context() as patch:
        for module, name in names:
            patch.delattr(module, name)
        for place in ("/proc", "/sys"):
            forbid(patch, Path(place))
        taught = cli("teach", *SMALL)
        assert taught.code == 0, taught.err
        student = cli("distill", *SMALL, "--T", 2, "--loss", "kl", "--allow-weak-teacher")
        assert student.code == 0, student.err
        for words in (["eval", student.folder], ["export", student.folder], ["status"]):
            done = cli(*words)
            assert done.code == 0, done.err
