"""Downloading one file over HTTP: resumed, retried, and kept only with the published checksum.

The bytes gather in NAME.part; NAME.part.json holds what the server said of the file (ETag or Last-Modified), by which a
later request makes sure that it continues the same file. Whatever ends the work, the next attempt goes on from there.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable
from http.client import HTTPMessage
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from snnkd.console import Console
from snnkd.data.download.archives import Archive, Way, checksum, urls, verified
from snnkd.data.download.stream import Answer, Broken, Refused, Stream
from snnkd.errors import FileError
from snnkd.files import from_os_error, read_json, sync_folder, write_json

TRIES = 5
"""Attempts without a single new byte before an address is given up."""
PAUSE = 1.0
"""Seconds before the second attempt; twice as long before each further one."""
STALL = 30.0
"""Seconds without a byte after which a connection is given up."""
MIB = 2**20


class _Wrong(Exception):
    """The server has another file than the one that was published."""


def download(archive: Archive, path: Path, way: Way, console: Console) -> None:
    """Bring `archive` from the first address that gives it to `path`; never leaves other bytes there.

    Raises FileError that says what each address answered, RunError when the disk is full, UsageError for a mirror
    that is no URL, and what `way.stop` raises; what has been received is kept for the next attempt.
    """
    said: list[str] = []
    for url in urls(archive, way.mirror):
        try:
            _from_url(archive, url, path, way.stop, console)
            return
        except (Broken, _Wrong) as error:
            said.append(f"{urlsplit(url).netloc}: {error}")
        except OSError as error:
            raise from_os_error(error, error.filename or path) from error
    raise FileError(
        f"{archive.name} is not under {path.parent} and could not be downloaded ({'; '.join(said)}); "
        f"offline, put {archive.name} there or set SNNKD_DATA to a folder that has it; `snnkd data {way.data} --from FILE-OR-DIR` "
        "takes a copy of yours, --mirror URL asks elsewhere"
    )


def _from_url(archive: Archive, url: str, path: Path, stop: Callable[[str], None], console: Console) -> None:
    part = path.with_name(path.name + ".part")
    if _placed(archive, part, path):  # a kill came between its last byte and its name
        return
    tries, farthest, wrong = 0, _size(part), False
    console.log(f"downloading {archive.name} from {url}")
    while True:
        try:
            _attempt(archive, url, part, stop, console)
        except Broken as error:
            tries = 0 if _size(part) > farthest else tries + 1
            farthest = max(farthest, _size(part))
            if not error.worth_retrying or tries >= TRIES:
                raise
            pause = PAUSE * 2 ** max(0, tries - 1)
            console.log(f"{archive.name}: {error}; again in {pause:g} s from {_mib(_size(part))} MiB on")
            _sleep(pause, stop, archive)
            continue
        if _placed(archive, part, path):
            return
        complaint = f"what came ({_size(part):,} bytes) has {checksum(part, archive)}, published is {archive.checksum}"
        _forget(part)
        if wrong:
            raise _Wrong(f"{complaint}; twice, so it has another file")
        console.log(f"{archive.name}: {complaint}; fetching it again from the start")
        wrong, farthest = True, 0


def _placed(archive: Archive, part: Path, path: Path) -> bool:
    """Whether `part` is the whole file, which then gets its name."""
    if not verified(part, archive):
        return False
    with part.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(part, path)
    _validator_path(part).unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


def _attempt(archive: Archive, url: str, part: Path, stop: Callable[[str], None], console: Console) -> None:
    """Receive until the end of the file, from where `part` ends on. Raises Broken when it is not all there."""
    have, validator = _size(part), _validator(part, url)
    headers = {"Range": f"bytes={have}-", "If-Range": validator} if have and validator else {}
    where = f"while downloading {archive.name}; what has come is kept"
    with Stream(url, headers, STALL) as stream:
        try:
            answer = stream.answer(lambda: stop(where))
        except Refused as error:
            if error.code == 416:  # nothing begins there: the file is shorter, or complete
                _forget(part)
                raise Broken("has no such part of the file", worth_retrying=True) from error
            raise
        if answer.partial and answer.start != have:
            _forget(part)
            raise Broken(
                f"answered with the bytes from {answer.start:,} on, asked for {have:,}", worth_retrying=True
            )
        total = _total(answer, have if answer.partial else 0)
        if archive.size is not None and total is not None and total != archive.size:
            raise _Wrong(f"offers {total:,} bytes, {archive.name} has {archive.size:,}")
        total = archive.size if total is None else total
        with _opened(part, url, answer) as file:
            _receive(stream, file, total, lambda: stop(where), console, archive)


def _opened(part: Path, url: str, answer: Answer) -> IO[bytes]:
    """`part`, to append to where the server continues it, else empty, with its validator beside it."""
    if answer.partial:
        return part.open("ab")
    file = part.open("wb")  # empty first: a validator must never stand beside bytes that are not its file's
    try:
        write_json(_validator_path(part), {"url": url, "validator": _of(answer.headers)})
    except BaseException:
        file.close()
        raise
    return file


def _receive(
    stream: Stream,
    file: IO[bytes],
    total: int | None,
    stop: Callable[[], None],
    console: Console,
    archive: Archive,
) -> None:
    have = file.tell()
    progress = _Progress(archive.name, have, total, console)
    with progress:
        while block := stream.read(stop):
            file.write(block)
            have += len(block)
            progress.reach(have)
            if total is not None and have > total:
                raise _Wrong(f"sends more than the {total:,} bytes of {archive.name}")
    if total is not None and have < total:
        raise Broken(f"the connection ended after {have:,} of {total:,} bytes", worth_retrying=True)


def _total(answer: Answer, start: int) -> int | None:
    """Bytes of the whole file, where the server says it."""
    length = answer.headers.get("Content-Length")
    return start + int(length) if length is not None and length.isdecimal() else None


def _of(headers: HTTPMessage) -> str | None:
    """What identifies the file's bytes: a strong ETag, else Last-Modified."""
    tag = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


