"""A published file under SNNKD_DATA: as it stands there, from a copy that the user has, or downloaded; always verified."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from snnkd.console import Console
from snnkd.data.download.archives import BLOCK, Archive, Way, checksum, new_digest, verified
from snnkd.data.download.http import download
from snnkd.errors import FileError
from snnkd.files import from_os_error, replacing
from snnkd.locks import dataset_lock


def fetch(archive: Archive, folder: Path, way: Way, console: Console) -> Path:
    """`folder`/`archive.name` with the published checksum; one that is damaged is replaced.

    Raises FileError (offline, wrong bytes, a source that lacks it: with the remedy), RunError when the disk is full,
    UsageError for a mirror that is no URL.
    """
    path = folder / archive.name
    if verified(path, archive):
        return path
    with dataset_lock(folder, archive.name, way.stop, console):
        if verified(path, archive):  # another process has fetched it meanwhile
            return path
        if path.exists():
            console.log(f"{path} is damaged: {_compared(path, archive)}; it will be replaced")
        if way.source is not None:
            _copy(find([archive], way.source)[archive], path, archive, way)
        else:
            download(archive, path, way, console)
    return path


def fetch_all(archives: Sequence[Archive], folder: Path, way: Way, console: Console) -> list[Path]:
    """`fetch` each; a source that lacks one of them is refused before the first is copied."""
    if way.source is not None:
        find([archive for archive in archives if not verified(folder / archive.name, archive)], way.source)
    return [fetch(archive, folder, way, console) for archive in archives]


def find(archives: Sequence[Archive], source: Path) -> dict[Archive, Path]:
    """Where under `source` each of `archives` lies. A file is recognised by its checksum, whatever its name.

    In a folder the files are looked for by name, in it and in the folders below. Raises FileError that names what is
    missing or has other bytes.
    """
    found: dict[Archive, Path] = {}
    if not source.exists():
        raise FileError(f"--from {source}: no such file or directory")
    for archive in archives:
        candidates = [source] if source.is_file() else _named(source, archive.name)
        match = next((path for path in candidates if verified(path, archive)), None)
        if match is not None:
            found[archive] = match
        elif source.is_dir():
            raise FileError(f"--from {source}: {_why_not(candidates, archive)}")
    if len(found) < len(archives):
        missing = [archive for archive in archives if archive not in found]
        if found:
            raise FileError(
                f"--from {source}: is {next(iter(found)).name} alone; name the folder that also holds {_names(missing)}"
            )
        wanted = "; ".join(f"{archive.name} has {archive.checksum}" for archive in missing)
        raise FileError(
            f"--from {source}: has {_sum(source, missing[0])}, but {wanted}; it is damaged or another file"
        )
    return found


def _named(folder: Path, name: str) -> list[Path]:
    try:
        direct = [folder / name] if (folder / name).is_file() else []
        return direct or sorted(path for path in folder.rglob(name) if path.is_file())
    except OSError as error:
        raise from_os_error(error, folder) from error


def _why_not(candidates: Sequence[Path], archive: Archive) -> str:
    if not candidates:
        return f"holds no {archive.name}"
    return f"{candidates[0]} is damaged: {_compared(candidates[0], archive)}"


def _compared(path: Path, archive: Archive) -> str:
    return f"it has {_sum(path, archive)}, published is {archive.checksum}"


def _sum(path: Path, archive: Archive) -> str:
    try:
        return f"{checksum(path, archive)} ({path.stat().st_size:,} bytes)"
    except OSError as error:
        raise from_os_error(error, path) from error


def _names(archives: Iterable[Archive]) -> str:
    return ", ".join(archive.name for archive in archives)


def _copy(source: Path, path: Path, archive: Archive, way: Way) -> None:
    """A copy, not a link: the user may change or remove theirs. What is copied is what is verified."""
    digest = new_digest(archive)
    try:
        with source.open("rb") as original, replacing(path) as file:
            while block := original.read(BLOCK):
                way.stop(f"while copying {source}")
                file.write(block)
                digest.update(block)
            if digest.hexdigest() not in (archive.sha256, archive.md5):
                raise FileError(f"{source}: changed while it was copied; nothing was kept")
    except OSError as error:
        raise from_os_error(error, error.filename or path) from error
