"""The first process of a machine of machines.py: it mounts what commands need, and runs those that arrive.

    python guest.py NAME DEVICE=ADDRESS ...

Requests and answers are lines of JSON on the first serial line. The machine ends with the connection.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import tty
from typing import IO, Any

MODULES = "/run/modules/lib/modules"
WRITABLE = ("/run", "/mnt", "/var/lib/nfs")
"""Folders of the machine's memory; all else is the host's, which it cannot change."""
_answering = threading.Lock()


def call(*words: str) -> None:
    subprocess.run(words, check=True)


def prepare(name: str, addresses: list[str]) -> None:
    os.environ |= {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/run", "TMPDIR": "/run"}
    call("mount", "-t", "proc", "proc", "/proc")
    call("mount", "-t", "sysfs", "sysfs", "/sys")
    for folder in WRITABLE:
        call("mount", "-t", "tmpfs", "tmpfs", folder)
    os.mkdir("/dev/shm")
    call("mount", "-t", "tmpfs", "tmpfs", "/dev/shm")
    os.makedirs(os.path.dirname(MODULES))
    os.symlink("/usr/lib/uml/modules", MODULES)
    for module in ("nfsd", "nfsv4", "nfsv3"):
        call("modprobe", "-d", "/run/modules", module)
    call("hostname", name)
    call("ip", "link", "set", "lo", "up")
    for each in addresses:
        device, _, address = each.partition("=")
        call("ip", "addr", "add", address, "dev", device)
        call("ip", "link", "set", device, "up")


def answer(line: IO[bytes], request: dict[str, Any]) -> None:
    """Run a request's script and send its exit code and what it printed."""
    done = subprocess.run(
        ["bash", "-uc", request["script"]], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    texts = {"out": done.stdout.decode(errors="replace"), "err": done.stderr.decode(errors="replace")}
    with _answering:
        line.write(
            json.dumps({"number": request["number"], "code": done.returncode} | texts).encode() + b"\n"
        )
        line.flush()


def main() -> None:
    devices = [word for word in sys.argv[2:] if word.startswith("vec")]  # the kernel adds words of its own
    prepare(sys.argv[1], devices)
    descriptor = os.open("/dev/ttyS0", os.O_RDWR | os.O_NOCTTY)
    tty.setraw(descriptor)
    with os.fdopen(descriptor, "r+b", buffering=0) as serial, os.fdopen(os.dup(descriptor), "wb") as line:
        line.write(b"{}\n")  # ready
        line.flush()
        pending = b""
        while block := serial.read(4096):
            *requests, pending = (pending + block).split(b"\n")
            for request in requests:
                threading.Thread(target=answer, args=(line, json.loads(request)), daemon=True).start()
    call("busybox", "poweroff", "-f")


main()
