"""MNIST, Fashion-MNIST and SVHN, parsed by torchvision."""

from __future__ import annotations

import gzip
import math
import shutil
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from snnkd.console import Console
from snnkd.data.download.archives import BLOCK, Archive, Way, verified
from snnkd.data.download.fetch import fetch_all
from snnkd.data.folder import data_folder
from snnkd.data.imageset import ImageSet, from_arrays
from snnkd.errors import FileError
from snnkd.files import from_os_error, replacing, sha256
from snnkd.locks import dataset_lock
from snnkd.schema.data import DataConfig

Arrays = dict[str, tuple[np.ndarray, np.ndarray]]
Pair = tuple[Path, Archive, Path]
"""Where an archive of MNIST is kept, the archive, and where its unpacked file is kept."""
ITEMS = {"train": 60_000, "t10k": 10_000}
"""Published images of MNIST and of Fashion-MNIST, by the first part of the file names."""


@dataclass(frozen=True)
class _Kind:
    """One data set: where its published files lie, which they are, whether they are whole, and how they are read."""

    folder: Path
    archives: tuple[Archive, ...]
    files: tuple[Path, ...]
    is_complete: Callable[[], bool]
    read: Callable[[], Arrays]
    bring: Callable[[Way, Console], object]


def load(config: DataConfig, console: Console, way: Way | None = None) -> ImageSet:
    """The data set from SNNKD_DATA, brought there when absent; a folder that torchvision made is used as it is.

    Raises FileError when it is neither there nor can be fetched.
    """
    name, root = config.name, data_folder()
    kind = _svhn(root) if name == "svhn" else _mnist(name, root)
    if not kind.is_complete():
        names = ", ".join(archive.name for archive in kind.archives)
        if way is None:
            raise FileError(
                f"{name} is not under {root}; it will be downloaded when needed, or put {names} into {kind.folder}"
            )
        with dataset_lock(root, name, way.stop, console):
            if not kind.is_complete():  # else another process has fetched it meanwhile
                console.log(f"{name} is not under {root} (or is damaged there)")
                kind.bring(way, console)
    try:
        return from_arrays(name, 10, kind.read(), files=kind.files)
    except OSError as error:
        raise from_os_error(error, error.filename or kind.folder) from error
    except FileError:
        raise
    except Exception as error:  # torchvision's parser has no error of its own
        raise FileError(
            f"{kind.folder}: {name} cannot be read ({type(error).__name__}: {error}); remove it and repeat"
        ) from error


def mnist_archives(kind: Any) -> tuple[Archive, ...]:
    """The files as torchvision knows them, with the published number of images."""
    first, *others = kind.mirrors
    return tuple(
        Archive(
            file,
            f"{first}{file}",
            md5=md5,
            also=tuple(f"{url}{file}" for url in others),
            items=ITEMS[file.partition("-")[0]],
        )
        for file, md5 in kind.resources
    )


def svhn_archives(kind: Any) -> tuple[Archive, ...]:
    """The files as torchvision knows them, without the extra training images, which the field leaves out."""
    return tuple(
        Archive(file, url, md5=md5) for url, file, md5 in (kind.split_list["train"], kind.split_list["test"])
    )


def _mnist(name: str, root: Path) -> _Kind:
    from torchvision import datasets

    made = {"mnist": datasets.MNIST, "fashion-mnist": datasets.FashionMNIST}[name]
    folder, archives = root / made.__name__ / "raw", mnist_archives(made)
    pairs = [
        (folder / archive.name, archive, folder / archive.name.removesuffix(".gz")) for archive in archives
    ]

    def bring(way: Way, console: Console) -> None:
        unpacked = _unpacked_copy(name, way.source, [path.name for *_, path in pairs])
        if unpacked:
            _copy_unpacked(name, unpacked, pairs, way, console)
            return
        fetch_all(archives, folder, way, console)
        for packed, _, path in pairs:
            with gzip.open(packed) as content:
                _write(content, path)

    return _Kind(
        folder,
        archives,
        tuple(path for *_, path in pairs),
        lambda: all(_raw_whole(*pair) for pair in pairs),
        lambda: _read_idx(pairs),
        bring,
    )


def _read_idx(pairs: Sequence[Pair]) -> Arrays:
    """The images and labels of both splits from the raw files that `whole` looked at.

    Torchvision's class would take processed/*.pt beside them instead, which old versions of it left, without a checksum.
    """
    from torchvision.datasets.mnist import read_image_file, read_label_file

    arrays = {"train": [np.empty(0)] * 2, "t10k": [np.empty(0)] * 2}
    for _, archive, path in pairs:
        split, things, *_ = path.name.split("-")
        labels = things == "labels"
        arrays[split][labels] = (read_label_file if labels else read_image_file)(str(path)).numpy()
        _check_items(len(arrays[split][labels]), archive, path)
    return {"train": (arrays["train"][0], arrays["train"][1]), "test": (arrays["t10k"][0], arrays["t10k"][1])}


