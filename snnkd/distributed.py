"""The ranks of one job, as torchrun starts them. In a single process everything here is a no-op.

Each rank works on its share of every batch; rank 0 writes the files. DistributedDataParallel averages the
gradients; `all_gather` collects what a loss needs from the global batch.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

from snnkd.errors import Interrupted, Preempted, SnnkdError, UsageError

P = ParamSpec("P")
V = TypeVar("V")
TORCHRUN = "TORCHELASTIC_RUN_ID"
"""Set by torchrun; RANK and WORLD_SIZE alone may be left over from another launcher."""
LOST_PEER = re.compile(
    r"gloo/transport|connection (?:closed|reset|refused)|broken pipe|pair closure|failed to "
    r"(?:recv|connect)|remote process exited|"
    r"communicator was aborted|timed out waiting|wait timeout",
    re.IGNORECASE,
)
"""Torch's messages when another rank has exited or does not answer."""
SIGNALS = (
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGHUP,
    signal.SIGXCPU,
    signal.SIGINT,
)
"""Requests to stop: of batch systems, of a closed terminal, of a CPU time limit, of Ctrl-C."""
JOINED = threading.Event()
"""Set while this rank is in the process group: only then are there collectives, and something to save."""
ON_RANK0 = threading.Event()
"""Set on rank 0 inside an `on_rank0` function: what it calls must not wait for the other ranks."""
MAX_WAIT = 5400.0
"""Seconds that rank 0 may work alone, such as waiting for a run that another job has locked."""
COLLECTIVE_TIMEOUT = timedelta(hours=2)
"""Of all but training (`collective_timeout`): longer than MAX_WAIT. A rank that exits is noticed at once."""
STORE_TIMEOUT = timedelta(minutes=5)
"""torchrun starts its store before the workers; one that does not answer is gone."""
REPORT_DELAY = 1.0
"""Seconds for rank 0 to print an error of all ranks: torchrun ends all ranks when one exits."""
LAUNCHER_POLL = 1.0
"""Seconds between two looks at whether torchrun is stopped."""
PEER_ADDRESS = re.compile(r"\[([0-9a-fA-F.:]+)\]:\d+")
"""The lost rank's address in a message of gloo."""
_launchers: list[int] = []
_machines: list[Machine] = []
"""The machine of each rank."""
_groups = itertools.count()


class Machine(NamedTuple):
    """A machine of the job: its host name, and the addresses by which others know it."""

    name: str
    addresses: frozenset[str]


class PeerLost(Preempted):
    """Another rank exited, or does not answer; its own error has the cause. This one could continue: 75."""


def world_size() -> int:
    """Number of ranks; 1 without torchrun."""
    return _launcher_number("WORLD_SIZE", 1) if TORCHRUN in os.environ else 1


def rank() -> int:
    """This process's number in the job, from 0."""
    return _launcher_number("RANK", 0) if world_size() > 1 else 0


def local_rank() -> int:
    """This process's number on its machine, from 0."""
    return _launcher_number("LOCAL_RANK", 0) if world_size() > 1 else 0


def _launcher_number(name: str, default: int) -> int:
    """A variable that torchrun sets; `default` for one that `check_launcher` refuses."""
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else default


def check_launcher() -> None:
    """Raise UsageError for variables of torchrun that are left over or damaged."""
    if TORCHRUN not in os.environ:
        return
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        value = os.environ.get(name)
        if value is None or not value.isdecimal():
            raise UsageError(f"{name}: {value!r} is not a number; unset {TORCHRUN} to run without torchrun")
    if rank() >= world_size():
        raise UsageError(
            f"RANK: {os.environ['RANK']} is not below WORLD_SIZE {world_size()}; unset {TORCHRUN}"
        )


def is_rank0() -> bool:
    return rank() == 0


def refuse_torchrun(command: str) -> None:
    """Raise UsageError under torchrun, for a command that several ranks would only repeat."""
    if world_size() > 1:
        raise UsageError(
            f"{command} runs in one process, torchrun started {world_size()}; start it without torchrun"
        )


@contextlib.contextmanager
def process_group() -> Iterator[None]:
    """Join the job's process group: gloo for CPU tensors, nccl for GPU tensors.

    Raises PeerLost when another rank exits.
    """
    if world_size() == 1 or JOINED.is_set():  # a pipeline function may call another
        yield
        return
    from torch import distributed

    try:
        with peer_failures():
            with _default_signals():
                _join()
            JOINED.set()
            _machines[:] = all_gather(_own_machine())
            yield
            distributed.barrier()  # rank 0 may still be writing, and torchrun ends all ranks when one exits
    finally:
        JOINED.clear()
        if distributed.is_initialized():
            distributed.destroy_process_group()


