"""Event data sets of SpikingJelly: fetch the published files, convert them to one npz file per sample."""

from __future__ import annotations

import importlib
import os
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snnkd.console import Console
from snnkd.data.download.archives import Archive, FetchOptions
from snnkd.data.download.fetch import fetch_archives, find_copies
from snnkd.errors import FileError, SnnkdError
from snnkd.files import check_guard, data_folder, from_os_error, temporary_folder
from snnkd.locks import dataset_lock

EVENTS = "events_np"
"""Name of SpikingJelly's folder with one npz file per sample."""
THREADS = 16
"""SpikingJelly's default number of threads for the conversion; it uses no more than there are CPUs."""


@dataclass(frozen=True)
class EventDataset:
    """A data set of `spikingjelly.datasets`."""

    module: str
    class_name: str
    classes: tuple[str, ...]
    samples: int
    """Number of published samples."""
    has_test: bool
    """Whether it has an official test split."""
    threads: int = THREADS


_DIGITS = tuple(map(str, range(10)))
_THINGS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# two threads: a recording of DVS128 Gesture becomes lists of millions of Python integers
DATASETS = {
    "n-mnist": EventDataset("n_mnist", "NMNIST", _DIGITS, 70_000, has_test=True),
    "cifar10-dvs": EventDataset("cifar10_dvs", "CIFAR10DVS", _THINGS, 10_000, has_test=False),
    "dvs128-gesture": EventDataset(
        "dvs128_gesture", "DVS128Gesture", (*_DIGITS, "10"), 1_464, has_test=True, threads=2
    ),
}


def spikingjelly_datasets(module: str) -> Any:
    """`spikingjelly.datasets.<module>`, imported without its package's `__init__`.

    That imports the speech data sets and with them torchaudio, which not every version of torch can load.
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
        del sys.modules[package]  # a later import gets the complete package


def dataset_class(name: str) -> Any:
    """SpikingJelly's class."""
    return getattr(spikingjelly_datasets(DATASETS[name].module), DATASETS[name].class_name)


def archives(name: str) -> list[Archive]:
    """The published archives of events, with SpikingJelly's checksums."""
    table = dataset_class(name).resource_url_md5()
    return [Archive(file, url, md5=md5) for file, url, md5 in table if file.endswith((".zip", ".tar.gz"))]


def events_root(name: str, fetch: FetchOptions | None) -> Path:
    """The folder of the converted events: `--from` if it contains them, else one under SNNKD_DATA."""
    if fetch is not None and fetch.source is not None and (fetch.source / EVENTS).is_dir():
        return fetch.source
    return data_folder() / name


def prepare_events(name: str, console: Console, fetch: FetchOptions | None) -> Path:
    """The folder with the events of each sample, SpikingJelly's `root`; fetched and converted when missing.

    With `fetch` None nothing is fetched or converted. Raises FileError with the remedy when the files are
    missing.
    """
    root = events_root(name, fetch)
    if _is_converted(root):
        if fetch is not None and fetch.source not in (None, root):
            find_copies(archives(name), fetch.source)
            console.log(f"{name} is converted under {root}; nothing copied from {fetch.source}")
        return root
    if fetch is None:
        raise FileError(f"{name} is not under {root}; {_remedy(name)}")
    with dataset_lock(root, EVENTS, fetch.stop, console):
        if not _is_converted(root):  # another process may have converted them while this one waited
            _convert(name, root, _fetch(name, root, fetch, console), console)
    return root


def _is_converted(root: Path) -> bool:
    marker = root / f"{EVENTS}.building"
    if marker.exists():
        raise FileError(
            f"{root}: SpikingJelly was interrupted while converting; remove {marker.name} and {EVENTS} there"
        )
    return (root / EVENTS).is_dir()


def _remedy(name: str) -> str:
    files = ", ".join(archive.name for archive in archives(name))
    if dataset_class(name).downloadable():
        return f"`snnkd data {name}` downloads it, `snnkd data {name} --from FOLDER` copies {files}"
    return f"download {files} from {archives(name)[0].url} and run `snnkd data {name} --from FOLDER`"


def _fetch(name: str, root: Path, fetch: FetchOptions, console: Console) -> list[Path]:
    """The intact archives, in `root`/download as SpikingJelly expects them."""
    wanted, folder = archives(name), root / "download"
    needs_browser = not dataset_class(name).downloadable() and fetch.source is None and fetch.mirror is None
    missing = [archive.name for archive in wanted if not (folder / archive.name).is_file()]
    if needs_browser and missing:
        raise FileError(f"{name}: {', '.join(missing)} not in {folder}; {_remedy(name)}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise from_os_error(error, folder) from error
    return fetch_archives(wanted, folder, fetch, console)


def _convert(name: str, root: Path, files: list[Path], console: Console) -> None:
    """Unpack and convert in a temporary folder, renamed when complete."""
    console.log(f"converting the events of {name} once: {', '.join(path.name for path in files)}")
    try:
        with temporary_folder(root / EVENTS) as tmp:
            for folder in ("download", "extract", EVENTS):
                (tmp / folder).mkdir()
            for path in files:
                (tmp / "download" / path.name).symlink_to(path.resolve())
            dataset = dataset_class(name)
            with _limit_threads(DATASETS[name].threads):
                dataset.extract_downloaded_files(tmp / "download", tmp / "extract")
                dataset.create_raw_from_extracted(tmp / "extract", tmp / EVENTS)
            os.sync()  # one call for thousands of small files
            check_guard(root / EVENTS)
            (tmp / EVENTS).rename(root / EVENTS)
    except OSError as error:
        raise from_os_error(error, error.filename or root) from error
    except SnnkdError:
        raise
    except Exception as error:  # SpikingJelly's readers fail in many ways
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:150]
        raise FileError(f"{', '.join(map(str, files))}: contains a file without events ({reason})") from error


@contextmanager
def _limit_threads(threads: int) -> Iterator[None]:
    """Let SpikingJelly use at most `threads` threads."""
    from spikingjelly import configure

    default = configure.max_threads_number_for_datasets_preprocess
    configure.max_threads_number_for_datasets_preprocess = threads
    try:
        yield
    finally:
        configure.max_threads_number_for_datasets_preprocess = default


def list_samples(name: str, root: Path) -> list[tuple[bool, int, Path]]:
    """Each sample as (is official test sample, label, path), sorted. Raises FileError for other data."""
    dataset, samples = DATASETS[name], []
    for split in ("train", "test") if dataset.has_test else ("",):
        try:
            tree = dataset_class(name)(str(root), **({"train": split == "train"} if split else {}))
        except (OSError, RuntimeError) as error:  # also raised for a class without files
            reason = " ".join(str(error).split())[:200]
            raise FileError(f"{root / EVENTS / split}: not the events of {name}: {reason}") from error
        if sorted(tree.classes) != sorted(dataset.classes):
            folders = ", ".join(tree.classes)
            raise FileError(f"{root / EVENTS / split}: its folders {folders} are not the classes of {name}")
        # labels in the order of `classes`: 10 comes after 9, not after 1
        samples += [
            (split == "test", dataset.classes.index(tree.classes[label]), Path(path))
            for path, label in tree.samples
        ]
    return sorted(samples)
