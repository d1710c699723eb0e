"""Event data: N-MNIST, CIFAR10-DVS and DVS128 Gesture as frames of event counts, integrated once and mapped into memory.

SpikingJelly's classes read the published files and its function integrates the events; the frames of all samples are
then kept in one array, as bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from snnkd.catalog.data import DATA
from snnkd.console import Console
from snnkd.data.download.archives import NotReady, Way
from snnkd.data.folder import data_folder
from snnkd.data.imageset import ImageSet, Split
from snnkd.data.sets.integrate import frames_of
from snnkd.data.sets.jelly import KINDS, events_root, find_events, samples
from snnkd.errors import FileError, UsageError
from snnkd.files import from_os_error, read_json, sha256, sync_folder, write_json
from snnkd.locks import dataset_lock
from snnkd.schema.events import EventConfig, SplitEventConfig
from snnkd.seeds import derive

VERSION = 1
"""Raised when frames are made differently, so that those of an older snnkd are not taken for this one's."""
FRAMES, LABELS, ABOUT = "frames.npy", "labels.npy", "about.json"
OWN = "."
"""What about.json says of frames made from the events beside them; of others it names the folder."""
BLOCK = 2**24
"""Bytes hashed at a time."""


def load(config: EventConfig, console: Console, way: Way | None) -> ImageSet:
    """The frames of `config`, `[N, frames, 2, size, size]`, from the cache when its bytes are intact, else integrated now.

    Raises FileError when the events are neither here nor can be fetched, a file of them is damaged, or the frames here
    were made from others than `--from` names.
    """
    root = data_folder() / config.name
    place = root / f"frames-{_key(config)}"
    whole = _read(place, console)
    if whole is None:
        if way is None:
            raise _not_ready(config, root, console)
        events = find_events(config.name, console, way)
        with dataset_lock(root, place.name, way.stop, console):
            whole = _read(place, Console(quiet=True))  # another process may have made it meanwhile
            if whole is None:
                _make(place, events, config, console, way)
                whole = _read(place, console)
    if whole is None:
        raise FileError(f"{place}: written just now and damaged already; check the disk")
    _check_source(place, whole[2], config, way)
    held_here, published = len(whole[1]), KINDS[config.name].samples
    if held_here != published:
        console.log(
            f"warning: {place} holds {held_here:,} samples of {config.name}; published are {published:,}"
        )
    return _split(*whole, config, (place / FRAMES, place / LABELS))


def _origin(config: EventConfig, events: Path) -> str:
    """The folder of the events as about.json has it; SNNKD_DATA may be moved as a whole."""
    return OWN if events.resolve() == (data_folder() / config.name).resolve() else str(events.resolve())


def _check_source(place: Path, about: dict[str, Any], config: EventConfig, way: Way | None) -> None:
    """Raise FileError where `--from` names events and the frames were made from others."""
    if way is None or way.source is None:
        return
    made, wanted = about.get("events"), _origin(config, events_root(config.name, way))
    # what an older snnkd made does not say from what; it is taken for its own unless other events are asked for
    if (made or OWN) != wanted:
        said = {None: "events that were not noted", OWN: f"the events in {place.parent}"}.get(
            made, f"the events in {made}"
        )
        raise FileError(
            f"--from {way.source}: the frames here were made from {said}; to make them anew remove {place} and repeat"
        )


def _not_ready(config: EventConfig, root: Path, console: Console) -> NotReady:
    """What is missing, and what there will be."""
    said = f"{config.name} is under {root}, but not yet cut into {config.frames} frames; that is done when needed"
    try:
        find_events(config.name, console, None)
    except FileError as error:
        said = str(error)
    nominal = DATA[config.name].nominal
    assert nominal is not None, "event data are published"
    classes, (channels, *_), images = nominal
    if isinstance(config, SplitEventConfig):
        images = round(KINDS[config.name].samples * (1 - config.test_fraction))
    return NotReady(said, (classes, (channels, config.size, config.size), images))


def _key(config: EventConfig) -> str:
    """Names everything that the frames depend on but the events themselves."""
    return sha256(json.dumps([VERSION, config.name, config.frames, config.split_by, config.size]).encode())[
        :12
    ]


def _split(
    frames: Tensor, labels: Tensor, about: dict[str, Any], config: EventConfig, files: tuple[Path, ...]
) -> ImageSet:
    """The training and test samples, as parts of the mapped frames."""
    test = torch.arange(len(labels)) >= int(about["train"])
    if isinstance(config, SplitEventConfig):
        test = _held_back(labels, config)
    rows = {False: (~test).nonzero().flatten(), True: test.nonzero().flatten()}
    train, tested = (Split(frames, labels[rows[tests]], rows[tests]) for tests in (False, True))
    digest = sha256(about["sha256"].encode(), rows[True].numpy().astype("<i8").tobytes())
    classes = len(KINDS[config.name].classes)
    return ImageSet(
        config.name, classes, train, tested, None, digest, rule=rule(config), files=files, mapped=True
    )


