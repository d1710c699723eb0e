"""`python -m snnkd.torchrun`: torchrun with an exit code that says something, and without its traceback."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import same_handlers
from torch.distributed import run
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing.api import SignalException, SubprocessContext
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.elastic.rendezvous.api import (
    RendezvousConnectionError,
    RendezvousHandler,
    RendezvousTimeoutError,
)
from torch.distributed.launcher.api import launch_agent

from snnkd import distributed, torchrun


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TORCH_CPP_LOG_LEVEL", "ERROR")  # main sets it
    with same_handlers():  # main ignores late ones
        yield


def _failed(*codes: int) -> ChildFailedError:
    failures = {rank: ProcessFailure(rank, 71, code, "<N/A>") for rank, code in enumerate(codes)}
    for rank, failure in failures.items():
        failure.timestamp = 10 - rank  # the last one failed first
    return ChildFailedError("snnkd", failures)


KILLED = (
    f"snnkd: process 1 on {socket.gethostname()} was killed by SIGKILL; "
    "the last checkpoint is intact, the same command continues"
)
LOST_LAUNCHER = (
    "snnkd: n1:29500: the launcher there ended or does not answer; "
    "the last checkpoint is intact, the same command continues"
)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (None, 0, ""),
        (_failed(-15, 75), 75, ""),
        (_failed(-15, 4), 4, ""),
        (_failed(75, -9), 137, KILLED),
        (
            socket.gaierror(-3, "no such name"),
            3,
            "snnkd: n1:29500: no meeting of 2 nodes ([Errno -3] no such name); check their network",
        ),
        (
            RendezvousTimeoutError("timed out"),
            3,
            "snnkd: n1:29500: no meeting of 2 nodes (timed out); check their network",
        ),
    ],
)
def test_exit_codes(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    error: Exception | None,
    code: int,
    line: str,
) -> None:
    def launch(arguments: SimpleNamespace) -> Any:
        assert "SIGUSR1,SIGUSR2" in arguments.signals_to_handle
        if error:
            raise error

    monkeypatch.setattr(run, "run", launch)
    words = ["--nnodes", "2", "--rdzv-endpoint", "n1:29500", "-m", "snnkd", "teach"]
    monkeypatch.setattr(sys, "argv", ["torchrun", *words])
    with pytest.raises(SystemExit) as ended:
        torchrun.main()
    assert ended.value.code == code
    assert capfd.readouterr().err.strip() == line


@pytest.mark.parametrize(
    ("codes", "code"), [((0, 0), 0), ((0, 75), 75), ((0, None), 75), ((-15, 0), 75), (None, 0)]
)
def test_a_signal_after_the_work_does_not_replace_exit_code_0(
    monkeypatch: pytest.MonkeyPatch, codes: tuple[int | None, ...] | None, code: int
) -> None:
    def launch_agent() -> None:  # of torch
        assert codes is not None
        ended = {
            i: SimpleNamespace(proc=SimpleNamespace(poll=lambda each=each: each))
            for i, each in enumerate(codes)
        }
        agent = SimpleNamespace(_pcontext=SimpleNamespace(subprocess_handlers=ended))
        raise SignalException(f"in {agent}", signal.SIGTERM)

    def launch(arguments: SimpleNamespace) -> None:
        if codes is None:
            raise SignalException("after the last process", signal.SIGTERM)
        launch_agent()

    monkeypatch.setattr(run, "run", launch)
    monkeypatch.setattr(sys, "argv", ["torchrun", "-m", "snnkd", "teach"])
    with pytest.raises(SystemExit) as ended:
        torchrun.main()
    assert ended.value.code == code


def test_torch_still_has_what_tells_that_the_work_is_done() -> None:
    assert "agent" in launch_agent.__code__.co_varnames
    assert "_pcontext" in LocalElasticAgent.__init__.__code__.co_names
    assert "subprocess_handlers" in SubprocessContext.__init__.__code__.co_names


def test_a_signal_that_is_ignored_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under nohup."""
    handled = []
    monkeypatch.setattr(run, "run", lambda arguments: handled.extend(arguments.signals_to_handle.split(",")))
    monkeypatch.setattr(sys, "argv", ["torchrun", "-m", "snnkd", "teach"])
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with pytest.raises(SystemExit):
        torchrun.main()
    assert "SIGTERM" in handled
    assert "SIGHUP" not in handled


