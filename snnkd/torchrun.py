"""torchrun with the exit code of the process that failed first, and one line for a killed one.

    python -m snnkd.torchrun --standalone --nproc-per-node 2 -m snnkd run glyphs

Options and processes are those of torchrun, which itself ends every failed job with exit code 1 and prints a
traceback and warnings of its own. All signals of `snnkd.distributed.SIGNALS` are handed on.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
import traceback
from argparse import Namespace
from typing import NoReturn

from snnkd.distributed import SIGNALS
from snnkd.errors import FileError, Preempted
from snnkd.stopping import ignore_late_signals
from snnkd.streams import Stderr

PATIENCE = 30.0
"""Seconds that a launcher may not notice that a process ended, beyond twice its time to end the others."""
POLL = 1.0
"""Seconds between two looks."""


def main() -> NoReturn:
    """Run torchrun with the options of sys.argv and exit."""
    os.environ.setdefault(
        "TORCH_CPP_LOG_LEVEL", "ERROR"
    )  # here and in the processes: no stack traces of sockets
    from torch.distributed import DistError, run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous.api import RendezvousError

    logging.disable(logging.ERROR)  # its warnings repeat what the processes print
    arguments = run.parse_args(sys.argv[1:])
    if not any(word.startswith(("--signals-to-handle", "--signals_to_handle")) for word in sys.argv):
        watched = [each for each in (*SIGNALS, signal.SIGQUIT) if signal.getsignal(each) != signal.SIG_IGN]
        arguments.signals_to_handle = ",".join(number.name for number in watched)
    ended = threading.Event()
    threading.Thread(target=_exit_when_stuck, args=(arguments, ended), daemon=True).start()
    try:
        run.run(arguments)
        ignore_late_signals()
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:  # otherwise it has printed why
            _print(
                f"process {rank} on {socket.gethostname()} was killed by {failure.signal_name()}; "
                "the last checkpoint is intact, the same command continues"
            )
        sys.exit(failure.exitcode if failure.exitcode >= 0 else 128 - failure.exitcode)
    except SignalException as error:  # its processes have saved, or were about to exit
        ignore_late_signals()
        if error.sigval == signal.SIGINT:  # as a process of snnkd, so that a shell's loop ends
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        sys.exit(0 if _had_finished(error) else Preempted.exit_code)
    except (RendezvousError, DistError, OSError) as error:
        nodes, endpoint = arguments.nnodes, arguments.rdzv_endpoint
        if _had_met(error):
            _print_lost(endpoint)
            sys.exit(Preempted.exit_code)
        _print(f"{endpoint}: no meeting of {nodes} nodes ({error}); check their network")
        sys.exit(FileError.exit_code)
    finally:
        ended.set()
    sys.exit(0)


def _exit_when_stuck(arguments: Namespace, ended: threading.Event) -> None:
    """Exit with 75 when the launcher does not notice a process's end: it waits for the first machine.

    Processes that are left save, as when their launcher is killed.
    """
    own = getattr(arguments, "shutdown_timeout", None) or 30  # an option of torch 2.14
    patience = PATIENCE + 2 * own
    noticed = time.monotonic()
    while not ended.wait(POLL):
        try:
            zombie = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # no process yet
            zombie = None
        if zombie is None:
            noticed = time.monotonic()
        elif time.monotonic() > noticed + patience:
            _print_lost(arguments.rdzv_endpoint)
            os._exit(Preempted.exit_code)


def _print_lost(endpoint: str) -> None:
    _print(
        f"{endpoint}: the launcher there ended or does not answer; "
        "the last checkpoint is intact, the same command continues"
    )


def _had_finished(error: BaseException) -> bool:
    """Whether the signal came so late that all processes of this machine ended with 0 nevertheless."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == "launch_agent":  # of torch; it has returned otherwise
            processes = frame.f_locals["agent"]._pcontext.subprocess_handlers.values()
            return all(each.proc.poll() == 0 for each in processes)
    return True


def _had_met(error: BaseException) -> bool:
    """Whether the nodes were at work: only then torchrun asks whether others are waiting."""
    return any(frame.name == "num_nodes_waiting" for frame in traceback.extract_tb(error.__traceback__))


def _print(text: str) -> None:
    print(f"snnkd: {' '.join(text.split())}", file=Stderr())


if __name__ == "__main__":
    main()