def rule(config: EventConfig) -> str:
    """How test samples were chosen, where the data set does not say."""
    if not isinstance(config, SplitEventConfig):
        return ""
    share = 100 * config.test_fraction
    return f"snnkd's own, {100 - share:g}/{share:g} of each class, seed {config.split_seed}; {config.name} has no official split"


def _held_back(labels: Tensor, config: SplitEventConfig) -> Tensor:
    """Which samples are for testing, bool `[N]`. Raises UsageError where a class would have none of either."""
    test = torch.zeros(len(labels), dtype=torch.bool)
    for label, name in enumerate(KINDS[config.name].classes):
        rows = (labels == label).nonzero().flatten()
        count = round(len(rows) * config.test_fraction)
        if not 0 < count < len(rows):
            raise UsageError(
                f"data.test_fraction: {config.test_fraction} of {len(rows)} samples of {name} leaves a split empty"
            )
        order = torch.randperm(
            len(rows),
            generator=torch.Generator().manual_seed(derive(config.split_seed, config.name, "test", label)),
        )
        test[rows[order[:count]]] = True
    return test


def _read(place: Path, console: Console) -> tuple[Tensor, Tensor, dict[str, Any]] | None:
    """The cached frames, mapped, their labels and what was noted of them; None when there are none or bytes have changed."""
    if not (place / ABOUT).is_file():
        return None
    try:
        about = read_json(place / ABOUT)
        # copy on write: torch takes no read-only arrays, and nothing is ever written
        frames = np.load(place / FRAMES, mmap_mode="c", allow_pickle=False)
        labels = np.load(place / LABELS, allow_pickle=False)
        digest, flat = hashlib.sha256(), frames.reshape(-1)
        for start in range(0, flat.size, BLOCK):
            digest.update(flat[start : start + BLOCK].data)
        digest.update(labels.astype("<i8").tobytes())
        if digest.hexdigest() == about["sha256"]:
            return torch.from_numpy(frames), torch.from_numpy(labels.astype(np.int64)), about
    except Exception as error:  # whatever is wrong with a cache, the remedy is to make it anew
        console.log(f"{place}: cannot be read ({type(error).__name__})")
    console.log(f"{place}: its bytes are not those that were written; integrating anew")
    return None


def _make(place: Path, events: Path, config: EventConfig, console: Console, way: Way) -> None:
    """Integrate all samples in a draft folder, which takes its name when it is whole."""
    draft = place.with_name(f".{place.name}")
    found = samples(config.name, events)
    counts = f"{len(found):,} samples of {config.name} ({KINDS[config.name].samples:,} are published)"
    console.log(f"integrating {counts} into {config.frames} frames each, once")
    try:
        shutil.rmtree(draft, ignore_errors=True)  # of one that was killed
        draft.mkdir(parents=True)
        labels = np.array([label for _, label, _ in found], "<i8")
        with (draft / FRAMES).open("wb") as file:
            digest, clipped = _write_frames(file, [path for _, _, path in found], config, console, way)
            _finish(file)
        with (draft / LABELS).open("wb") as file:
            np.save(file, labels, allow_pickle=False)
            _finish(file)
        digest.update(labels.tobytes())
        about: dict[str, Any] = {
            "data": config.name,
            "train": sum(not test for test, _, _ in found),
            "clipped": clipped,
        }
        about["events"] = _origin(config, events)
        write_json(
            draft / ABOUT, {**about, "sha256": digest.hexdigest(), "spikingjelly": version("spikingjelly")}
        )
        shutil.rmtree(place, ignore_errors=True)  # one that was damaged
        draft.rename(place)
        sync_folder(place.parent)
    except OSError as error:
        raise from_os_error(error, error.filename or draft) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write_frames(
    file: IO[bytes], paths: Sequence[Path], config: EventConfig, console: Console, way: Way
) -> tuple[Any, int]:
    """All frames, as an array file, one sample in memory at a time; returns their digest and how many pixels were clipped."""
    shape = (len(paths), config.frames, 2, config.size, config.size)
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    digest, clipped = hashlib.sha256(), 0
    with console.bar(f"integrating {config.name}", len(paths)) as bar:
        for path in paths:
            way.stop(f"while integrating {config.name}; nothing of it was kept")
            made = frames_of(path, config)
            content = made.frames.tobytes()
            file.write(content)
            digest.update(content)
            clipped += made.clipped
            bar.advance()
    if clipped:
        console.log(
            f"{clipped:,} of {np.prod(shape):,} pixels had more than 255 events in a frame and were set to 255"
        )
    return digest, clipped


def _finish(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
