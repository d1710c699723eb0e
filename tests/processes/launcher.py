"""torchrun itself, forked after the imports; the workers that it starts are forked likewise, and are its own
children.

Reads one JSON request a line: words, folder, count (processes; 1: without torchrun), options (of torchrun),
frozen
(norms use their running statistics), code (python that the workers run first). Answers with the launcher's
pid when it
runs, and with its exit status when it has ended. The workers' pids stand in FOLDER/workers, their states
after training
in FOLDER/weights-<rank>.pt.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import torch
import torch._dynamo  # the optimizer imports it, which takes longer than all the rest of a small run
from dot import write_dot
from torch import Tensor, nn
from torch.distributed import run
from torch.distributed.elastic.multiprocessing.subprocess_handler import SubprocessHandler
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel  # noqa: F401

from snnkd import distributed, stage  # everything a command imports, so that workers start at once
from snnkd.cli import main
from snnkd.losses import objective  # noqa: F401
from snnkd.models.activation import LIF
from snnkd.schema.neuron import NeuronConfig

LIF(NeuronConfig())
stage.plot_curves = write_dot


class Worker:
    """A process forked ahead, which waits for torchrun's order to begin; as much of a Popen as torchrun
    uses."""

    def __init__(self, request: dict[str, Any]) -> None:
        reading, self._order = os.pipe()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            os.closerange(3, reading)  # the orders to other workers, too: each is read to its end
            os.closerange(reading + 1, 64)
            with os.fdopen(reading) as file:
                order = file.read()
            if not order:
                os._exit(0)
            os.setsid()
            _end_as_python_does(lambda: _work(request, json.loads(order)))
        os.close(reading)

    def begin(self, environment: dict[str, str]) -> Worker:
        with os.fdopen(self._order, "w") as file:
            json.dump(environment, file)
        return self

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float) -> int:
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("worker", timeout)
            time.sleep(0.01)
        assert self.returncode is not None
        return self.returncode


def _end_as_python_does(work: Any) -> None:
    code = 0
    try:
        work()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _work(request: dict[str, Any], environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["snnkd", *request["words"]]
    if request.get("frozen"):
        nn.BatchNorm2d.forward = _with_running_statistics  # type: ignore[method-assign]
    exec(request.get("code", ""), {})
    honest = stage.measure_network

    def tell(loaded: Any, *words: Any) -> Any:
        torch.save(loaded.network.state_dict(), f"weights-{distributed.rank()}.pt")
        return honest(loaded, *words)

    stage.measure_network = tell
    main()


def _with_running_statistics(self: nn.BatchNorm2d, x: Tensor) -> Tensor:
    return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


def _launch(request: dict[str, Any]) -> None:
    os.setsid()
    os.chdir(request["folder"])
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND), number)
    os.environ["SNNKD_DATA"] = request.get("data", "data")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if request["count"] == 1:
        _work(request, dict(os.environ))
    pool = [Worker(request) for _ in range(request["count"])]  # before torchrun has threads
    with open("workers", "w", encoding="utf-8") as file:
        file.write(" ".join(str(worker.pid) for worker in pool))
    waiting = iter(pool)

    def start(handler: SubprocessHandler, words: Any, environment: dict[str, str]) -> Any:
        return next(waiting).begin(environment)

    SubprocessHandler._popen = start  # type: ignore[method-assign]
    sys.argv = ["torchrun"]
    run.main(
        [
            "--standalone",
            "--nproc-per-node",
            str(request["count"]),
            *request.get("options", []),
            "-m",
            "snnkd",
            *request["words"],
        ]
    )


if __name__ == "__main__":
    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _end_as_python_does(lambda: _launch(request))  # noqa: B023
        print(json.dumps({"pid": pid}), flush=True)
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"status": os.waitstatus_to_exitcode(status)}), flush=True)
