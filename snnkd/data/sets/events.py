"""N-MNIST, CIFAR10-DVS and DVS128 Gesture as event frames, integrated once into a memory-mapped file.

SpikingJelly's classes read the published files and its function integrates the events; the frames of all
samples are then stored in one array of bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from snnkd.catalog.data import DATA
from snnkd.console import Console
from snnkd.data.download.archives import FetchOptions
from snnkd.data.imageset import ImageSet, NotPrepared
from snnkd.data.sets.event_files import DATASETS, events_root, list_samples, prepare_events
from snnkd.data.sets.event_frames import integrate
from snnkd.data.split import Split, permutation
from snnkd.errors import FileError, UsageError
from snnkd.files import (
    data_folder,
    from_os_error,
    read_json,
    remove_tree,
    sha256,
    sync_folder,
    temporary_folder,
    write_json,
)
from snnkd.locks import dataset_lock
from snnkd.schema.events import EventConfig, SplitEventConfig

CACHE_VERSION = 1
"""Part of the cache's name; increase it when the integration changes."""
FRAMES, LABELS, ABOUT = "frames.npy", "labels.npy", "about.json"
SAME_FOLDER = "."
"""`events` in about.json for events in the same folder; otherwise it is their absolute path."""
BLOCK = 2**24
"""Bytes hashed at a time."""

Frames = tuple[Tensor, Tensor, dict[str, Any]]
"""Frames `[N, T, 2, H, W]`, memory-mapped, labels `[N]`, and the content of about.json."""


def load(config: EventConfig, console: Console, fetch: FetchOptions | None) -> ImageSet:
    """Frames `[N, frames, 2, size, size]` from the cache if it is intact, otherwise integrated now.

    Raises FileError when the events are missing and cannot be fetched, when a file is damaged, or when the
    cached frames come from other events than `--from` names.
    """
    root = data_folder() / config.name
    folder = root / f"frames-{_key(config)}"
    frames = _read_cache(folder, console)
    if frames is None:
        if fetch is None:
            raise _not_prepared(config, root, console)
        events = prepare_events(config.name, console, fetch)
        with dataset_lock(root, folder.name, fetch.stop, console):
            frames = _read_cache(folder, Console(quiet=True))  # another process may have written it
            if frames is None:
                _write_cache(folder, events, config, console, fetch)
                frames = _read_cache(folder, console)
    if frames is None:
        raise FileError(
            f"{folder}: damaged right after it was written; check the disk and repeat the command"
        )
    _check_source(folder, frames[2], config, fetch)
    count, published = len(frames[1]), DATASETS[config.name].samples
    if count != published:
        console.log(f"warning: {folder} has {count:,} samples of {config.name}; published are {published:,}")
    return _to_image_set(frames, config, (folder / FRAMES, folder / LABELS))


def _origin(config: EventConfig, events: Path) -> str:
    """The folder of the events as recorded in about.json: relative, so that SNNKD_DATA can be moved."""
    same = events.resolve() == (data_folder() / config.name).resolve()
    return SAME_FOLDER if same else str(events.resolve())


def _check_source(
    folder: Path, info: dict[str, Any], config: EventConfig, fetch: FetchOptions | None
) -> None:
    """Raise FileError when `--from` names other events than the frames were integrated from."""
    if fetch is None or fetch.source is None:
        return
    origin = str(info.get("events"))
    if origin != _origin(config, events_root(config.name, fetch)):
        events = folder.parent if origin == SAME_FOLDER else origin
        raise FileError(
            f"--from {fetch.source}: the cached frames are from the events in {events}; "
            f"remove {folder} and repeat"
        )


def _not_prepared(config: EventConfig, root: Path, console: Console) -> NotPrepared:
    """What is missing, with the shape and the number of samples to expect."""
    message = (
        f"{config.name} under {root} is not integrated into {config.frames} frames yet; training does it"
    )
    try:
        prepare_events(config.name, console, None)
    except FileError as error:
        message = str(error)
    nominal = DATA[config.name].nominal
    assert nominal is not None, "event data are published"
    classes, (channels, *_), images = nominal
    if isinstance(config, SplitEventConfig):
        images = round(DATASETS[config.name].samples * (1 - config.test_fraction))
    return NotPrepared(message, (classes, (channels, config.size, config.size), images))


def _key(config: EventConfig) -> str:
    """A hash of everything but the events that the frames depend on."""
    settings = [CACHE_VERSION, config.name, config.frames, config.split_by, config.size]
    return sha256(json.dumps(settings).encode())[:12]


