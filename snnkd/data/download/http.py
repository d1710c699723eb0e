"""Download one file over HTTP: resumed, retried, and kept only with the published checksum.

Received bytes are appended to NAME.part. NAME.part.json holds the server's validator of the file (ETag or
Last-Modified), sent as If-Range by a later request so that only the same file is continued. However a
download ends, the next attempt resumes it.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO, TypeVar
from urllib.parse import urlsplit

from snnkd.console import Console
from snnkd.data.download.archives import Archive, FetchOptions, checksum, is_intact, urls
from snnkd.errors import FileError
from snnkd.files import check_guard, from_os_error, read_json, sync_folder, write_json

ATTEMPTS = 5
"""Attempts without new bytes before the next URL is tried."""
PAUSE = 1.0
"""Seconds before the second attempt, doubled before each further one."""
STALL = 30.0
"""Seconds without new bytes after which a connection is closed."""
POLL = 0.1
"""Seconds between two checks for a stop request."""
RETRIED = (408, 416, 425, 429, 500, 502, 503, 504)
"""HTTP statuses worth another attempt; 416 after NAME.part, which does not fit the file, is discarded."""
BLOCK = 2**16
MIB = 2**20

Result = TypeVar("Result")


class TransferError(Exception):
    """The file did not arrive, or not completely; `status` is that of an HTTP error."""

    def __init__(self, message: str, retry: bool = False, status: int | None = None) -> None:
        super().__init__(message)
        self.retry, self.status = retry, status


class WrongFileError(Exception):
    """The server has a different file than the published one."""


def download(archive: Archive, path: Path, fetch: FetchOptions, console: Console) -> None:
    """Download `archive` to `path`, which never has other bytes, from the first URL that has it.

    Raises FileError with the reason of each URL, RunError when the disk is full, UsageError for an invalid
    mirror, and what `fetch.stop` raises; received bytes are kept for the next attempt.
    """
    reasons: list[str] = []
    for url in urls(archive, fetch.mirror):
        try:
            _download_from(archive, url, path, fetch.stop, console)
            return
        except (TransferError, WrongFileError) as error:
            reasons.append(f"{urlsplit(url).netloc}: {error}")
        except OSError as error:
            raise from_os_error(error, error.filename or path) from error
    raise FileError(
        f"{archive.name} is not under {path.parent}, and the download failed ({'; '.join(reasons)}); "
        f"use `snnkd data {fetch.data} --from FILE-OR-DIR` or --mirror URL"
    )


def _download_from(
    archive: Archive, url: str, path: Path, stop: Callable[[str], None], console: Console
) -> None:
    part = path.with_name(path.name + ".part")
    if _finish(archive, part, path):  # killed between the last byte and the rename
        return
    failures, largest, repeated = 0, _size(part), False
    console.log(f"downloading {archive.name} from {url}")
    while True:
        try:
            _attempt(archive, url, part, stop, console)
        except TransferError as error:
            failures = 0 if _size(part) > largest else failures + 1
            largest = max(largest, _size(part))
            if not error.retry or failures >= ATTEMPTS:
                raise
            pause = PAUSE * 2 ** max(0, failures - 1)
            console.log(f"{archive.name}: {error}; retrying in {pause:g} s from {_mib(_size(part))} MiB on")
            _sleep(pause, stop, archive)
            continue
        if _finish(archive, part, path):
            return
        mismatch = f"received {checksum(part, archive)} ({_size(part):,} bytes), published {archive.checksum}"
        _discard(part)
        if repeated:
            raise WrongFileError(f"{mismatch}, twice: the server has a different file")
        console.log(f"{archive.name}: {mismatch}; downloading it again")
        repeated, largest = True, 0


def _finish(archive: Archive, part: Path, path: Path) -> bool:
    """Rename `part` to `path` if it is complete."""
    if not is_intact(part, archive):
        return False
    with part.open("rb") as file:
        os.fsync(file.fileno())
    check_guard(path)
    os.replace(part, path)
    _validator_path(part).unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


def _attempt(archive: Archive, url: str, part: Path, stop: Callable[[str], None], console: Console) -> None:
    """Receive from the end of `part` to the end of the file. Raises TransferError when bytes are missing."""
    size, validator = _size(part), _validator(part, url)
    headers = {"User-Agent": "snnkd", "Accept-Encoding": "identity"}
    if size and validator:
        headers |= {"Range": f"bytes={size}-", "If-Range": validator}

    def check() -> None:
        stop(f"while downloading {archive.name}; received bytes are kept")
        check_guard(part)  # another process may write it by now

    request = urllib.request.Request(url, headers=headers)
    try:
        # the socket's own timeout is longer, so that `_wait` reports a stall
        response = _wait(lambda: urllib.request.urlopen(request, timeout=STALL + 1), check)
        partial_content = _is_partial(response, size)
    except TransferError as error:
        if error.status in (206, 416):  # not the requested range: start over
            _discard(part)
        raise
    total = _total(response.headers, size if partial_content else 0)
    if archive.size is not None and total is not None and total != archive.size:
        raise WrongFileError(f"offers {total:,} bytes, {archive.name} has {archive.size:,}")
    with _open_part(part, url, response.headers, partial_content) as file:
        _receive(response, file, archive.size if total is None else total, check, console, archive)


def _is_partial(response: HTTPResponse, size: int) -> bool:
    """Whether the response continues a file of `size` bytes. Raises TransferError for another range."""
    if response.status != 206:
        return False
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if match is None:
        raise TransferError("206 response without a Content-Range header")
    if int(match[1]) != size:
        raise TransferError(f"sent bytes from {int(match[1]):,}, not {size:,}", retry=True, status=206)
    return True


def _open_part(part: Path, url: str, headers: HTTPMessage, append: bool) -> IO[bytes]:
    """`part` for appending, or emptied, with the validator of its new content in NAME.part.json."""
    check_guard(part)
    if append:
        return part.open("ab")
    file = part.open("wb")  # emptied first: the validator must never describe other bytes
    try:
        write_json(_validator_path(part), {"url": url, "validator": _new_validator(headers)})
    except BaseException:
        file.close()
        raise
    return file


def _receive(
    response: HTTPResponse,
    file: IO[bytes],
    total: int | None,
    stop: Callable[[], None],
    console: Console,
    archive: Archive,
) -> None:
    size = file.tell()
    with _Progress(archive.name, size, total, console) as progress:
        while block := _wait(lambda: response.read1(BLOCK), stop):
            file.write(block)
            size += len(block)
            progress.update(size)
            if total is not None and size > total:
                raise WrongFileError(f"sent more than the {total:,} bytes of {archive.name}")
    if total is not None and size < total:
        raise TransferError(f"connection closed after {size:,} of {total:,} bytes", retry=True)


def _wait(call: Callable[[], Result], stop: Callable[[], None]) -> Result:
    """The result of a blocking network `call`, which runs in a daemon thread while this one polls `stop`.

    A name look-up cannot be interrupted, and a read continues after a signal handler returns (PEP 475). An
    abandoned call keeps its connection until it returns. Raises TransferError when it fails or STALL seconds
    have passed.
    """
    results: queue.SimpleQueue[Result | TransferError] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put(call())
        except Exception as error:
            results.put(_transfer_error(error))

    threading.Thread(target=run, daemon=True).start()
    deadline = time.monotonic() + STALL
    while True:
        stop()
        with contextlib.suppress(queue.Empty):
            result = results.get(timeout=POLL)
            if isinstance(result, TransferError):
                raise result
            return result
        if time.monotonic() > deadline:
            raise TransferError(f"no data for {STALL:g} s", retry=True)


def _transfer_error(error: Exception) -> TransferError:
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        reason = str(error.reason).strip()
        return TransferError(
            f"answered {error.code} {reason}".splitlines()[0], error.code in RETRIED, error.code
        )
    if isinstance(error, urllib.error.URLError):  # no connection: an unknown host will stay unknown
        return TransferError(
            _first_line(error.reason), isinstance(error.reason, (TimeoutError, ConnectionResetError))
        )
    return TransferError(_first_line(error), isinstance(error, (OSError, HTTPException)))


def _first_line(error: object) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return (str(text).strip().splitlines() or [type(error).__name__])[0]


def _total(headers: HTTPMessage, start: int) -> int | None:
    """Bytes of the complete file, if the server sends its length."""
    length = headers.get("Content-Length")
    return start + int(length) if length is not None and length.isdecimal() else None


def _new_validator(headers: HTTPMessage) -> str | None:
    """A strong ETag, else Last-Modified."""
    tag = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


def _validator(part: Path, url: str) -> str | None:
    """The stored validator of `part`; None if it is damaged or belongs to another URL."""
    with contextlib.suppress(FileError):
        stored = read_json(_validator_path(part))
        validator = stored.get("validator")
        if stored.get("url") == url and isinstance(validator, str):
            # it becomes a header
            return validator if re.fullmatch(r"[\x20-\x7e]{1,200}", validator) else None
    return None


def _validator_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _discard(part: Path) -> None:
    check_guard(part)
    part.unlink(missing_ok=True)
    _validator_path(part).unlink(missing_ok=True)


def _size(part: Path) -> int:
    try:
        return part.stat().st_size
    except FileNotFoundError:
        return 0


def _sleep(seconds: float, stop: Callable[[str], None], archive: Archive) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        stop(f"while waiting to resume {archive.name}; received bytes are kept")
        time.sleep(min(POLL, left))


def _mib(size: int) -> str:
    return f"{size / MIB:.1f}"


class _Progress:
    """A progress bar in MiB on a terminal; elsewhere a line for each tenth, at most every ten seconds."""

    def __init__(self, name: str, size: int, total: int | None, console: Console) -> None:
        self._name, self._total, self._console = name, total, console
        self._initial, self._started = size, time.monotonic()
        self._last_line, self._last_tenth = self._started, -1
        self._shown = size // MIB
        self._bar = console.bar(f"{name}, MiB", (total or 0) // MIB, self._shown)

    def __enter__(self) -> _Progress:
        self._bar.__enter__()
        return self

    def update(self, size: int) -> None:
        while self._shown < size // MIB:
            self._bar.advance()
            self._shown += 1
        now = time.monotonic()
        tenth = size * 10 // self._total if self._total else size // (16 * MIB)
        if now - self._last_line < 10 or tenth == self._last_tenth or self._console.console.is_terminal:
            return
        self._last_line, self._last_tenth = now, tenth
        of_total = f" of {_mib(self._total)}" if self._total else ""
        rate = (size - self._initial) / MIB / (now - self._started)
        self._console.log(f"{self._name}: {_mib(size)}{of_total} MiB, {rate:.1f} MiB/s")

    def __exit__(self, *error: object) -> None:
        self._bar.__exit__(None, None, None)
