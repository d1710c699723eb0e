"""Write files atomically, and read them with one-line errors."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import math
import os
import re
import shlex
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from snnkd.errors import FileError, RunError, SnnkdError

if TYPE_CHECKING:
    from numpy.lib.npyio import NpzFile

MAX_COMPRESSION_RATIO = 200
"""Images compress about 10:1, deflated zeros about 1000:1."""
ALWAYS_READABLE = 2**26
"""Bytes that an array may have at any compression ratio."""


_guards: list[tuple[Path, Callable[[], None]]] = []
"""Locked folders, each with what raises FileError when it is no longer the one that was locked."""


@contextlib.contextmanager
def guarding(folder: Path, check: Callable[[], None]) -> Iterator[None]:
    """Inside, call `check` before every write in `folder`."""
    guard = (folder.absolute(), check)
    _guards.append(guard)
    try:
        yield
    finally:
        _guards.remove(guard)


def check_guard(path: Path) -> None:
    """Call the check of the locked folder that `path` is in, if there is one; to be called before a write."""
    for folder, check in list(_guards):  # threads of one process may lock, too
        if path.absolute().is_relative_to(folder):
            check()


WEIGHTS = "model.safetensors"
CONFIG = "config.json"
"""The files of a run or an export that hold its network."""
RUN = "run.json"
"""Identity, reproducibility and command of a run; its presence marks the run as started."""


def continue_command(folder: Path) -> str | None:
    """The command that began the run and continues it, where it was started; None where none is recorded."""
    try:
        command = read_json(folder / RUN).get("command")
        words = shlex.split(command) if isinstance(command, str) else []
    except (FileError, ValueError):
        return None
    command, origin = shlex.join(word for word in words if word != "--fresh"), origin_of(folder)
    if not command or origin is None or origin == Path.cwd():
        return command or None
    return f"cd {shlex.quote(str(origin))} && {command}"


def current_origin(run: Path) -> str:
    """The current folder as a run records it: relative to a run below it, which moves along with it."""
    here, folder = Path.cwd().resolve(), run.resolve()
    return os.path.relpath(here, folder) if folder.is_relative_to(here) else str(here)


def origin_of(path: Path) -> Path | None:
    """The folder that a run was started in; `path` is the run, an export in it, or a file in one of these.

    None for what is no run, or does not record it.
    """
    path = path.resolve()
    for folder in (path, *path.parents[:3]):
        if (folder / RUN).is_file():
            try:
                origin = read_json(folder / RUN).get("origin")
            except FileError:  # the run itself will be refused, if it is used
                return None
            return (folder / origin).resolve() if isinstance(origin, str) and origin.isprintable() else None
    return None


def find_network(path: Path) -> tuple[Path, Path]:
    """The folder of a run or an export, or of a .safetensors file in one, and the file of weights.

    Raises FileError for a path that is none of these.
    """
    is_file = path.suffix == ".safetensors" and path.is_file()
    folder, weights = (path.parent, path) if is_file else (path, path / WEIGHTS)
    if not folder.is_dir():
        raise FileError(f"{folder}: no such folder; pass a finished run or an export")
    if not (folder / CONFIG).exists() and (folder / RUN).exists():
        command = continue_command(folder)
        remedy = f"continue it with `{command}`" if command else "what began it continues it"
        raise FileError(f"{folder}: this run is not finished; {remedy}")
    if not (folder / CONFIG).exists():
        raise FileError(f"{folder}: no {CONFIG}; pass a finished run (see `snnkd status`) or an export")
    return folder, weights


def check_pictures(paths: Iterable[Path]) -> None:
    """Raise FileError for a picture or folder that does not exist."""
    for path in paths:
        if not path.exists():
            raise FileError(f"{path}: no such file or folder; give pictures, or folders of them")


def user_path(path: str | Path) -> Path:
    """`path` with a leading `~` replaced by the home folder. Raises FileError where there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise FileError(f"{path}: no home folder is known; set HOME, or write the path without ~") from error


