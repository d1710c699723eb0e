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
import traceback
from typing import NoReturn

from snnkd.distributed import SIGNALS
from snnkd.errors import FileError, Preempted
from snnkd.streams import Stderr


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
        arguments.signals_to_handle = ",".join(number.name for number in (*SIGNALS, signal.SIGQUIT))
    try:
        run.run(arguments)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:  # otherwise it has printed why
            _print(
                f"process {rank} on {socket.gethostname()} was killed by {failure.signal_name()}; "
                "the last checkpoint is intact, the same command continues"
            )
        sys.exit(failure.exitcode if failure.exitcode >= 0 else 128 - failure.exitcode)
    except SignalException as error:  # its processes have saved
        if error.sigval == signal.SIGINT:  # as a process of snnkd, so that a shell's loop ends
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        sys.exit(Preempted.exit_code)
    except (RendezvousError, DistError, OSError) as error:
        nodes, endpoint = arguments.nnodes, arguments.rdzv_endpoint
        if _had_met(error):
            _print(
                f"{endpoint}: the launcher there ended or does not answer; "
                "the last checkpoint is intact, the same command continues"
            )
            sys.exit(Preempted.exit_code)
        _print(f"{endpoint}: no meeting of {nodes} nodes ({error}); check their network")
        sys.exit(FileError.exit_code)
    sys.exit(0)


def _had_met(error: BaseException) -> bool:
    """Whether the nodes were at work: only then torchrun asks whether others are waiting."""
    return any(frame.name == "num_nodes_waiting" for frame in traceback.extract_tb(error.__traceback__))


def _print(text: str) -> None:
    print(f"snnkd: {' '.join(text.split())}", file=Stderr())


if __name__ == "__main__":
    main()
