"""A published file under SNNKD_DATA: already there, copied from `--from`, or downloaded; always verified."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from snnkd.console import Console
from snnkd.data.download.archives import BLOCK, Archive, FetchOptions, checksum, is_intact, new_digest
from snnkd.data.download.http import download
from snnkd.errors import FileError
from snnkd.files import from_os_error, replacing
from snnkd.locks import dataset_lock


def fetch_archive(archive: Archive, folder: Path, fetch: FetchOptions, console: Console) -> Path:
    """`folder`/`archive.name` with the published checksum; a damaged file is replaced.

    Raises FileError (offline, wrong bytes, not in `fetch.source`) with the remedy, RunError when the disk is
    full, UsageError for an invalid mirror.
    """
    path = folder / archive.name
    if is_intact(path, archive):
        return path
    with dataset_lock(folder, archive.name, fetch.stop, console):
        if is_intact(path, archive):  # another process fetched it while this one waited
            return path
        if path.exists():
            console.log(f"{path} is damaged ({_mismatch(path, archive)}); replacing it")
        if fetch.source is not None:
            _copy(find_copies([archive], fetch.source)[archive], path, archive, fetch)
        else:
            download(archive, path, fetch, console)
    return path


def fetch_archives(
    archives: Sequence[Archive], folder: Path, fetch: FetchOptions, console: Console
) -> list[Path]:
    """`fetch_archive` for each; when `fetch.source` lacks one of them, nothing is copied."""
    if fetch.source is not None:
        missing = [archive for archive in archives if not is_intact(folder / archive.name, archive)]
        find_copies(missing, fetch.source)
    return [fetch_archive(archive, folder, fetch, console) for archive in archives]


def find_copies(archives: Sequence[Archive], source: Path) -> dict[Archive, Path]:
    """The user's copy of each archive in `source`: one file of any name, or a folder, searched by file name.

    Raises FileError that names what is missing or has a different checksum.
    """
    if not source.exists():
        raise FileError(f"--from {source}: no such file or directory")
    copies: dict[Archive, Path] = {}
    for archive in archives:
        candidates = [source] if source.is_file() else _find_by_name(source, archive.name)
        match = next((path for path in candidates if is_intact(path, archive)), None)
        if match is not None:
            copies[archive] = match
        elif source.is_dir():
            raise FileError(
                f"--from {source}: {candidates[0]} is damaged ({_mismatch(candidates[0], archive)})"
                if candidates
                else f"--from {source}: contains no {archive.name}"
            )
    missing = [archive for archive in archives if archive not in copies]
    if missing and copies:
        names = ", ".join(archive.name for archive in missing)
        raise FileError(
            f"--from {source}: only {next(iter(copies)).name}; give a folder that also contains {names}"
        )
    if missing:
        expected = "; ".join(f"{archive.name} has {archive.checksum}" for archive in missing)
        actual = _checksum_and_size(source, missing[0])
        raise FileError(f"--from {source}: {actual}, but {expected}; damaged or a different file")
    return copies


def _find_by_name(folder: Path, name: str) -> list[Path]:
    try:
        if (folder / name).is_file():
            return [folder / name]
        return sorted(path for path in folder.rglob(name) if path.is_file())
    except OSError as error:
        raise from_os_error(error, folder) from error


def _mismatch(path: Path, archive: Archive) -> str:
    return f"{_checksum_and_size(path, archive)}, published {archive.checksum}"


def _checksum_and_size(path: Path, archive: Archive) -> str:
    try:
        return f"{checksum(path, archive)}, {path.stat().st_size:,} bytes"
    except OSError as error:
        raise from_os_error(error, path) from error


def _copy(source: Path, path: Path, archive: Archive, fetch: FetchOptions) -> None:
    """A copy, not a link: the user may change or remove the original. The copied bytes are verified."""
    digest = new_digest(archive)
    try:
        with source.open("rb") as original, replacing(path) as file:
            while block := original.read(BLOCK):
                fetch.stop(f"while copying {source}")
                file.write(block)
                digest.update(block)
            if digest.hexdigest() not in (archive.sha256, archive.md5):
                raise FileError(f"{source}: changed while it was copied; repeat the command")
    except OSError as error:
        raise from_os_error(error, error.filename or path) from error
