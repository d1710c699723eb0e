"""The processes of one job, as torchrun starts them. Alone, everything here does nothing.

Each works on its share of every batch; the first of them writes. Gradients are averaged by DistributedDataParallel;
what a loss has to see of the whole batch is gathered here.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, TypeVar

from snnkd.errors import Interrupted, Preempted, SnnkdError, UsageError

V = TypeVar("V")
LAUNCHED = "TORCHELASTIC_RUN_ID"
"""torchrun sets it; RANK and WORLD_SIZE alone may be left over from another launcher."""
LOST = re.compile(
    r"gloo/transport|connection (?:closed|reset|refused)|broken pipe|pair closure|failed to (?:recv|connect)|remote process exited|"
    r"communicator was aborted",
    re.IGNORECASE,
)
"""In what torch says when another process of the job is gone."""
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""Those that ask to stop."""
INSIDE = threading.Event()
"""Set while this process is joined with the others: before that there is nothing to save, and nobody to agree with."""
FIRST_ALONE = threading.Event()
"""Set while the first does what only it does: what it calls there must not wait for the others."""
LONGEST_WAIT = 5400.0
"""Seconds that the first process may be busy with something of its own, such as waiting for another job's run."""
PATIENCE = timedelta(hours=2)
"""A process that ends is noticed at once; this is for one that waits for a run which another job holds."""
CONNECT = timedelta(minutes=5)
"""torchrun's store is up before its workers begin; where nobody answers it is gone."""
SPEECH = 1.0
"""Seconds that the others give the first to say what all met: torchrun ends all as soon as one ends."""
_launchers: list[int] = []
_joins = itertools.count()


class PeerLost(Preempted):
    """Another process of this job ended. What went wrong is that process's to say; this one could go on, exit code 75."""


def world_size() -> int:
    """How many processes this job has; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1")) if LAUNCHED in os.environ else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return int(os.environ.get("RANK", "0")) if world_size() > 1 else 0


def local_rank() -> int:
    """Which of those on this machine this is, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0")) if world_size() > 1 else 0


def is_rank0() -> bool:
    return rank() == 0


def refuse_torchrun(command: str) -> None:
    """Raise UsageError where `command`, which several processes would only repeat, was started by torchrun."""
    if world_size() > 1:
        raise UsageError(
            f"{command} runs in one process, torchrun started {world_size()}; start it without torchrun"
        )


@contextlib.contextmanager
def process_group() -> Iterator[None]:
    """Be one of the job's processes while inside: collectives work, by gloo on CPUs and nccl on GPUs.

    Raises PeerLost when another process ends in the middle.
    """
    if world_size() == 1:
        yield
        return
    if INSIDE.is_set():  # a verb within a verb
        yield
        return
    from torch import distributed

    try:
        with peer_failures():
            with _mortal():
                _join()
            INSIDE.set()
            yield
            distributed.barrier()  # nobody leaves while the first still writes: torchrun would take its end for the job's
    finally:
        INSIDE.clear()
        if distributed.is_initialized():
            distributed.destroy_process_group()


@contextlib.contextmanager
def peer_failures() -> Iterator[None]:
    """Raise PeerLost for what torch says inside when another process is gone: it has no class of its own for that."""
    try:
        yield
    except RuntimeError as error:
        if world_size() > 1 and _says_lost(error):
            why = re.sub(
                r"^\[\S*\]\s*", "", (str(error).strip().splitlines() or [""])[0]
            )  # without the line of gloo's source
            said = f"another process of this job ended ({why[:100].strip(' :')})"
            raise PeerLost(f"{said}; the last checkpoint is intact, the same command continues") from error
        raise


def _says_lost(error: RuntimeError) -> bool:
    if type(error).__name__ in ("DistNetworkError", "DistStoreError"):
        return True
    # a compiler's error quotes whole programs, which may say anything
    return (
        not type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))
        and LOST.search(str(error)[:2000]) is not None
    )


