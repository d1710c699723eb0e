"""The processes of one job, as torchrun starts them. Alone, everything here does nothing.

Each works on its share of every batch; the first of them writes. Gradients are averaged by DistributedDataParallel;
what a loss has to see of the whole batch is gathered here.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, TypeVar

from snnkd.errors import Interrupted, RequestError, SnnkdError, Stopped

V = TypeVar("V")
LAUNCHED = "TORCHELASTIC_RUN_ID"
"""torchrun sets it; RANK and WORLD_SIZE alone may be left over from another launcher."""
LOST = re.compile(r"gloo|nccl|connection (?:closed|reset|refused)|broken pipe|socket|store|peer", re.IGNORECASE)
"""In what torch says when another process of the job is gone."""


class PeerLost(Stopped):
    """Another process of this job ended. What went wrong is that process's to say; this one could go on, exit code 75."""


def count() -> int:
    """How many processes this job has; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1")) if LAUNCHED in os.environ else 1


def index() -> int:
    """Which of them this is, from 0."""
    return int(os.environ.get("RANK", "0")) if count() > 1 else 0


def local_index() -> int:
    """Which of those on this machine this is, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0")) if count() > 1 else 0


def is_first() -> bool:
    return index() == 0


def alone(command: str) -> None:
    """Raise RequestError where `command`, which several processes would only repeat, was started by torchrun."""
    if count() > 1:
        raise RequestError(f"{command} runs in one process, torchrun started {count()}; start it without torchrun")


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Be one of the job's processes while inside: collectives work, by gloo on CPUs and nccl on GPUs.

    Raises PeerLost when another process ends in the middle.
    """
    if count() == 1:
        yield
        return
    import torch
    from torch import distributed

    if distributed.is_initialized():  # a verb within a verb
        yield
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    # a process that ends is noticed at once; patience is for one that waits for a run which another job holds
    distributed.init_process_group(backend, timeout=timedelta(hours=2))
    try:
        yield
        distributed.barrier()  # nobody leaves while the first still writes: torchrun would take its end for the job's
    except RuntimeError as error:  # torch has no class of its own for what gloo says
        if isinstance(error, distributed.DistError) or LOST.search(str(error)):
            raise PeerLost("another process of this job ended; the last checkpoint is intact, the same command continues") from error
        raise
    finally:
        distributed.destroy_process_group()


def end_with_the_launcher() -> None:
    """Ask Linux for a SIGTERM when torchrun dies, by whatever: it forwards signals, but not all, and not the one that kills it."""
    if count() > 1 and sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            parent = os.getppid()
            ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
            if os.getppid() != parent:  # it died in between
                os.kill(os.getpid(), signal.SIGTERM)


def speaks(error: BaseException) -> bool:
    """Whether this process is to print `error`: of what all meet alike the first speaks, and of a lost one nobody but that one."""
    if is_first():
        return True
    return not isinstance(error, (RequestError, Stopped, Interrupted)) and not hasattr(error, "of_first")


def agree(asked: bool) -> bool:
    """Whether any of the processes was asked. The answer is the same in all, and no GPU is waited for."""
    if count() == 1:
        return asked
    import torch
    from torch import distributed

    votes = torch.tensor([int(asked)])
    distributed.all_reduce(votes, distributed.ReduceOp.MAX)
    return bool(votes.item())


def of_first(make: Callable[[], V]) -> V:
    """What `make` gives in the first process, in all of them; it is called there only, and its SnnkdError raised in all."""
    if count() == 1:
        return make()
    from torch import distributed

    held: list[Any] = [None, None]
    if is_first():
        try:
            held[0] = make()
        except SnnkdError as error:
            held[1] = error
    distributed.broadcast_object_list(held)
    if held[1] is not None:
        held[1].of_first = True
        raise held[1]
    return held[0]


def meet() -> None:
    """Wait until all processes are here."""
    everyone(None)


def everyone(value: V) -> list[V]:
    """The values of all processes, in order."""
    if count() == 1:
        return [value]
    from torch import distributed

    held: list[Any] = [None] * count()
    distributed.all_gather_object(held, value)
    return held


def share(total: int) -> slice:
    """This process's part of `total` things, which the number of processes divides."""
    each = total // count()
    return slice(index() * each, (index() + 1) * each)


def same_state(state: Mapping[str, Any]) -> None:
    """Copy the first process's tensors into those of the others, in place."""
    if count() > 1:
        from torch import distributed

        for tensor in state.values():
            distributed.broadcast(tensor, 0)
