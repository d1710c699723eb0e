"""Signals and the time limit: the first asks, the second ends."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext

import pytest

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


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_only_asks(number):
    before = signal.getsignal(number)
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
    assert signal.getsignal(number) is before


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


def test_the_handlers_come_back_after_an_error():
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(KeyError), Stop():
        raise KeyError
    assert [signal.getsignal(number) for number in SIGNALS] == before


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
