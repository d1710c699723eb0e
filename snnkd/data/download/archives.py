"""Published files with their checksums, and where to fetch them from."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from snnkd.errors import UsageError
from snnkd.files import from_os_error

BLOCK = 2**20
"""Bytes read at a time."""


@dataclass(frozen=True)
class Archive:
    """A published file. At least one checksum is known; `size` is in bytes."""

    name: str
    """File name inside the folder it is stored in."""
    url: str
    size: int | None = None
    md5: str | None = None
    sha256: str | None = None
    mirrors: tuple[str, ...] = ()
    """Further URLs of the same file."""

    @property
    def checksum(self) -> str:
        """The strongest known checksum, preceded by its name."""
        return f"sha256 {self.sha256}" if self.sha256 else f"md5 {self.md5}"


def _no_stop(where: str) -> None:
    """No-op stop check."""


@dataclass(frozen=True)
class FetchOptions:
    """How missing files are fetched."""

    source: Path | None = None
    """`--from`: a file, or a folder with the files, to copy from; then nothing is downloaded."""
    mirror: str | None = None
    """`--mirror`: a URL used instead of the published ones; see `urls`."""
    data: str = "NAME"
    """Name of the data set, for error messages."""
    stop: Callable[[str], None] = _no_stop
    """Raises Preempted or Interrupted when a stop was requested; its argument says what is interrupted."""


def new_digest(archive: Archive) -> hashlib._Hash:
    """A hash object for the strongest known checksum of `archive`."""
    return hashlib.sha256() if archive.sha256 else hashlib.md5(usedforsecurity=False)


def checksum(path: Path, archive: Archive) -> str:
    """The checksum of a file, of the kind known for `archive`, preceded by its name. Raises OSError."""
    digest = new_digest(archive)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return f"{'sha256' if archive.sha256 else 'md5'} {digest.hexdigest()}"


def is_intact(path: Path, archive: Archive) -> bool:
    """Whether the file has the published bytes. Raises FileError when it exists and cannot be read."""
    try:
        if archive.size is not None and path.stat().st_size != archive.size:
            return False
        return checksum(path, archive) == archive.checksum
    except FileNotFoundError:
        return False
    except OSError as error:
        raise from_os_error(error, path) from error


def urls(archive: Archive, mirror: str | None) -> list[str]:
    """The URLs to try, in order. `mirror` is the URL of the file itself, or of the folder that contains it.

    Raises UsageError for a mirror that is not an http or https URL.
    """
    if mirror is None:
        return [archive.url, *archive.mirrors]
    check_mirror(mirror)
    last = urlsplit(mirror).path.rpartition("/")[2]
    if last == archive.name or (Path(last).suffix and Path(last).suffix == Path(archive.name).suffix):
        return [mirror]
    return [f"{mirror.rstrip('/')}/{archive.name}"]


def check_mirror(mirror: str | None) -> None:
    """Raise UsageError for a `--mirror` that is not an http or https URL; None is accepted."""
    if mirror is None:
        return
    try:
        parts = urlsplit(mirror)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # a port that is not a number, unbalanced brackets
        valid = False
    if not valid or re.search(r"[\x00-\x20\x7f-\uffff]", mirror):
        raise UsageError(f"--mirror {mirror!r} is not a URL starting with http:// or https://")
