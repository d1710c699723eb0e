"""Files that a data set consists of: where they come from, and the checksums that say whether they are whole."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from snnkd.errors import FileError, UsageError
from snnkd.files import from_os_error

BLOCK = 2**20
"""Bytes read at a time."""


def _never(where: str) -> None:
    """Nobody asks to stop."""


@dataclass(frozen=True)
class Archive:
    """One file as its makers publish it. At least one checksum is known; `size` is in bytes."""

    name: str
    """File name, under the folder where it is kept."""
    url: str
    size: int | None = None
    md5: str | None = None
    sha256: str | None = None
    also: tuple[str, ...] = ()
    """Further URLs of the same file."""
    items: int | None = None
    """How many images or labels it holds, where its format says so."""

    @property
    def checksum(self) -> str:
        """The strongest checksum, with its name."""
        return f"sha256 {self.sha256}" if self.sha256 else f"md5 {self.md5}"


@dataclass(frozen=True)
class Way:
    """How files that are not here come here."""

    source: Path | None = None
    """`--from`: a file, or a folder that holds the files; then nothing is downloaded."""
    mirror: str | None = None
    """`--mirror`: a URL to take the place of the published ones; see `urls`."""
    data: str = "NAME"
    """The data set, for remedies."""
    stop: Callable[[str], None] = _never
    """Raises Preempted or Interrupted when asked to stop; is called with where the work is."""


def new_digest(archive: Archive) -> hashlib._Hash:
    """For the strongest checksum that is known of `archive`."""
    return hashlib.sha256() if archive.sha256 else hashlib.md5(usedforsecurity=False)


def checksum(path: Path, archive: Archive) -> str:
    """Of a file, the checksum of the kind that is known of `archive`, with its name. Raises OSError."""
    digest = new_digest(archive)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return f"{'sha256' if archive.sha256 else 'md5'} {digest.hexdigest()}"


def verified(path: Path, archive: Archive) -> bool:
    """Whether the file is there and is what was published. Raises FileError when it is there and cannot be read."""
    try:
        if archive.size is not None and path.stat().st_size != archive.size:
            return False
        return checksum(path, archive) == archive.checksum
    except FileNotFoundError:
        return False
    except OSError as error:
        raise from_os_error(error, path) from error


def urls(archive: Archive, mirror: str | None) -> list[str]:
    """Where to ask for the file, in order. A mirror is the file's own URL, or that of the folder that holds it.

    Raises UsageError for a mirror that is no http or https URL.
    """
    if mirror is None:
        return [archive.url, *archive.also]
    check_mirror(mirror)
    last = urlsplit(mirror).path.rpartition("/")[2]
    if last == archive.name or (Path(last).suffix and Path(last).suffix == Path(archive.name).suffix):
        return [mirror]
    return [f"{mirror.rstrip('/')}/{archive.name}"]


def check_mirror(mirror: str | None) -> None:
    """Raise UsageError for what is no http or https URL."""
    try:
        parts = urlsplit("http://none" if mirror is None else mirror)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # a port that is no number, brackets that do not close
        fits = False
    if not fits or (mirror is not None and re.search(r"[\x00-\x20\x7f-\uffff]", mirror)):
        raise UsageError(f"--mirror {mirror!r} is not a URL that begins with http:// or https://")


class NotReady(FileError):
    """The data are here, but were not unpacked; `nominal` says what they will be: classes, shape, training images."""

    def __init__(self, said: str, nominal: tuple[int, tuple[int, int, int], int] | None = None) -> None:
        super().__init__(said)
        self.nominal = nominal