@contextlib.contextmanager
def peer_failures() -> Iterator[None]:
    """Turn torch's RuntimeError for an exited rank into PeerLost; torch has no class for it."""
    try:
        yield
    except RuntimeError as error:
        if world_size() > 1 and _is_peer_failure(error):
            first_line = (str(error).strip().splitlines() or [""])[0]
            reason = re.sub(r"^\[\S*\]\s*", "", first_line)  # without the line of gloo's source
            raise PeerLost(
                f"{_other_process(str(error))} ended or does not answer ({reason[:100].strip(' :')}); "
                "the last checkpoint is intact, the same command continues"
            ) from error
        raise


def _own_machine() -> Machine:
    """This machine: gloo connects by the address of its host name, or by the one that leads to the first."""
    name, addresses = socket.gethostname(), set()
    with contextlib.suppress(OSError):
        addresses |= {str(found[4][0]) for found in socket.getaddrinfo(name, None)}
    with contextlib.suppress(OSError, KeyError):
        first = socket.getaddrinfo(os.environ["MASTER_ADDR"], 1, type=socket.SOCK_DGRAM)[0]
        with socket.socket(first[0], socket.SOCK_DGRAM) as probe:
            probe.connect(first[4])  # of a datagram socket: sends nothing
            addresses.add(probe.getsockname()[0])
    return Machine(name, frozenset(addresses))


def _other_process(reason: str) -> str:
    """The lost rank and its machine: the only other one, or the one whose address `reason` names."""
    others = [number for number in range(len(_machines)) if number != rank()]
    if len(others) > 1:
        match = PEER_ADDRESS.search(reason)
        others = [number for number in others if match and match[1] in _machines[number].addresses]
    names = {_machines[number].name for number in others}
    if len(names) != 1:
        return "another process of this job"
    process = f"process {others[0]}" if len(others) == 1 else "a process"
    return f"{process} on {names.pop()}"


@contextlib.contextmanager
def collective_timeout(seconds: float) -> Iterator[None]:
    """Inside, a collective that waits for longer than this for another rank raises torch's RuntimeError."""
    if not JOINED.is_set():
        yield
        return
    from torch import distributed

    if hasattr(distributed, "set_timeout"):  # torch 2.14
        set_timeout = distributed.set_timeout
    else:
        set_timeout = distributed.distributed_c10d._set_pg_timeout
    set_timeout(timedelta(seconds=seconds))
    try:
        yield
    finally:
        set_timeout(COLLECTIVE_TIMEOUT)


def _is_peer_failure(error: RuntimeError) -> bool:
    if type(error).__name__ in ("DistNetworkError", "DistStoreError"):
        return True
    # a compiler's error quotes source code, which may match anything
    return (
        not type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))
        and LOST_PEER.search(str(error)[:2000]) is not None
    )


def _join() -> None:
    import torch
    from torch import distributed

    if _launchers and os.getppid() not in _launchers:
        raise PeerLost("torchrun ended; the same command continues")
    store, rank, size = next(distributed.rendezvous("env://", timeout=STORE_TIMEOUT))  # type: ignore[attr-defined]
    store.set_timeout(COLLECTIVE_TIMEOUT)
    # an earlier process group of this job left its keys in the store
    store = distributed.PrefixStore(f"snnkd {next(_groups)}", store)  # type: ignore[attr-defined]
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(
        backend, store=store, rank=rank, world_size=size, timeout=COLLECTIVE_TIMEOUT
    )


@contextlib.contextmanager
def _default_signals() -> Iterator[None]:
    """Let signals end the process, also while torch waits for a missing rank: nothing needs saving yet."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    watched = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    handlers = {number: signal.signal(number, signal.SIG_DFL) for number in watched}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def exit_with_launcher() -> None:
    """Ask Linux for a SIGTERM when torchrun dies: it does not forward all signals, such as SIGKILL."""
    if world_size() > 1 and sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            parent = os.getppid()
            ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
            if os.getppid() != parent:  # it died before the call
                os.kill(os.getpid(), signal.SIGTERM)
            _launchers.append(parent)


@contextlib.contextmanager
def watch_launcher(seconds: float, request_stop: Callable[[str], None]) -> Iterator[None]:
    """Inside, call `request_stop` with a reason once torchrun has been suspended (SIGSTOP) for this long.

    A suspended torchrun neither forwards signals nor notices that its processes end; those of other machines
    wait for it.
    """
    if not _launchers or local_rank() != 0:
        yield
        return
    ended = threading.Event()
    watched = (_launchers[-1], seconds, request_stop, ended)
    thread = threading.Thread(target=_watch, args=watched, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _watch(
    launcher: int, seconds: float, request_stop: Callable[[str], None], ended: threading.Event
) -> None:
    last_running = time.monotonic()
    while not ended.wait(LAUNCHER_POLL):
        if not _is_suspended(launcher):
            last_running = time.monotonic()
        elif time.monotonic() - last_running > seconds:
            request_stop(f"the launcher on {socket.gethostname()} (suspended for {seconds:.6g} s)")
            return


def _is_suspended(pid: int) -> bool:
    """Whether Linux says so; False for a process that ended, and on other systems."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    return False