def _join() -> None:
    import torch
    from torch import distributed

    if _launchers and os.getppid() not in _launchers:
        raise PeerLost("torchrun ended; the same command continues")
    store, rank, size = next(distributed.rendezvous("env://", timeout=CONNECT))  # type: ignore[attr-defined]
    store.set_timeout(PATIENCE)
    # what an earlier meeting of this job left in the store is not for this one
    store = distributed.PrefixStore(f"snnkd {next(_joins)}", store)  # type: ignore[attr-defined]
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)


@contextlib.contextmanager
def _mortal() -> Iterator[None]:
    """A signal ends this process at once, also where it waits inside torch for one that never comes: nothing is to be saved yet."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_with_launcher() -> None:
    """Ask Linux for a SIGTERM when torchrun dies, by whatever: it forwards signals, but not all, and not the one that kills it."""
    if world_size() > 1 and sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            parent = os.getppid()
            ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
            if os.getppid() != parent:  # it died in between
                os.kill(os.getpid(), signal.SIGTERM)
            _launchers.append(parent)


def should_report(error: BaseException) -> bool:
    """Whether this process is to print `error`: the first what all meet alike, one that meets it alone that one.

    The others wait a little with their end. That of one is for torchrun the end of all, and the first must not be
    silenced so; one that is left alive all the same met something of its own.
    """
    if is_rank0() or not isinstance(error, SnnkdError):
        return True
    with contextlib.suppress(KeyboardInterrupt):
        time.sleep(SPEECH)
    return not isinstance(error, (Preempted, Interrupted)) and not hasattr(error, "of_all")


def _together() -> bool:
    """Whether the others take part now."""
    return world_size() > 1 and not FIRST_ALONE.is_set()


def any_rank(asked: bool) -> bool:
    """Whether any of the processes was asked. The answer is the same in all, and no GPU is waited for."""
    if not _together():
        return asked
    import torch
    from torch import distributed

    votes = torch.tensor([int(asked)])
    distributed.all_reduce(votes, distributed.ReduceOp.MAX)
    return bool(votes.item())


def on_rank0(make: Callable[[], V]) -> V:
    """What `make` gives in the first process, in all of them; it is called there only, and its SnnkdError raised in all."""
    if not _together():
        return make()
    from torch import distributed

    held: list[Any] = [None, None]
    if is_rank0():
        FIRST_ALONE.set()
        try:
            held[0] = make()
        except SnnkdError as error:
            held[1] = error
        finally:
            FIRST_ALONE.clear()
    distributed.broadcast_object_list(held)
    if held[1] is not None:
        held[1].of_all = True
        raise held[1]
    return held[0]


def on_every_rank(make: Callable[[], V], first_alone: bool = False) -> V:
    """What `make` gives in each process; a SnnkdError of any is raised in all of them, so that the first can say it.

    With `first_alone` the first process of each machine is done before the others begin, which then find what it left
    on the disk.
    """
    if not _together():
        return make()
    made: list[V] = []
    for turn in ({True}, {False}) if first_alone else ({True, False},):
        failed = None
        if (local_rank() == 0) in turn:
            try:
                made.append(make())
            except SnnkdError as error:
                failed = error
        _raise_first(all_gather(failed), failed)
    return made[0]


def _raise_first(errors: list[SnnkdError | None], own: SnnkdError | None) -> None:
    for who, error in enumerate(errors):
        if error is not None:
            shown = own if own is not None and who == rank() else error  # with its traceback
            shown.args = (f"process {who} of {world_size()}: {error}",) if who else shown.args
            shown.of_all = True  # type: ignore[attr-defined]
            raise shown


def all_gather(value: V) -> list[V]:
    """The values of all processes, in order."""
    if not _together():
        return [value]
    from torch import distributed

    held: list[Any] = [None] * world_size()
    distributed.all_gather_object(held, value)
    return held


def rank_slice(total: int) -> slice:
    """This process's part of `total` things, which the number of processes divides."""
    each = total // world_size()
    return slice(rank() * each, (rank() + 1) * each)


def broadcast_state(state: Mapping[str, Any]) -> None:
    """Copy the first process's tensors into those of the others, in place."""
    if world_size() > 1:
        from torch import distributed

        for tensor in state.values():
            distributed.broadcast(tensor, 0)
