"""Commands under torchrun, as the fixture `torchrun` hands them out."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults.forks import Forks, alive

SMALL = ["--set", "data.classes=4", "--set", "data.train_images=24", "--set", "data.test_images=18", "--set", "data.size=8",
         "--batch-size", "24", "--set", "model.width=2"]  # fmt: skip
"""One step an epoch."""
HANDLED = ["--signals-to-handle", "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"]


@dataclass
class Ended:
    """What a job left: the launcher's exit status, and what all of its processes said."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> list[str]:
        """The lines of errors; torchrun's own report is not among them."""
        return [line for line in self.err.splitlines() if line.startswith("snnkd: ")]

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Jobs:
    """`run(folder, words)` carries out a command in `count` processes, 2 by default; with 1, without
    torchrun."""

    def __init__(self, data: Path) -> None:
        self._data = str(data)
        self._forks = Forks(Path(__file__).with_name("launcher.py"))

    def start(self, folder: Path, words: list[str], count: int = 2, **request: Any) -> int:
        """The launcher's pid."""
        return self._forks.start(folder, words, count=count, data=self._data, **request)

    def finish(self, folder: Path) -> Ended:
        code = self._forks.wait()
        assert none_left(folder), "a worker outlives the job"
        return Ended(code, (folder / "out").read_text(), (folder / "err").read_text())

    def run(self, folder: Path, words: list[str], count: int = 2, **request: Any) -> Ended:
        self.start(folder, words, count, **request)
        return self.finish(folder)

    def done(self, folder: Path, words: list[str], count: int = 2, **request: Any) -> Ended:
        """`run` of what has to succeed."""
        ended = self.run(folder, words, count, **request)
        assert ended.code == 0, ended.err
        return ended

    def close(self) -> None:
        self._forks.close()


def workers(folder: Path) -> list[int]:
    """The pids of a job's workers."""
    path = folder / "workers"
    return [int(word) for word in path.read_text().split()] if path.exists() else []


def none_left(folder: Path) -> bool:
    """Whether all workers end; waits for that as long as a slow machine may need."""
    for _ in range(600):
        if not any(map(alive, workers(folder))):
            return True
        time.sleep(0.1)
    return False
