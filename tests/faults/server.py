"""Runs console commands in children forked after the imports, with a fault at a chosen file operation.

Reads one JSON request a line: words, folder, stop_at, act (kill, full, read-only or none), only, log, phase.
Answers
with the child's pid when it runs, and with its exit status when it has ended.
"""

from __future__ import annotations

import errno
import gc
import json
import mmap
import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(1, str(Path(__file__).parents[1]))
import torch._dynamo  # noqa: F401 - the optimizer imports it, which takes longer than all the rest of a small run
from dot import write_dot
from shim import Shim, kill

from snnkd import evaluation, stage  # everything a command imports, so that children start at once
from snnkd.cli import main
from snnkd.exports import safetensors
from snnkd.losses import objective  # noqa: F401
from snnkd.models.activation import LIF
from snnkd.schema.neuron import NeuronConfig
from snnkd.training import train_state

LIF(NeuronConfig())
stage.plot_curves = write_dot


PHASES = ("preparing", "training", "saving", "measuring")


def _fail(number: int) -> Any:
    def act(operation: str, path: str) -> None:
        raise OSError(number, os.strerror(number), path)

    return act


ACTS = {"kill": kill, "full": _fail(errno.ENOSPC), "read-only": _fail(errno.EROFS)}


def _tell_phases(path: str) -> None:
    """Keep one byte of a shared file at the number of the phase that the command is in."""
    with open(path, "r+b") as file:
        shown = mmap.mmap(file.fileno(), 1)

    def in_phase(number: int, honest: Any) -> Any:
        def call(*words: Any, **named: Any) -> Any:
            before = shown[0]
            shown[0] = number
            try:
                return honest(*words, **named)
            finally:
                shown[0] = before

        return call

    shown[0] = 0
    stage.train = in_phase(1, stage.train)
    train_state.save_state = in_phase(2, train_state.save_state)
    stage.save_network = in_phase(2, stage.save_network)
    stage.write_json = in_phase(2, stage.write_json)
    safetensors.save_network = in_phase(2, safetensors.save_network)
    stage.measure_network = in_phase(3, stage.measure_network)
    evaluation.measure_network = in_phase(3, evaluation.measure_network)


def child(request: dict[str, Any]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["folder"])
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.environ["SNNKD_DATA"] = "data"
    sys.argv = ["snnkd", *request["words"]]
    if request.get("phase"):
        _tell_phases(request["phase"])
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if request.get("log") else None
    with Shim(request.get("stop_at", 0), ACTS[request.get("act", "kill")], log, request.get("only", "")):
        main()


if __name__ == "__main__":
    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            try:
                child(request)
            except SystemExit as ended:
                os._exit(int(ended.code or 0))
            except BaseException as error:
                print(f"the harness failed: {error!r}", file=sys.stderr, flush=True)
                os._exit(99)
            os._exit(0)
        print(json.dumps({"pid": pid}), flush=True)
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"status": os.waitstatus_to_exitcode(status)}), flush=True)