def data_folder() -> Path:
    """Where data sets and their caches are: SNNKD_DATA, by default snnkd/ in the user's cache folder."""
    folder = os.environ.get("SNNKD_DATA")
    return (
        user_path(folder) if folder else user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "snnkd"
    )


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, content: bytes, keep: Path | None = None) -> None:
    """Write `content` to `path` as `replacing` does. Raises OSError; the temporary file is removed then."""
    with replacing(path, keep) as file:
        file.write(content)


@contextlib.contextmanager
def replacing(path: Path, keep: Path | None = None) -> Iterator[IO[bytes]]:
    """A file to write that replaces `path` at the end: temporary file, fsync, rename, fsync of the folder.

    A reader sees the old or the new file, never a part. With `keep`, the old file is renamed to `keep` first;
    a kill between the two renames leaves `keep`, which readers then use. On any error inside, `path` stays
    unchanged and the temporary file is removed.
    """
    check_guard(path)
    sweep(path.parent, path.name)
    descriptor, temporary = _locked_temporary(path)
    try:
        with os.fdopen(descriptor, "wb") as file:  # closed last: its lock keeps `sweep` away
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            check_guard(path)  # again: writing took time
            if keep is not None and path.exists():
                os.replace(path, keep)
            os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


LOCK = "lock"
"""The file in a temporary folder that is locked: NFS does not share the locks of folders."""


@contextlib.contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """A folder beside `target`, to write in what will be renamed to `target`; removed at the end."""
    check_guard(target)
    sweep(target.parent, target.name)
    descriptor, folder = _locked_temporary(target, folder=True)
    try:
        yield folder
    finally:
        os.close(descriptor)  # before the removal: NFS keeps an open file in its folder
        shutil.rmtree(folder, ignore_errors=True)


def _locked_temporary(path: Path, folder: bool = False) -> tuple[int, Path]:
    """A new file or folder beside `path`, and the descriptor of its lock, if the file system has locks."""
    prefix, suffix = f".{path.name}.", ".tmp"
    while True:
        if folder:
            name = tempfile.mkdtemp(dir=path.parent, prefix=prefix, suffix=suffix)
            locked = os.path.join(name, LOCK)
            try:
                descriptor = os.open(locked, os.O_RDWR | os.O_CREAT, 0o600)
            except FileNotFoundError:  # `sweep` came before the lock
                continue
        else:
            descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=suffix)
            locked = name
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # waits for a `sweep` that has it
        if os.path.exists(locked):
            return descriptor, Path(name)
        os.close(descriptor)


def remove_tree(folder: Path) -> None:
    """Remove a folder, as far as possible, if the one it is in is still the locked one. Raises FileError."""
    check_guard(folder)
    shutil.rmtree(folder, ignore_errors=True)


def sweep(folder: Path, name: str | None = None) -> None:
    """Remove the temporary files and folders that killed writes of `name`, or of any name, left in `folder`.

    Those of living processes are locked and stay. Where there are no locks, nothing is removed.
    """
    target = re.escape(name) if name else ".+"
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(folder)):
            if re.fullmatch(rf"\.{target}\.[a-z0-9_]{{8}}\.tmp", entry.name):
                _remove_unlocked(entry)


def _remove_unlocked(entry: os.DirEntry[str]) -> None:
    with contextlib.suppress(OSError):
        if not entry.is_dir(follow_symlinks=False):
            with _try_lock(entry.path):
                os.unlink(entry)
            return
        with contextlib.suppress(FileNotFoundError), _try_lock(os.path.join(entry, LOCK)):
            shutil.rmtree(entry, ignore_errors=True)
        os.rmdir(
            entry
        )  # empty: its process was killed before it locked, or NFS kept the open lock until here