def _to_image_set(frames: Frames, config: EventConfig, files: tuple[Path, ...]) -> ImageSet:
    """Training and test samples as views of the memory-mapped frames."""
    images, labels, info = frames
    is_test = torch.arange(len(labels)) >= int(info["train"])
    if isinstance(config, SplitEventConfig):
        is_test = _hold_out_test(labels, config)
    train_rows, test_rows = (~is_test).nonzero().flatten(), is_test.nonzero().flatten()
    digest = sha256(info["sha256"].encode(), test_rows.numpy().astype("<i8").tobytes())
    return ImageSet(
        config.name,
        len(DATASETS[config.name].classes),
        Split(images, labels[train_rows], train_rows),
        Split(images, labels[test_rows], test_rows),
        None,
        digest,
        split_rule=split_rule(config),
        files=files,
        mapped=True,
    )


def split_rule(config: EventConfig) -> str:
    """How the test samples are chosen; empty for an official split."""
    if not isinstance(config, SplitEventConfig):
        return ""
    test = 100 * config.test_fraction
    return (
        f"snnkd's own, {100 - test:g}/{test:g} of each class, seed {config.split_seed}; "
        f"{config.name} has no official split"
    )


def _hold_out_test(labels: Tensor, config: SplitEventConfig) -> Tensor:
    """Whether each sample is a test sample, bool `[N]`. Raises UsageError when a class lacks a split."""
    is_test = torch.zeros(len(labels), dtype=torch.bool)
    for label, name in enumerate(DATASETS[config.name].classes):
        rows = (labels == label).nonzero().flatten()
        count = round(len(rows) * config.test_fraction)
        if not 0 < count < len(rows):
            raise UsageError(
                "data.test_fraction: "
                f"{config.test_fraction} of {len(rows)} samples of {name} leaves a split empty"
            )
        order = permutation(len(rows), config.split_seed, config.name, "test", label)
        is_test[rows[order[:count]]] = True
    return is_test


def _read_cache(folder: Path, console: Console) -> Frames | None:
    """The cached frames, or None when the cache is missing or damaged."""
    if not (folder / ABOUT).is_file():
        return None
    try:
        info = read_json(folder / ABOUT)
        # copy-on-write: torch requires writable memory, and writes never reach the file
        frames = np.load(folder / FRAMES, mmap_mode="c", allow_pickle=False)
        labels = np.load(folder / LABELS, allow_pickle=False)
        digest, flat = hashlib.sha256(), frames.reshape(-1)
        for start in range(0, flat.size, BLOCK):
            digest.update(flat[start : start + BLOCK].data)
        digest.update(labels.astype("<i8").tobytes())
        if digest.hexdigest() == info["sha256"]:
            return torch.from_numpy(frames), torch.from_numpy(labels.astype(np.int64)), info
        reason = "its sha256 has changed"
    except Exception as error:  # whatever is wrong with the cache, integrating again replaces it
        reason = type(error).__name__
    console.log(f"{folder} is damaged ({reason}); integrating again")
    return None


def _write_cache(
    folder: Path, events: Path, config: EventConfig, console: Console, fetch: FetchOptions
) -> None:
    """Integrate all samples in a temporary folder, which is renamed at the end."""
    samples = list_samples(config.name, events)
    published = DATASETS[config.name].samples
    console.log(
        f"integrating {len(samples):,} samples of {config.name} ({published:,} are published) "
        f"into {config.frames} frames each, once"
    )
    try:
        with temporary_folder(folder) as tmp:
            new = tmp / "new"
            new.mkdir()
            labels = np.array([label for _, label, _ in samples], "<i8")
            with (new / FRAMES).open("wb") as file:
                digest, clipped = _write_frames(file, [path for *_, path in samples], config, console, fetch)
                _sync(file)
            with (new / LABELS).open("wb") as file:
                np.save(file, labels, allow_pickle=False)
                _sync(file)
            digest.update(labels.tobytes())
            info = {
                "data": config.name,
                "train": sum(not is_test for is_test, *_ in samples),
                "clipped": clipped,
                "events": _origin(config, events),
                "sha256": digest.hexdigest(),
                "spikingjelly": version("spikingjelly"),
            }
            write_json(new / ABOUT, info)
            remove_tree(folder)  # a damaged one
            new.rename(folder)
            sync_folder(folder.parent)
    except OSError as error:
        raise from_os_error(error, error.filename or folder) from error


def _write_frames(
    file: IO[bytes], paths: Sequence[Path], config: EventConfig, console: Console, fetch: FetchOptions
) -> tuple[Any, int]:
    """Write all frames as one .npy array, by sample; return its hash and the number of clipped pixels."""
    shape = (len(paths), config.frames, 2, config.size, config.size)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    digest, clipped = hashlib.sha256(), 0
    with console.bar(f"integrating {config.name}", len(paths)) as bar:
        for path in paths:
            fetch.stop(f"while integrating {config.name}, which starts over")
            sample = integrate(path, config)
            content = sample.frames.tobytes()
            file.write(content)
            digest.update(content)
            clipped += sample.clipped
            bar.advance()
    if clipped:
        console.log(
            f"{clipped:,} of {np.prod(shape):,} pixels had more than 255 events in a frame; clipped to 255"
        )
    return digest, clipped


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
