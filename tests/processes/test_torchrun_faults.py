"""Workers and launchers that are killed, stopped or interrupted: nobody is left behind, and the same command
continues."""

from __future__ import annotations

import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Cli
from faults.forks import alive, send
from processes.jobs import HANDLED, SMALL, Ended, Jobs, workers

TEACH = ["teach", *SMALL, "--set", "data.train_images=72", "--epochs", "8", "--out", "run"]
nightly = pytest.mark.nightly
Pick = Callable[[int, list[int]], list[int]]
"""Of the launcher's pid and the workers' those that are signalled."""
LAUNCHER: Pick = lambda launcher, workers: [launcher]  # noqa: E731
EVERYBODY: Pick = lambda launcher, workers: [launcher, *workers]  # noqa: E731
ONE: Pick = lambda launcher, workers: [workers[1]]  # noqa: E731


@pytest.fixture(scope="module")
def expected(torchrun: Jobs, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of two processes that are left alone."""
    folder = tmp_path_factory.mktemp("whole")
    torchrun.done(folder, TEACH)
    return (folder / "run/model.safetensors").read_bytes()


def _struck(torchrun: Jobs, folder: Path, number: signal.Signals, pick: Pick, **request: object) -> Ended:
    """The command, of which `pick` are signalled once two epochs are done; again where it was done before
    that was seen."""
    for _attempt in range(8):
        launcher = torchrun.start(folder, TEACH, **request)
        _wait(launcher, lambda: _lines(folder / "run/metrics.jsonl") >= 2)
        for pid in pick(launcher, workers(folder)):
            send(pid, number)
        ended = torchrun.finish(folder)
        if not (folder / "run/result.json").exists():
            return ended
        shutil.rmtree(folder / "run")
    pytest.fail("training was never seen")


def _wait(pid: int, come: Callable[[], bool]) -> None:
    """Until it has come, or the launcher has ended."""
    while not come() and alive(pid):
        time.sleep(0.001)


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _state(cli: Cli) -> tuple[int, str]:
    ended = cli("status", "run", "--json")
    return ended.code, ended.json["runs"][0]["state"]


@pytest.mark.parametrize("rank", [pytest.param(0, marks=nightly), 1])
def test_a_killed_worker_ends_the_job_and_leaves_a_run_that_continues(
    torchrun: Jobs, cli: Cli, tmp_path: Path, expected: bytes, rank: int
) -> None:
    ended = _struck(torchrun, tmp_path, signal.SIGKILL, lambda launcher, workers: [workers[rank]])
    assert ended.code == 1
    # of a first process that is gone torchrun speaks
    assert len(ended.said) == rank
    if rank:
        host = socket.gethostname()
        assert ended.said[0].startswith(f"snnkd: process 1 on {host} ended or does not answer (")
        assert ended.said[0].endswith("); the last checkpoint is intact, the same command continues")
    assert f"rank      : {rank}" in ended.err
    assert _state(cli) == (75, "stopped" if rank else "stale")
    again = torchrun.done(tmp_path, TEACH)
    assert "continuing in epoch" in again.err
    assert (tmp_path / "run/model.safetensors").read_bytes() == expected
    assert _state(cli) == (0, "done")


@pytest.mark.parametrize(
    ("before", "after"), [(2, 1), pytest.param(1, 2, marks=nightly), pytest.param(2, 3, marks=nightly)]
)
def test_another_number_of_processes_continues(
    torchrun: Jobs, tmp_path: Path, before: int, after: int
) -> None:
    torchrun.run(tmp_path, [*TEACH, "--max-time", "0s"], before)
    again = torchrun.done(tmp_path, TEACH, after)
    said = (
        f"warning: resumed on another setup (processes {before}, then {after}): the last digits will differ"
    )
    assert again.err.count(said) == 1
    assert _lines(tmp_path / "run/metrics.jsonl") == 8


@pytest.mark.parametrize(
    ("name", "pick", "options"),
    [
        ("SIGTERM", LAUNCHER, []),
        pytest.param("SIGKILL", LAUNCHER, [], marks=nightly),
        pytest.param("SIGUSR1", EVERYBODY, HANDLED, marks=nightly),
        ("SIGINT", ONE, []),
        pytest.param("SIGINT", LAUNCHER, [], marks=nightly),
        pytest.param("SIGUSR1", LAUNCHER, [], marks=nightly),  # kills the launcher, as SIGKILL does
        pytest.param("SIGUSR1", LAUNCHER, HANDLED, marks=nightly),
        pytest.param("SIGINT", EVERYBODY, [], marks=nightly),  # and torchrun forwards it once more
        pytest.param("SIGTERM", EVERYBODY, [], marks=nightly),
        pytest.param("SIGTERM", ONE, [], marks=nightly),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_signal_saves_and_orphans_nobody(
    torchrun: Jobs, cli: Cli, tmp_path: Path, expected: bytes, name: str, pick: Pick, options: list[str]
) -> None:
    number = signal.Signals[name]
    ended = _struck(torchrun, tmp_path, number, pick, options=options)
    killed = number in (signal.SIGUSR1, signal.SIGKILL) and not options
    assert ended.code == (-number if killed else 1)
    assert len(ended.said) == 1, ended.err
    assert ended.said[0].startswith("snnkd: stopped by ")
    assert "the same command continues" in ended.said[0]
    assert _state(cli) == (75, "stopped")
    torchrun.done(tmp_path, TEACH)
    assert (tmp_path / "run/model.safetensors").read_bytes() == expected


@pytest.mark.parametrize(
    ("name", "delay"),
    [
        ("SIGKILL", 0.1),
        pytest.param("SIGTERM", 0.0, marks=nightly),
        *(
            pytest.param(name, delay, marks=nightly)
            for name, delay in [("SIGINT", 0.0), ("SIGKILL", 0.0), ("SIGTERM", 0.1), ("SIGINT", 0.1)]
        ),
    ],
)
def test_a_launcher_that_ends_at_once_orphans_nobody(
    torchrun: Jobs, tmp_path: Path, expected: bytes, name: str, delay: float
) -> None:
    """Workers that have not yet met have nothing to save, and must not wait for each other."""
    launcher = torchrun.start(tmp_path, TEACH)
    _wait(launcher, lambda: bool(workers(tmp_path)))
    time.sleep(delay)
    send(launcher, signal.Signals[name])
    assert torchrun.finish(tmp_path).code != 0
    torchrun.done(tmp_path, TEACH)
    assert (tmp_path / "run/model.safetensors").read_bytes() == expected


@pytest.mark.nightly  # signals stop all alike by default
def test_a_time_limit_stops_all_alike(torchrun: Jobs, cli: Cli, tmp_path: Path, expected: bytes) -> None:
    """A limit lets one step pass: three of them make an epoch."""
    for step in (1, 2, 0):
        ended = torchrun.run(tmp_path, [*TEACH, "--max-time", "0s"])
        assert ended.code == 1
        (line,) = ended.said
        assert line.startswith("snnkd: stopped by --max-time (0 s) in epoch")
        assert f"after step {step} of 3" in line
        assert _state(cli) == (75, "stopped")
    torchrun.done(tmp_path, TEACH)
    assert (tmp_path / "run/model.safetensors").read_bytes() == expected


@pytest.mark.nightly  # the message: test_launcher
def test_a_worker_that_does_not_answer_is_lost(torchrun: Jobs, tmp_path: Path, expected: bytes) -> None:
    words = [*TEACH, "--set", "execution.timeout=3"]
    launcher = torchrun.start(tmp_path, words)
    _wait(launcher, lambda: _lines(tmp_path / "run/metrics.jsonl") >= 2)
    stopped = workers(tmp_path)[1]
    send(stopped, signal.SIGSTOP)
    _wait(launcher, lambda: (tmp_path / "run/run.lock").read_text().count("does not answer") > 0)
    send(stopped, signal.SIGKILL)  # torchrun waits for 30 seconds
    ended = torchrun.finish(tmp_path)
    assert ended.code == 1
    assert any("process 1 on" in line and "Timed out" in line for line in ended.said), ended.err
    torchrun.done(tmp_path, words)
    assert (tmp_path / "run/model.safetensors").read_bytes() == expected


@pytest.mark.nightly  # the watch: test_launcher
def test_a_suspended_launcher_ends_the_job(torchrun: Jobs, tmp_path: Path) -> None:
    words = [*TEACH, "--epochs", "1000", "--set", "execution.timeout=3"]
    launcher = torchrun.start(tmp_path, words)
    _wait(launcher, lambda: _lines(tmp_path / "run/metrics.jsonl") >= 2)
    left = workers(tmp_path)
    send(launcher, signal.SIGSTOP)
    _wait(launcher, lambda: not any(map(alive, left)))
    send(launcher, signal.SIGCONT)
    ended = torchrun.finish(tmp_path)
    assert ended.code == 1
    (line,) = ended.said
    assert line.startswith(
        f"snnkd: stopped by the launcher on {socket.gethostname()} (suspended for 3 s) in epoch"
    )
    assert line.endswith("; the same command continues")
