"""The forking server, as the fixture `forks` hands it out."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

SERVER = Path(__file__).with_name("server.py")


class Forks:
    """`run(folder, words, ...)` carries out a console command in a child; gives its exit status."""

    def __init__(self, program: Path = SERVER) -> None:
        self._server = subprocess.Popen(
            [sys.executable, str(program)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def start(self, folder: Path, words: list[str], **fault: Any) -> int:
        """The pid of the child."""
        folder.mkdir(parents=True, exist_ok=True)
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps({"folder": str(folder), "words": words, **fault}) + "\n")
        self._server.stdin.flush()
        return self._answer("pid")

    def wait(self) -> int:
        return self._answer("status")

    def _answer(self, key: str) -> int:
        """The next answer of this kind; a test that failed may have left others unread."""
        assert self._server.stdout is not None
        while key not in (made := json.loads(self._server.stdout.readline())):
            pass
        return int(made[key])

    def run(self, folder: Path, words: list[str], **fault: Any) -> int:
        self.start(folder, words, **fault)
        return self.wait()

    def operations(self, folder: Path, words: list[str]) -> list[str]:
        """The file operations of a command that nothing strikes."""
        status = self.run(folder, words, log=str(folder / "operations"))
        assert status == 0, (folder / "err").read_text()
        return (folder / "operations").read_text().splitlines()

    def close(self) -> None:
        self._server.kill()
        self._server.communicate()


def send(pid: int, number: signal.Signals) -> None:
    """Signal a child; nothing where it has just ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def alive(pid: int) -> bool:
    """Whether a child runs; an ended one is a zombie until the server has waited for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # not there, or gone while it was read
        return False
