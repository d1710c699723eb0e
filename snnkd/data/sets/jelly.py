"""SpikingJelly's event data sets: which there are, and their published files as one npz file of events a sample."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snnkd.console import Console
from snnkd.data.download.archives import Archive, Way
from snnkd.data.download.fetch import fetch_all
from snnkd.data.folder import data_folder
from snnkd.errors import FileError, SnnkdError
from snnkd.files import from_os_error
from snnkd.locks import dataset_lock

EVENTS = "events_np"
"""The folder in which SpikingJelly keeps the events of each sample."""
THREADS = 16
"""That convert files at most, as SpikingJelly has it; no more than there are CPUs."""


@dataclass(frozen=True)
class Kind:
    """A data set of `spikingjelly.datasets`: its module, its class, its names of the classes."""

    module: str
    name: str
    classes: tuple[str, ...]
    samples: int
    """Published."""
    split: bool
    """Whether it is published as training and test samples."""
    threads: int = THREADS


_DIGITS = tuple(map(str, range(10)))
_THINGS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# a recording of DVS128 Gesture is read into lists of Python's numbers: memory for millions, and threads that wait for each other
KINDS = {
    "n-mnist": Kind("n_mnist", "NMNIST", _DIGITS, 70_000, split=True),
    "cifar10-dvs": Kind("cifar10_dvs", "CIFAR10DVS", _THINGS, 10_000, split=False),
    "dvs128-gesture": Kind("dvs128_gesture", "DVS128Gesture", (*_DIGITS, "10"), 1_464, split=True, threads=2),
}


def jelly(module: str) -> Any:
    """`spikingjelly.datasets.<module>` without its package's own imports.

    Those take in the speech data sets and with them torchaudio, whose newest build does not load beside every torch.
    """
    package = "spikingjelly.datasets"
    if package in sys.modules:
        return importlib.import_module(f"{package}.{module}")
    import spikingjelly

    empty = types.ModuleType(package)
    empty.__path__ = [str(Path(place) / "datasets") for place in spikingjelly.__path__]
    sys.modules[package] = empty
    try:
        return importlib.import_module(f"{package}.{module}")
    finally:
        del sys.modules[package]  # whoever wants all of it gets it


def dataset_class(name: str) -> Any:
    return getattr(jelly(KINDS[name].module), KINDS[name].name)


def archives(name: str) -> list[Archive]:
    """The published files that hold events, with SpikingJelly's checksums."""
    table = dataset_class(name).resource_url_md5()
    return [Archive(file, url, md5=md5) for file, url, md5 in table if file.endswith((".zip", ".tar.gz"))]


def events_root(name: str, way: Way | None) -> Path:
    """Where the events are, or will be: under SNNKD_DATA, or `--from`, where that holds SpikingJelly's events."""
    if way is not None and way.source is not None and (way.source / EVENTS).is_dir():
        return way.source
    return data_folder() / name


def find_events(name: str, console: Console, way: Way | None) -> Path:
    """The folder, laid out as SpikingJelly's `root`, that holds the events of each sample; made from the published files.

    Raises FileError where those are not here, with what to do; with `way` None nothing is fetched or converted.
    """
    root = events_root(name, way)
    if _is_whole(root):
        return root
    if way is None:
        raise FileError(f"{name} is not under {root}; {_remedy(name)}")
    with dataset_lock(root, EVENTS, way.stop, console):
        if not _is_whole(root):  # another process has made it meanwhile
            _convert(name, root, _published(name, root, way, console), console)
    return root


def _is_whole(root: Path) -> bool:
    mark = root / f"{EVENTS}.building"
    if mark.exists():
        raise FileError(
            f"{root}: SpikingJelly was ended while it converted the events; remove {mark.name} and {EVENTS} there"
        )
    return (root / EVENTS).is_dir()


def _remedy(name: str) -> str:
    files = ", ".join(archive.name for archive in archives(name))
    if dataset_class(name).downloadable():
        return f"`snnkd data {name}` downloads it, or `snnkd data {name} --from FOLDER` takes {files}"
    return f"get {files} from {archives(name)[0].url} and run `snnkd data {name} --from FOLDER`"


def _published(name: str, root: Path, way: Way, console: Console) -> list[Path]:
    """The verified archives, under `root`/download as SpikingJelly has them."""
    wanted, folder = archives(name), root / "download"
    by_hand = not dataset_class(name).downloadable() and way.source is None and way.mirror is None
    missing = [archive.name for archive in wanted if not (folder / archive.name).is_file()]
    if by_hand and missing:  # behind a page that only a browser can use
        raise FileError(f"{name}: {', '.join(missing)} not in {folder}; {_remedy(name)}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise from_os_error(error, folder) from error
    return fetch_all(wanted, folder, way, console)


def _convert(name: str, root: Path, files: list[Path], console: Console) -> None:
    """Unpack and convert in a folder of its own, which is renamed when all is done: a kill leaves nothing that looks whole."""
    draft = root / f".{EVENTS}"
    shutil.rmtree(draft, ignore_errors=True)  # of one that was killed
    console.log(f"converting the events of {name}, once: {', '.join(path.name for path in files)}")
    try:
        for part in ("download", "extract", EVENTS):
            (draft / part).mkdir(parents=True)
        for path in files:
            (draft / "download" / path.name).symlink_to(path.resolve())
        kind = dataset_class(name)
        with _threads(KINDS[name].threads):
            kind.extract_downloaded_files(draft / "download", draft / "extract")
            kind.create_raw_from_extracted(draft / "extract", draft / EVENTS)
        os.sync()  # thousands of small files: all at once
        (draft / EVENTS).rename(root / EVENTS)
    except OSError as error:
        raise from_os_error(error, error.filename or root) from error
    except SnnkdError:
        raise
    except Exception as error:  # readers of foreign formats fail in many ways
        said = " ".join(f"{type(error).__name__}: {error}".split())[:150]
        raise FileError(
            f"{', '.join(map(str, files))}: unpacked, a file in it cannot be read as events ({said})"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def _threads(most: int) -> Iterator[None]:
    """Let SpikingJelly use `most` threads."""
    from spikingjelly import configure

    before = configure.max_threads_number_for_datasets_preprocess
    configure.max_threads_number_for_datasets_preprocess = most
    try:
        yield
    finally:
        configure.max_threads_number_for_datasets_preprocess = before


def samples(name: str, root: Path) -> list[tuple[bool, int, Path]]:
    """Of every sample whether it is published for testing, its label, its file; in this order. Raises FileError for a foreign tree."""
    kind, found = KINDS[name], []
    for split in ("train", "test") if kind.split else ("",):
        try:
            held = dataset_class(name)(str(root), **({"train": split == "train"} if kind.split else {}))
        except (OSError, RuntimeError) as error:  # a class without files among them
            raise FileError(
                f"{root / EVENTS / split}: not the events of {name}: {' '.join(str(error).split())[:200]}"
            ) from error
        if sorted(held.classes) != sorted(kind.classes):
            raise FileError(
                f"{root / EVENTS / split}: its folders are {', '.join(held.classes)}; the classes of {name} are others"
            )
        # by their own number, where they have one: 10 comes after 9, not after 1
        found += [
            (split == "test", kind.classes.index(held.classes[label]), Path(path))
            for path, label in held.samples
        ]
    return sorted(found)