def _check_items(count: int, archive: Archive, path: Path) -> None:
    if count != archive.items:
        raise FileError(
            f"{path} holds {count:,} items; published are {archive.items:,}: it is another file; remove it and repeat"
        )


def _unpacked_copy(data: str, source: Path | None, names: Sequence[str]) -> list[Path]:
    """The unpacked files of a user's folder that has no archives; empty where it has those, which say more, or lacks a file.

    Raises FileError where files of one name differ: MNIST and Fashion-MNIST have the same names.
    """
    found: list[Path] = []
    if source is None or not source.is_dir():
        return found
    for name in names:
        packed = [path for path in source.rglob(f"{name}.gz") if path.is_file()]
        paths = sorted(path for path in source.rglob(name) if path.is_file())
        if packed or not paths:
            return []
        if len({sha256(path.read_bytes()) for path in paths}) > 1:
            held = ", ".join(map(str, paths))
            raise FileError(
                f"--from {source}: holds different files of one name: {held}; name the folder that holds {data} alone"
            )
        found.append(paths[0])
    return found


def _copy_unpacked(
    data: str, paths: Sequence[Path], pairs: Sequence[Pair], way: Way, console: Console
) -> None:
    """Take a user's unpacked files after all were checked as far as can be; an archive here that is whole stays, and must agree."""
    damaged = []
    for path, (packed, archive, _) in zip(paths, pairs, strict=True):
        if not _length_fits(path):
            raise FileError(f"--from {way.source}: {path} is damaged: its length is not what its head says")
        count = struct.unpack(">I", path.read_bytes()[4:8])[0]
        if count != archive.items:
            raise FileError(
                f"--from {way.source}: {path} holds {count:,} items; published are {archive.items:,}: it is another file"
            )
        if not verified(packed, archive):
            damaged.append(packed)
        elif not _packs(packed, path):
            raise FileError(
                f"--from {way.source}: {path} is not what {packed} holds, whose checksum is the published one"
            )
    if damaged:
        console.log(
            f"no checksum is known of unpacked files; that {way.source} holds {data}, and not other data of its format, is not checked"
        )
    for path, (packed, _, place) in zip(paths, pairs, strict=True):
        way.stop(f"before copying {path}")
        place.parent.mkdir(parents=True, exist_ok=True)
        if packed in damaged:
            packed.unlink(missing_ok=True)  # beside it the copy would not count as whole
        with path.open("rb") as content:
            _write(content, place)


def _raw_whole(packed: Path, archive: Archive, path: Path) -> bool:
    """Whether the unpacked file is what its archive holds; where there is no archive, whether its length fits its head.

    Gzip ends with the CRC-32 and the length of what it packs: the archive is checked by its published checksum, the
    unpacked file by those two.
    """
    try:
        if not packed.exists():
            return _length_fits(path)
        return verified(packed, archive) and _packs(packed, path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise from_os_error(error, error.filename or path) from error


def _packs(packed: Path, path: Path) -> bool:
    """Whether a whole archive is of these bytes, by the CRC-32 and the length at its end. Raises OSError."""
    raw, ended = path.read_bytes(), packed.read_bytes()[-8:]
    return struct.unpack("<II", ended) == (zlib.crc32(raw), len(raw) % 2**32)


def _length_fits(path: Path) -> bool:
    """Whether a file is as long as its head says: 0, 0, 8 (bytes), the number of dimensions, and these, big-endian."""
    raw = path.read_bytes()
    try:
        dimensions = raw[3]
        shape = struct.unpack(f">{dimensions}I", raw[4 : 4 + 4 * dimensions])
    except (IndexError, struct.error):
        return False
    return raw[:3] == b"\0\0\x08" and len(raw) == 4 + 4 * dimensions + math.prod(shape)


def _write(content: Any, path: Path) -> None:
    try:
        with replacing(path) as file:
            shutil.copyfileobj(content, file, BLOCK)
    except OSError as error:
        raise from_os_error(error, error.filename or path) from error


def _svhn(root: Path) -> _Kind:
    from torchvision.datasets import SVHN

    archives = svhn_archives(SVHN)

    def read() -> Arrays:
        splits = {split: SVHN(root, split=split, download=False) for split in ("train", "test")}
        return {split: (images.data.transpose(0, 2, 3, 1), images.labels) for split, images in splits.items()}

    files = tuple(root / archive.name for archive in archives)

    def whole() -> bool:
        return all(map(verified, files, archives))

    return _Kind(
        root, archives, files, whole, read, lambda way, console: fetch_all(archives, root, way, console)
    )