def test_a_launcher_that_loses_the_others(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """torchrun reports the same error as when the nodes have never met."""

    def num_nodes_waiting() -> None:  # of torchrun's rendezvous handler
        raise RendezvousConnectionError("The connection to the C10d store has failed.")

    monkeypatch.setattr(run, "run", lambda _: num_nodes_waiting())
    monkeypatch.setattr(sys, "argv", ["torchrun", "--rdzv-endpoint", "n1:29500", "-m", "snnkd", "teach"])
    with pytest.raises(SystemExit) as ended:
        torchrun.main()
    assert ended.value.code == 75
    assert capfd.readouterr().err.strip() == LOST_LAUNCHER


STUCK = """
import subprocess, sys, time
from torch.distributed import run
from snnkd import torchrun

def launch(arguments):
    child = subprocess.Popen(["true"])
    time.sleep(60)  # as where the first machine does not answer, in torch's code

run.run = launch
torchrun.PATIENCE, torchrun.POLL = 0.5, 0.1
sys.argv = ["torchrun", "--rdzv-endpoint", "n1:29500", "--shutdown-timeout", "1", "-m", "snnkd", "teach"]
torchrun.main()
"""


def test_a_launcher_that_does_not_notice_an_end_exits() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stderr.strip()) == (75, LOST_LAUNCHER)


def test_the_handler_asks_for_waiting_nodes_by_that_name() -> None:
    assert callable(RendezvousHandler.num_nodes_waiting)


def test_signals_of_the_user_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    handled = []
    monkeypatch.setattr(run, "run", lambda arguments: handled.append(arguments.signals_to_handle))
    monkeypatch.setattr(sys, "argv", ["torchrun", "--signals-to-handle", "SIGTERM", "-m", "snnkd", "teach"])
    with pytest.raises(SystemExit):
        torchrun.main()
    assert handled == ["SIGTERM"]


@pytest.mark.parametrize(
    ("text", "size", "line"),
    [
        (
            "[../gloo/transport/tcp/unbound_buffer.cc:84] Timed out waiting 600000ms for recv operation",
            2,
            "process 0 on n1 ended or does not answer (Timed out waiting 600000ms for recv operation); ",
        ),
        *(
            (
                f"[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [{address}]:35434",
                size,
                f"{named} ended or does not answer (Connection closed by peer [{address}]:35434); ",
            )
            for size, address, named in [
                (4, "10.77.0.3", "process 2 on n3"),
                (4, "10.77.0.9", "another process of this job"),
                (5, "10.77.0.1", "a process on n1"),
                (4, "fe80::4", "process 3 on n4"),
            ]
        ),
        (
            "[../gloo/transport/tcp/unbound_buffer.cc:84] Timed out waiting 600000ms for recv operation",
            4,
            "another process of this job ended or does not answer "
            "(Timed out waiting 600000ms for recv operation); ",
        ),
    ],
)
def test_a_lost_process_is_named(monkeypatch: pytest.MonkeyPatch, text: str, size: int, line: str) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: size)
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    machines = [
        distributed.Machine(f"n{number}", frozenset({f"10.77.0.{number}", f"fe80::{number}"}))
        for number in (1, 2, 3, 4, 1)  # of five processes the first and the last share a machine
    ]
    monkeypatch.setattr(distributed, "_machines", machines[:size])
    with pytest.raises(distributed.PeerLost) as caught, distributed.peer_failures():
        raise RuntimeError(text)
    assert str(caught.value) == f"{line}the last checkpoint is intact, the same command continues"


@pytest.mark.parametrize(("local_rank", "reports"), [(0, True), (1, False)])
def test_a_lost_rank_0_is_reported_once_a_machine(
    monkeypatch: pytest.MonkeyPatch, local_rank: int, reports: bool
) -> None:
    monkeypatch.setattr(distributed, "REPORT_DELAY", 0)
    monkeypatch.setattr(distributed, "rank", lambda: 4 + local_rank)
    monkeypatch.setattr(distributed, "local_rank", lambda: local_rank)
    assert distributed.should_report(distributed.PeerLost("process 0 on n1 ended")) is reports


def test_a_machine_is_known_by_the_address_that_leads_to_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the host name has none, or leads to loopback alone."""
    monkeypatch.setattr(distributed.socket, "gethostname", lambda: "n7.invalid")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    assert distributed._own_machine() == ("n7.invalid", {"127.0.0.1"})


def test_a_suspended_launcher_asks_for_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that runs on, or is suspended for less than the limit, does not."""
    monkeypatch.setattr(distributed, "LAUNCHER_POLL", 0.01)
    launcher = subprocess.Popen(["sleep", "60"])
    monkeypatch.setattr(distributed, "_launchers", [launcher.pid])
    requests: list[str] = []
    try:
        with distributed.watch_launcher(0.5, requests.append):
            for _ in range(2):
                launcher.send_signal(signal.SIGSTOP)
                time.sleep(0.2)
                launcher.send_signal(signal.SIGCONT)
                time.sleep(0.2)
            assert not requests
            launcher.send_signal(signal.SIGSTOP)
            deadline = time.monotonic() + 30
            while not requests and time.monotonic() < deadline:
                time.sleep(0.01)
    finally:
        launcher.kill()
        launcher.wait()
    assert requests == [f"the launcher on {socket.gethostname()} (suspended for 0.5 s)"]