def should_report(error: BaseException) -> bool:
    """Whether this rank prints `error`: rank 0 what all ranks raise, any other rank what it raises alone.

    Ranks other than 0 exit a little later: torchrun ends all ranks with the first exit, and rank 0 must have
    printed by then. A rank that is still alive after that has an error of its own, or rank 0 is the lost one:
    the first rank of each machine says so.
    """
    if is_rank0() or not isinstance(error, SnnkdError):
        return True
    with contextlib.suppress(KeyboardInterrupt):
        time.sleep(REPORT_DELAY)
    if isinstance(error, PeerLost):
        return local_rank() == 0
    return not isinstance(error, (Preempted, Interrupted)) and not hasattr(error, "on_all_ranks")


def _collective() -> bool:
    """Whether the other ranks take part in this call."""
    return JOINED.is_set() and not ON_RANK0.is_set()


def any_rank(flag: bool) -> bool:
    """Whether `flag` is set on any rank: the same answer on all, without waiting for a GPU."""
    return bool(highest(int(flag)))


def highest(value: int) -> int:
    """The highest `value` of any rank: the same on all, without waiting for a GPU."""
    if not _collective():
        return value
    import torch
    from torch import distributed

    values = torch.tensor([value])
    distributed.all_reduce(values, distributed.ReduceOp.MAX)
    return int(values.item())


def on_rank0(function: Callable[P, V]) -> Callable[P, V]:
    """Decorator: call `function` on rank 0 only; return its value, or raise its SnnkdError, on every rank.

    Every rank has to make the call. Inside, calls of other `on_rank0` functions are plain calls.
    """

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> V:
        if not _collective():
            return function(*args, **kwargs)
        from torch import distributed

        outcome: list[Any] = [None, None]
        if is_rank0():
            ON_RANK0.set()
            try:
                outcome[0] = function(*args, **kwargs)
            except SnnkdError as error:
                outcome[1] = error
            finally:
                ON_RANK0.clear()
        distributed.broadcast_object_list(outcome)
        value, failure = outcome
        if failure is not None:
            failure.on_all_ranks = True
            raise failure
        return value

    return wrapper


def on_every_rank(function: Callable[P, V]) -> Callable[P, V]:
    """Decorator: call `function` on every rank; when it raises a SnnkdError on any, raise that one on all."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> V:
        if not _collective():
            return function(*args, **kwargs)
        value, error = _outcome(function, *args, **kwargs)
        _raise_first(all_gather(error), error)
        return value  # type: ignore[return-value]

    return wrapper


def local_rank0_first(function: Callable[P, V]) -> Callable[P, V]:
    """Decorator: like `on_every_rank`, but each machine's first rank runs first, so others use its files."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> V:
        if not _collective():
            return function(*args, **kwargs)
        value: V | None = None
        for is_turn in (local_rank() == 0, local_rank() != 0):
            error = None
            if is_turn:
                value, error = _outcome(function, *args, **kwargs)
            _raise_first(all_gather(error), error)
        return value  # type: ignore[return-value]

    return wrapper


def _outcome(
    function: Callable[P, V], *args: P.args, **kwargs: P.kwargs
) -> tuple[V | None, SnnkdError | None]:
    try:
        return function(*args, **kwargs), None
    except SnnkdError as error:
        return None, error


def _raise_first(errors: list[SnnkdError | None], own: SnnkdError | None) -> None:
    for number, error in enumerate(errors):
        if error is not None:
            shown = own if own is not None and number == rank() else error  # its own has the traceback
            if number:
                shown.args = (f"process {number} of {world_size()}: {error}",)
            shown.on_all_ranks = True  # type: ignore[attr-defined]
            raise shown


def all_gather(value: V) -> list[V]:
    """The values of all ranks, in order."""
    if not _collective():
        return [value]
    from torch import distributed

    values: list[Any] = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values


def rank_slice(total: int) -> slice:
    """This rank's part of `total` items, a multiple of the world size."""
    each = total // world_size()
    return slice(rank() * each, (rank() + 1) * each)


def broadcast_state(state: Mapping[str, Any]) -> None:
    """Copy rank 0's tensors into those of the other ranks, in place."""
    if world_size() > 1:
        from torch import distributed

        for tensor in state.values():
            distributed.broadcast(tensor, 0)