def _validator_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _validator(part: Path, url: str) -> str | None:
    """Of the file that `part` was begun from, where that was this URL; a damaged note is as good as none."""
    with contextlib.suppress(FileError):
        held = read_json(_validator_path(part))
        validator = held.get("validator")
        # it goes into a header
        if (
            held.get("url") == url
            and isinstance(validator, str)
            and re.fullmatch(r"[\x20-\x7e]{1,200}", validator)
        ):
            return validator
    return None


def _forget(part: Path) -> None:
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
        stop(f"while waiting to go on with {archive.name}; what has come is kept")
        time.sleep(min(0.1, left))


def _mib(size: int) -> str:
    return f"{size / MIB:.1f}"


class _Progress:
    """A bar in MiB on a terminal; elsewhere a line at most every ten seconds and every tenth."""

    def __init__(self, name: str, done: int, total: int | None, console: Console) -> None:
        self._name, self._total, self._console = name, total, console
        self._shown, self._said, self._tenth, self._began = done // MIB, time.monotonic(), -1, done
        self._start = time.monotonic()
        self._bar = console.bar(f"{name}, MiB", (total or 0) // MIB, done // MIB)

    def __enter__(self) -> _Progress:
        self._bar.__enter__()
        return self

    def reach(self, done: int) -> None:
        while self._shown < done // MIB:
            self._bar.advance()
            self._shown += 1
        now = time.monotonic()
        tenth = done * 10 // self._total if self._total else done // (16 * MIB)
        if now - self._said < 10 or tenth == self._tenth or self._console.console.is_terminal:
            return
        self._said, self._tenth = now, tenth
        of = f" of {_mib(self._total)}" if self._total else ""
        rate = (done - self._began) / MIB / (now - self._start)
        self._console.log(f"{self._name}: {_mib(done)}{of} MiB, {rate:.1f} MiB/s")

    def __exit__(self, *error: object) -> None:
        self._bar.__exit__(None, None, None)