@contextlib.contextmanager
def _try_lock(path: str) -> Iterator[None]:
    """Lock a file inside the block. Raises OSError, also where another process has the lock."""
    descriptor = os.open(path, os.O_RDWR)  # NFS locks only for writing
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_bytes(path: Path, limit: int = -1) -> bytes:
    """The bytes of a file, or the first `limit` of them; raises FileError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except OSError as error:
        raise FileError(f"{path}: {reason(error)}") from error


_FOREIGN = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file; run `git lfs pull`"),
    (b"<!doctype html", "an HTML page, not the file; download the file itself"),
    (b"<html", "an HTML page, not the file; download the file itself"),
    (b"<?xml", "an XML page, perhaps a server's error; download the file itself"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"\x89HDF", "an HDF5 file, perhaps of Keras; PyTorch's and safetensors' files are read"),
)
"""First bytes, in lower case, of files mistaken for weights, and what they are."""


def check_content(path: Path, content: bytes) -> None:
    """Raise FileError naming the kind of a file that is empty, a pointer, a web page or an archive."""
    if not content:
        raise FileError(f"{path}: the file is empty; download or save it again")
    start = content[:64].lstrip().lower()
    for first, kind in _FOREIGN:
        if start.startswith(first.lower()):
            raise FileError(f"{path}: {kind}")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; raises FileError when it is missing, not JSON or not an object."""
    try:
        value = parse_json(read_bytes(path))
    except ValueError as error:
        cause = str(error) if type(error) is ValueError else type(error).__name__
        raise FileError(
            f"{path}: not a JSON file ({cause}); it is damaged or was not written by snnkd"
        ) from error
    if not isinstance(value, dict):
        raise FileError(f"{path}: holds a {type(value).__name__}, not a JSON object")
    return value


def parse_json(text: bytes | str) -> Any:
    """A JSON value as written by snnkd. Raises ValueError for anything else, also for NaN, numbers beyond
    float or of more than 19 digits, unpaired surrogates and unbounded nesting."""
    try:
        value = json.loads(
            text, parse_constant=_refuse_number, parse_int=_parse_int, parse_float=_parse_float
        )
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return value


def _refuse_number(text: str) -> Any:
    raise ValueError(f"{text} is not a number")


def _parse_int(text: str) -> int:
    return int(text) if len(text) <= 20 else _refuse_number(text[:20] + "...")


def _parse_float(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse_number(text[:20])


@contextlib.contextmanager
def open_npz(path: Path) -> Iterator[NpzFile]:
    """An npz file, whose arrays are read inside the `with` block; nothing in it is ever unpickled.

    Raises FileError for a file that cannot be read, is damaged, has arrays of Python objects, or would expand
    to far more than its size. What is raised inside the block for the bytes of an array becomes FileError as
    well.
    """
    import numpy as np

    check_content(path, read_bytes(path, 64))
    try:
        # given a path, numpy leaves a damaged file open; it warns of headers written by Python 2, which it
        # can read
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            arrays = np.load(file, allow_pickle=False)
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise FileError(f"{path}: a single array, not an npz file of several")
            check_compression(path, path)
            yield arrays
    except OSError as error:
        raise from_os_error(error, path) from error
    except SnnkdError:
        raise
    except Exception as error:  # numpy, zipfile and zlib fail in many ways on damaged bytes
        raise FileError(
            f"{path}: damaged, or not an npz file of plain arrays ({type(error).__name__})"
        ) from error


def check_compression(path: Path, file: Path | IO[bytes]) -> None:
    """Refuse a zip bomb: a megabyte of deflated zeros is a gigabyte of memory."""
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if member.file_size > max(ALWAYS_READABLE, MAX_COMPRESSION_RATIO * member.compress_size):
                raise FileError(
                    f"{path}: {member.filename} has a compression ratio above {MAX_COMPRESSION_RATIO}:1, "
                    "refused as a possible zip bomb; save it uncompressed"
                )


def from_os_error(error: OSError, where: object) -> FileError | RunError:
    """The error to raise for an OSError at `where`: RunError for a full disk, else FileError."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunError(
            f"{where}: the disk is full; free some space and repeat the command, earlier files are intact"
        )
    return FileError(f"{where}: {reason(error)}")


def reason(error: OSError) -> str:
    """The operating system's reason in lower case, without the errno."""
    return (error.strerror or str(error)).lower()


def sha256(*parts: bytes | memoryview) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def short_hash(text: str) -> str:
    """Six digits of a sha256; another text as it is."""
    return text[:6] if re.fullmatch("[0-9a-f]{64}", text) else text
