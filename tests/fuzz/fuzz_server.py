"""Run as a program: commands of snnkd, one after the other, in a process that has everything imported
already.

One JSON request a line on stdin, one JSON answer a line on stdout. The commands have streams as real ones
have them; the process has a
limit on its address space, and dies when a command takes too long. So nothing of this touches the process
that pytest runs in.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import Any


def pages(column: int) -> int:
    """Bytes of this process: 0 is the address space, 1 what is resident."""
    return int(Path("/proc/self/statm").read_text().split()[column]) * resource.getpagesize()


def be_the_command(request: dict[str, Any]) -> int:
    from snnkd.cli import main

    for number, name in ((1, "out"), (2, "err")):
        opened = os.open(request[name], os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    # the encodings of a terminal in UTF-8: strict on stdout
    sys.stdout = open(1, "w", encoding="utf-8", errors="strict", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.chdir(request["cwd"])
    sys.argv = ["snnkd", *request["words"]]
    signal.alarm(request["seconds"])
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
        return 99
    finally:
        signal.alarm(0)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(ValueError, OSError):
                stream.close()
        gc.collect()


def import_all() -> None:
    """What every command would import, and what the first call of each library sets up."""
    import torch
    from spikingjelly.activation_based import functional  # noqa: F401

    import snnkd.data.sets.npz
    import snnkd.models.resnet
    import snnkd.pipeline
    import snnkd.preflight
    from snnkd.schema.model import ResNetConfig
    from snnkd.schema.neuron import NeuronConfig

    specification = snnkd.models.Specification(
        model=ResNetConfig(name="resnet8", width=2, T=2), neuron=NeuronConfig(), classes=3, shape=(1, 8, 8)
    )
    with torch.inference_mode():
        snnkd.models.build_network(specification)(torch.zeros(2, 1, 8, 8))


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def serve(space: int) -> None:
    import_all()
    gc.freeze()  # so that collecting after each command takes no time
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    held = pages(0) + space
    resource.setrlimit(resource.RLIMIT_AS, (held, held))
    before = peak()
    for line in sys.stdin:
        code = be_the_command(json.loads(line))
        answers.write(json.dumps({"code": code, "growth": peak() - before}) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
