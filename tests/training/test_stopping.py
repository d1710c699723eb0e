"""Signals and the time limit: the first asks, the second ends."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext

import pytest
from conftest import same_handlers

from snnkd.errors import Interrupted, Preempted
from snnkd.stopping import SIGNALS, Stop

WAIT = """
import sys, time
from snnkd.stopping import Stop
with Stop() as stop:
    print("ready", flush=True)
    while not stop.reason:
        time.sleep(0.01)
    print(stop.reason, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _same_handlers():
    with same_handlers():
        yield


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_only_asks(number):
    work_done = (
        pytest.raises(Interrupted, match="the work of this command was done")
        if number is signal.SIGINT
        else nullcontext()
    )
    with work_done, Stop() as stop:
        assert stop.reason is None
        stop.check("nowhere")
        os.kill(os.getpid(), number)
        assert stop.reason == number.name
        error = stop.error("in epoch 1")
        with pytest.raises(type(error), match=f"stopped by {number.name} here; the same command continues"):
            stop.check("here")
    assert type(error) is (Interrupted if number is signal.SIGINT else Preempted)
    assert error.exit_code == (130 if number is signal.SIGINT else 75)


@pytest.mark.parametrize(
    ("first", "second"),
    [(signal.SIGTERM, signal.SIGTERM), (signal.SIGUSR1, signal.SIGINT), (signal.SIGINT, signal.SIGINT)],
)
def test_a_second_signal_ends_at_once(first, second):
    with subprocess.Popen([sys.executable, "-c", WAIT], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(first)
        assert process.stdout.readline() == f"{first.name}\n"
        process.send_signal(second)
        assert process.wait(timeout=30) == -second


def test_an_error_of_the_work_is_not_hidden_by_a_late_interrupt():
    def work() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        raise KeyError

    with pytest.raises(KeyError), Stop():
        work()


def test_after_an_error_only_ctrl_c_still_counts():
    ctrl_c = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyError), Stop():
        raise KeyError
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    assert handlers.pop(signal.SIGINT) is ctrl_c
    assert set(handlers.values()) == {signal.SIG_IGN}


def _run(program: str, *signals: signal.Signals, ignored: signal.Signals | None = None) -> tuple[int, str]:
    """Send each signal when the program prints a line; its exit status, and all that it printed."""
    shell = f"trap '' {ignored.name.removeprefix('SIG')}; " if ignored else ""
    command = ["sh", "-c", f'{shell}exec "$0" -c "$1"', sys.executable, program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        for number in signals:
            lines.append(process.stdout.readline())
            process.send_signal(number)
        lines.append(process.stdout.read())
        return process.wait(timeout=30), "".join(lines)


OUTPUT = """
import time
from snnkd.cli import options
options.echo("finished")  # by a command that watches no signals, such as compare
time.sleep(0.3)
"""


@pytest.mark.parametrize("number", [number for number in SIGNALS if number is not signal.SIGINT])
def test_a_signal_after_the_result_does_not_replace_exit_code_0(number):
    assert _run(OUTPUT, number) == (0, "finished\n")


END = """
import time
from snnkd.stopping import Stop
with Stop() as stop:
    pass
print("finished", flush=True)  # the interpreter now takes seconds to end
time.sleep(0.3)
"""


@pytest.mark.parametrize("number", [number for number in SIGNALS if number is not signal.SIGINT])
def test_a_signal_after_the_work_does_not_replace_exit_code_0(number):
    assert _run(END, number) == (0, "finished\n")


REASON = """
import time
from snnkd.stopping import Stop
with Stop(0.5) as stop:
    print("ready", flush=True)
    while not stop.reason:
        time.sleep(0.01)
    print(stop.reason, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP], ids=["sh -c 'snnkd &'", "nohup"])
def test_a_signal_ignored_from_the_start_stays_ignored(number):
    assert _run(REASON, number, ignored=number) == (0, "ready\n--max-time (0.5 s)\n")


def test_sigxcpu_comes_every_second():
    program = WAIT.replace("time.sleep(60)", "time.sleep(0.3)")
    assert _run(program, signal.SIGXCPU, signal.SIGXCPU) == (0, "ready\nSIGXCPU\n")


def test_a_deadline():
    assert Stop(1000).reason is None
    over = Stop(90, since=time.monotonic() - 91)
    assert over.reason == "--max-time (90 s)"
    assert type(over.error("there")) is Preempted
    assert Stop(90, since=time.monotonic() - 80).reason is None
    assert Stop(0).reason
    with over, pytest.raises(Preempted, match="--max-time"):
        over.check("there")


def test_a_signal_is_named_before_the_deadline():
    def work(stop: Stop) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.reason == "SIGINT"
        assert type(stop.error("x")) is Interrupted

    with pytest.raises(Interrupted), Stop(0) as stop:
        work(stop)


def test_other_threads_work_without_handlers():
    seen: list[object] = []

    def work() -> None:
        with Stop() as stop:
            seen.append(stop.reason)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None]
