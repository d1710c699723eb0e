"""A shim over the file calls: counts them, stops at a chosen one, and knows what a power cut would lose.

Every write, flush to disk (fsync), rename, removal and creation is a point where a fault may strike. What is
not yet
on the disk by POSIX' promises, the contents of a file before its fsync, a name before the fsync of its
folder, is lost
by a power cut (`lose`), though a killed process would have left it.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


class PowerCut(BaseException):
    """The machine is off; nothing that runs after this can change a file."""


def kill(operation: str, path: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Shim:
    """Patches the file calls of this process while it is entered; `act` strikes at operation number `stop_at`
    (from 1)."""

    def __init__(
        self, stop_at: int = 0, act: Callable[[str, str], None] = kill, log: int | None = None, only: str = ""
    ) -> None:
        self.operations: list[tuple[str, str]] = []
        self._stop_at, self._act, self._log, self._only = stop_at, act, log, only
        self._dead = False
        self._dirty: dict[int, int] = {}
        """Bytes on the disk of files that hold more than that, by inode."""
        self._names: list[tuple[str, Path, Path, Path | None]] = []
        """Changes of names that are not on the disk, in order: kind, folder, path, what stood there."""
        self._safe = Path(tempfile.mkdtemp(prefix="safe-"))
        self._honest: dict[tuple[Any, str], Any] = {}

    # entering and leaving

    def __enter__(self) -> Shim:
        for owner, name in ((os, "fsync"), (os, "replace"), (os, "rename"), (os, "unlink"), (os, "mkdir"), (os, "fdopen"),
                            (tempfile, "mkstemp"), (io, "open")):  # fmt: skip
            self._honest[owner, name] = getattr(owner, name)
            setattr(owner, name, getattr(self, f"_{name}"))
        return self

    def __exit__(self, *_: object) -> None:
        for (owner, name), honest in self._honest.items():
            setattr(owner, name, honest)

    def _reach(self, operation: str, path: object) -> bool:
        """Count one operation; True when it is the one to be struck (and `act` returned)."""
        if self._dead:
            raise PowerCut
        if self._only and self._only not in str(path):
            return False
        self.operations.append((operation, str(path)))
        if self._log is not None:
            os.write(self._log, f"{operation} {path}\n".encode())
        if len(self.operations) != self._stop_at:
            return False
        if operation != "write":  # a write is struck in its middle
            self._strike(operation, str(path))
        return True

    def _strike(self, operation: str, path: str) -> None:
        try:
            self._act(operation, path)
        except PowerCut:
            self._dead = True
            raise

    # the calls

    def _fsync(self, descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        self._reach("fsync", path)
        self._honest[os, "fsync"](descriptor)
        if path.is_dir():
            self._names = [change for change in self._names if change[1] != path]
        else:
            self._dirty.pop(os.fstat(descriptor).st_ino, None)

    def _replace(self, source: Any, target: Any) -> None:
        self._move("replace", Path(source), Path(target))

    def _rename(self, source: Any, target: Any, **_: Any) -> None:
        self._move("rename", Path(source), Path(target))

    def _move(self, operation: str, source: Path, target: Path) -> None:
        self._reach(operation, target)
        stood = self._keep(target)
        self._honest[os, operation](source, target)
        self._names.append(("moved", target.parent.absolute(), target.absolute(), stood))
        self._names.append(("gone", source.parent.absolute(), source.absolute(), target.absolute()))

    def _unlink(self, path: Any, **options: Any) -> None:
        self._reach("unlink", path)
        stood = None if options else self._keep(Path(path))
        self._honest[os, "unlink"](path, **options)
        if not options:
            self._names.append(("removed", Path(path).parent.absolute(), Path(path).absolute(), stood))

    def _mkdir(self, path: Any, *rest: Any, **options: Any) -> None:
        self._reach("mkdir", path)
        self._honest[os, "mkdir"](path, *rest, **options)

    def _mkstemp(
        self, suffix: Any = None, prefix: Any = None, dir: Any = None, text: bool = False
    ) -> tuple[int, str]:
        self._reach("create", Path(dir or ".") / str(prefix or ""))
        descriptor, name = self._honest[tempfile, "mkstemp"](suffix, prefix, dir, text)
        self._dirty[os.fstat(descriptor).st_ino] = 0
        self._names.append(("made", Path(name).parent.absolute(), Path(name).absolute(), None))
        return descriptor, name

    def _fdopen(self, descriptor: int, *rest: Any, **options: Any) -> Any:
        return self._watched(self._honest[os, "fdopen"](descriptor, *rest, **options))

    def _open(self, file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        writes = any(letter in mode for letter in "wax+")
        if not writes or not isinstance(file, (str, Path)) or str(file).startswith("/dev/"):
            return self._honest[io, "open"](file, mode, *rest, **options)
        path = Path(file)
        if not path.exists():
            self._reach("create", path)
            self._names.append(("made", path.parent.absolute(), path.absolute(), None))
        return self._watched(self._honest[io, "open"](file, mode, *rest, **options))

    def _watched(self, file: Any) -> Any:
        return _Watched(self, file) if file.writable() else file

    def written(self, file: Any, content: Any) -> int:
        """One write: struck, it leaves half of its content."""
        path = os.readlink(f"/proc/self/fd/{file.fileno()}")
        about = os.fstat(file.fileno())
        self._dirty.setdefault(about.st_ino, about.st_size)
        if self._reach("write", path):
            file.write(content[: len(content) // 2])
            file.flush()
            self._strike("write", path)
        count: int = file.write(content)
        return count

    def _keep(self, path: Path) -> Path | None:
        """A second name for what stands at `path`, so that a lost rename can be undone."""
        if not path.is_file():
            return None
        kept = self._safe / str(len(list(self._safe.iterdir())))
        shutil.copy2(path, kept) if path.stat().st_dev != self._safe.stat().st_dev else os.link(path, kept)
        return kept

    # what the cut takes away

    def lose(self, what: str) -> None:
        """Bring the disk to what it may hold after a power cut now: `names` or `contents` that were not
        synced are lost."""
        if what == "contents":
            for folder in {change[1] for change in self._names} | {Path.cwd()}:
                for path in folder.rglob("*") if folder.is_dir() else ():
                    if path.is_file() and path.stat().st_ino in self._dirty:
                        os.truncate(path, self._dirty[path.stat().st_ino])
            return
        for kind, _, path, other in reversed(self._names):
            if kind == "gone" and other is not None and other.exists():
                os.link(other, path)
            elif kind == "moved":
                path.unlink(missing_ok=True)
                if other is not None:
                    shutil.copy2(other, path)
            elif kind == "made":
                path.unlink(missing_ok=True)
            elif kind == "removed" and other is not None:
                shutil.copy2(other, path)


class _Watched:
    """A file whose writes the shim counts."""

    def __init__(self, shim: Shim, file: Any) -> None:
        self._shim, self._file = shim, file

    def write(self, content: Any) -> int:
        return self._shim.written(self._file, content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Any:
        return iter(self._file)
