"""Machines with a kernel of their own, which are processes of user-mode Linux, and shared folders by NFS.

They see the host's files, so that python and this checkout are the same; what they write is in their memory.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path

HERE = Path(__file__).parent
MAPS = Path("/proc/sys/vm/max_map_count")
PATIENCE = 900
"""Seconds to wait for a script that takes a minute on an idle machine."""
NEEDED = ("linux.uml", "rpc.nfsd", "mount.nfs", "mkfs.ext4", "modprobe", "gcc")


def missing() -> str | None:
    """Why no machines can be started here, None if they can."""
    if os.geteuid() != 0:
        return "machines with NFS need root"
    lacking = [name for name in NEEDED if shutil.which(name) is None]
    return f"{', '.join(lacking)}: not installed" if lacking else None


@contextlib.contextmanager
def many_pages() -> Iterator[None]:
    """Inside, the host lets a process map a million pages, each by itself, as machines do: PyTorch has 160,000."""
    before = MAPS.read_text()
    MAPS.write_text(str(max(2**20, int(before))))
    try:
        yield
    finally:
        MAPS.write_text(before)


def cable() -> tuple[socket.socket, socket.socket]:
    """The two ends of a network between two machines."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


Done = subprocess.CompletedProcess[str]


class Machine:
    """A machine with one processor, which starts at once.

    `cables` are its network devices, each an end of a cable and its address; `disks` are files.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        cables: Iterable[tuple[socket.socket, str]],
        memory: str = "2G",
        disks: Iterable[Path] = (),
    ) -> None:
        self.name = name
        self._numbers = itertools.count()
        self._waiting: dict[int, Future[Done]] = {}
        self._ready = threading.Event()
        self._serial, inner = socket.socketpair()
        ends = list(cables)
        words = [
            "linux.uml",
            f"mem={memory}",
            "quiet",
            "root=/dev/root",
            "rootfstype=hostfs",
            "rootflags=/",
            "ro",
        ]
        words += ["con=null", "con0=null,fd:1", "ssl=null", f"ssl0=fd:{inner.fileno()}"]
        words += [f"vec{number}:transport=fd,fd={end.fileno()}" for number, (end, _) in enumerate(ends)]
        words += [f"ubd{number}={disk}" for number, disk in enumerate(disks)]
        words += [f"init={sys.executable}", "--", str(HERE / "guest.py"), name]
        words += [f"vec{number}={address}" for number, (_, address) in enumerate(ends)]
        self.console = folder / f"{name}.console"
        environment = {
            "HOME": str(folder),
            "LD_PRELOAD": str(_compile(folder)),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        with self.console.open("w") as console:
            self._process = subprocess.Popen(
                words,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                pass_fds=[inner.fileno(), *(end.fileno() for end, _ in ends)],
                start_new_session=True,
            )
        inner.close()
        threading.Thread(target=self._receive, daemon=True).start()
        while not self._ready.wait(1):
            assert self._process.poll() is None, self.console.read_text()

    def _receive(self) -> None:
        with self._serial.makefile("r") as lines:
            for line in lines:
                answer = json.loads(line)
                if answer:
                    done = Done(self.name, answer["code"], answer["out"], answer["err"])
                    self._waiting.pop(answer["number"]).set_result(done)
                self._ready.set()

    def start(self, script: str) -> Future[Done]:
        """Start a bash script of at most 4000 characters."""
        number = next(self._numbers)
        self._waiting[number] = Future()
        started = self._waiting[number]
        self._serial.sendall(json.dumps({"number": number, "script": script}).encode() + b"\n")
        return started

    def run(self, script: str) -> str:
        """Run a script that must succeed; return what it printed."""
        done = self.start(script).result(PATIENCE)
        assert done.returncode == 0, f"{self.name}: {script}: {done.stdout}{done.stderr}"
        return done.stdout

    def kill(self) -> None:
        """End the machine as a power cut does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._serial.close()


def _compile(folder: Path) -> Path:
    library = folder / "registers.so"
    if not library.exists():
        subprocess.run(["gcc", "-O1", "-shared", "-fPIC", HERE / "registers.c", "-o", library], check=True)
    return library
