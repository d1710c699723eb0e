"""Small event data sets, written in the formats in which the real ones are published."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from snnkd.console import Console
from snnkd.data import FetchOptions
from snnkd.data.sets import event_files

THINGS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
Events = dict[str, np.ndarray]
"""Arrays t (microseconds, rising), x, y, p (0 or 1)."""


def events(seed: int, label: int, side: int, count: int = 120) -> Events:
    """Events along a line whose place and direction the class decides, with some noise."""
    rng = np.random.default_rng([seed, label])
    t = np.sort(rng.integers(0, 90_000, count)) + np.arange(count)
    along = t * (side - 4) // (t[-1] + 1)
    across = np.full(count, (label * 3 + 2) % (side - 2))
    x, y = (along, across) if label % 2 else (across, along)
    noise = rng.random(count) < 0.1
    x, y = np.where(noise, rng.integers(0, side, count), x), np.where(noise, rng.integers(0, side, count), y)
    return {"t": t, "x": x, "y": y, "p": rng.integers(0, 2, count)}


def atis(made: Events) -> bytes:
    """N-MNIST's .bin: five bytes an event, x, y, then polarity and 23 bits of time."""
    t = made["t"]
    columns = (made["x"], made["y"], made["p"] << 7 | t >> 16 & 0x7F, t >> 8 & 0xFF, t & 0xFF)
    return np.stack(columns, 1).astype(np.uint8).tobytes()


def aedat2(made: Events) -> bytes:
    """CIFAR10-DVS's .aedat: AER-DAT2.0 of a DVS128, which counts x from the other side and calls 'on' 0;
    big-endian."""
    address = (127 - made["y"]) << 1 | (127 - made["x"]) << 8 | (1 - made["p"])
    body = np.stack((address, made["t"]), 1).astype(">u4").tobytes()
    return (
        b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n# Timestamps tick is 1 us\r\n" + body
    )


def aedat3(made: Events, packet: int = 100) -> bytes:
    """DVS128 Gesture's .aedat: AER-DAT3.1, packets with a head of 28 bytes; one packet is no polarity
    events."""
    out = [b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"]
    out.append(struct.pack("<HHIIIIII", 0, 1, 8, 4, 0, 1, 1, 1) + struct.pack("<II", 1, 0))
    for start in range(0, len(made["t"]), packet):
        t, x, y, p = (made[key][start : start + packet] for key in "txyp")
        data = x << 17 | y << 2 | p << 1 | 1
        out.append(struct.pack("<HHIIIIII", 1, 1, 8, 4, 0, len(t), len(t), len(t)))
        out.append(np.stack((data, t), 1).astype("<u4").tobytes())
    return b"".join(out)


def n_mnist(folder: Path, each: int = 3) -> None:
    """Train.zip and Test.zip, `each` training and one test sample a class."""
    for name, count in (("Train", each), ("Test", 1)):
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            for label in range(10):
                for i in range(count):
                    archive.writestr(
                        f"{name}/{label}/{i:05}.bin", atis(events(i + 100 * (name == "Test"), label, 34))
                    )


def cifar10_dvs(folder: Path, each: int = 4) -> None:
    """A zip file a class."""
    for label, thing in enumerate(THINGS):
        with zipfile.ZipFile(folder / f"{thing}.zip", "w") as archive:
            for i in range(each):
                archive.writestr(f"{thing}/cifar10_{thing}_{i}.aedat", aedat2(events(i, label, 128)))


def dvs128_gesture(folder: Path) -> None:
    """One tar file: a recording of every user with all gestures in turn, and from when to when each lasts."""
    files = {
        "trials_to_train.txt": b"user01_led.aedat\nuser02_led.aedat\n",
        "trials_to_test.txt": b"user24_led.aedat\n",
    }
    for user in (1, 2, 24):
        gestures = [events(user, label, 128) for label in range(11)]
        for label, made in enumerate(gestures):
            made["t"] = made["t"] + 100_000 * (label + 1)
        whole = {key: np.concatenate([made[key] for made in gestures]) for key in "txyp"}
        rows = [f"{label + 1},{100_000 * (label + 1)},{100_000 * (label + 2)}" for label in range(11)]
        files[f"user{user:02}_led.aedat"] = aedat3(whole)
        files[f"user{user:02}_led_labels.csv"] = "\n".join(
            ["class,startTime_usec,endTime_usec", *rows, ""]
        ).encode()
    with tarfile.open(folder / "DvsGesture.tar.gz", "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"DvsGesture/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


WRITERS = {"n-mnist": n_mnist, "cifar10-dvs": cifar10_dvs, "dvs128-gesture": dvs128_gesture}


def write(name: str, folder: Path) -> list[tuple[str, str, str]]:
    """The archives of a data set in `folder`; returns the table of names, URLs and md5 sums that SpikingJelly
    would have."""
    folder.mkdir(parents=True, exist_ok=True)
    WRITERS[name](folder)
    return [
        (path.name, "http://127.0.0.1:9/nowhere", hashlib.md5(path.read_bytes()).hexdigest())
        for path in sorted(folder.iterdir())
    ]


Published = dict[str, tuple[Path, list[tuple[str, str, str]]]]
"""By name the folder that holds the archives, and SpikingJelly's table for them."""


def publish(root: Path) -> Published:
    return {name: (root / name, write(name, root / name)) for name in WRITERS}


def believe(patch: pytest.MonkeyPatch, published: Published) -> None:
    """Let SpikingJelly's tables name the files that are written here."""
    for name, (_, table) in published.items():
        patch.setattr(
            event_files.dataset_class(name), "resource_url_md5", classmethod(lambda cls, table=table: table)
        )


def convert(root: Path, published: Published) -> dict[str, Path]:
    """By name the folder under the SNNKD_DATA `root`, laid out as SpikingJelly's, with the events of each
    sample."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNNKD_DATA", str(root))
        believe(patch, published)
        return {
            name: event_files.prepare_events(name, Console(quiet=True), FetchOptions(source=folder))
            for name, (folder, _) in published.items()
        }
