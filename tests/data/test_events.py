"""Event data from files in their published formats, through SpikingJelly's classes, to frames in a mapped
file."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Cli
from data.event_writers import THINGS, Published, believe, convert, events, publish

from snnkd.console import Console
from snnkd.data import FetchOptions, load_data
from snnkd.data.imageset import hold_out
from snnkd.data.sets import event_files
from snnkd.data.sets.events import load
from snnkd.errors import FileError, UsageError
from snnkd.schema.events import EventConfig, GestureConfig, NMNISTConfig, SplitEventConfig

CONFIGS = {"n-mnist": NMNISTConfig, "cifar10-dvs": SplitEventConfig, "dvs128-gesture": GestureConfig}
NAMES = list(CONFIGS)
Heard = list[str]


def small(name: str, **keys: Any) -> Any:
    """The section of a data set with 4 frames; a quarter of CIFAR10-DVS's few samples is held back."""
    share = {"test_fraction": 0.25} if name == "cifar10-dvs" else {}
    return CONFIGS[name](**{"name": name, "frames": 4, **share, **keys})


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish(tmp_path_factory.mktemp("published"))


@pytest.fixture(autouse=True)
def own_checksums(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    believe(monkeypatch, published)


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory, published: Published) -> dict[str, Path]:
    return convert(tmp_path_factory.mktemp("converted"), published)


@pytest.fixture
def here(converted: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A SNNKD_DATA of this test's own, with the events of all data sets."""
    place = tmp_path / "here"
    for name, root in converted.items():
        shutil.copytree(root / event_files.EVENTS, place / name / event_files.EVENTS)
    monkeypatch.setenv("SNNKD_DATA", str(place))
    return place


class Hearing(Console):
    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.heard: Heard = []

    def log(self, line: str) -> None:
        self.heard.append(line)


def loaded(config: EventConfig, fetch: FetchOptions | None = None) -> tuple[Any, Heard]:
    console = Hearing()
    return load(config, console, fetch or FetchOptions()), console.heard


def samples_of(data: Any) -> Iterator[tuple[np.ndarray, int]]:
    for split in (data.train, data.test):
        for i in range(len(split)):
            yield split.take(slice(i, i + 1))[0].numpy(), int(split.labels[i])


@pytest.mark.parametrize("name", NAMES)
def test_frames_are_those_of_spikingjelly(here: Path, name: str) -> None:
    config = small(name, frames=3)
    data, _ = loaded(config)
    kind, splits = (
        event_files.dataset_class(name),
        [True, False] if event_files.DATASETS[name].has_test else [None],
    )
    theirs: dict[tuple[int, bytes], int] = {}
    for train in splits:
        told = {} if train is None else {"train": train}
        for frames, label in kind(
            str(here / name), data_type="frame", frames_number=3, split_by="number", **told
        ):
            number = event_files.DATASETS[name].classes.index(kind(str(here / name), **told).classes[label])
            key = number, frames.astype(np.uint8).tobytes()
            theirs[key] = theirs.get(key, 0) + 1
    for frames, label in samples_of(data):
        theirs[label, frames.tobytes()] -= 1
    assert set(theirs.values()) == {0}
    side = 34 if name == "n-mnist" else 128
    assert (data.shape, data.frames, data.classes) == (
        (2, side, side),
        3,
        11 if name == "dvs128-gesture" else 10,
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_event_is_counted_where_and_when_it_was_written(here: Path, name: str) -> None:
    """Against the events themselves, without SpikingJelly's readers."""
    data, _ = loaded(small(name))
    side = data.shape[1]
    found = {(label, frames.tobytes()) for frames, label in samples_of(data)}
    for label in range(data.classes):
        made = events(24 if name == "dvs128-gesture" else 0, label, side)
        wanted = np.zeros((4, 2, side, side), np.uint8)
        step = len(made["t"]) // 4
        for i in range(len(made["t"])):
            wanted[min(i // step, 3), made["p"][i], made["y"][i], made["x"][i]] += 1
        assert (label, wanted.tobytes()) in found


def test_frames_of_equal_time(here: Path) -> None:
    data, _ = loaded(small("n-mnist", split_by="time", frames=2))
    made = events(0, 7, 34)
    middle = made["t"][0] + (made["t"][-1] - made["t"][0]) // 2
    frames = [frames for frames, label in samples_of(data) if label == 7]
    assert any(one[0].sum() == (made["t"] < middle).sum() and one.sum() == 120 for one in frames)
    with pytest.raises(UsageError, match=r"data.frames: some of 1000 frames of equal time are empty"):
        loaded(small("n-mnist", split_by="time", frames=1000))


def test_smaller_frames_keep_every_event(here: Path) -> None:
    whole, half, odd = (loaded(small("dvs128-gesture", size=size))[0] for size in (128, 64, 48))
    large = whole.train.take(slice(None))
    assert torch.equal(
        half.train.take(slice(None)).long(),
        large.long().unflatten(-1, (64, 2)).unflatten(-3, (64, 2)).sum((-1, -3)),
    )
    assert torch.equal(odd.train.take(slice(None)).long().sum((-1, -2)), large.long().sum((-1, -2)))
    assert odd.shape == (2, 48, 48)


def test_more_events_than_a_byte_counts_are_said(here: Path) -> None:
    path = here / "n-mnist" / event_files.EVENTS / "train" / "0" / "00000.npz"
    np.savez(path, t=np.arange(400), x=np.full(400, 3), y=np.full(400, 5), p=np.zeros(400, int))
    data, heard = loaded(small("n-mnist", frames=1))
    assert data.train.take(slice(0, 1))[0, 0, 0, 5, 3] == 255
    assert any(line.startswith("1 of 92,480 pixels had more than 255 events") for line in heard)


def test_the_split_of_cifar10_dvs_is_seeded_and_of_each_class(here: Path) -> None:
    data, again, other = (loaded(small("cifar10-dvs", split_seed=seed))[0] for seed in (0, 0, 1))
    assert [len(data.train), len(data.test)] == [30, 10]
    assert data.test.labels.tolist() == list(range(10))
    assert sorted(torch.cat((data.train.rows, data.test.rows)).tolist()) == list(range(40))
    assert data.split_rule == "snnkd's own, 75/25 of each class, seed 0; cifar10-dvs has no official split"
    assert data.sha256 == again.sha256 != other.sha256
    assert torch.equal(data.test.rows, again.test.rows)
    assert not torch.equal(data.test.rows, other.test.rows)
    with pytest.raises(
        UsageError, match=r"data.test_fraction: 0.1 of 4 samples of airplane leaves a split empty"
    ):
        loaded(small("cifar10-dvs", test_fraction=0.1))


def test_validation_samples_are_of_the_training_part(here: Path) -> None:
    data, _ = loaded(small("cifar10-dvs"))
    held = hold_out(data, 0.2)
    assert held.val is not None
    assert sorted(torch.cat((held.train.rows, held.val.rows)).tolist()) == data.train.rows.tolist()
    for split in (held.train, held.val):
        for i in range(len(split)):
            assert split.labels[i] == split.rows[i] // 4


def test_frames_are_made_once_and_kept(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, heard = loaded(small("n-mnist"))
    assert any("integrating 40 samples" in line for line in heard)
    shutil.rmtree(here / "n-mnist" / event_files.EVENTS)
    again, heard = loaded(small("n-mnist"))
    (place,) = (here / "n-mnist").glob("frames-*")
    assert (again.sha256, heard) == (
        data.sha256,
        [f"warning: {place} has 40 samples of n-mnist; published are 70,000"],
    )
    content = (place / "frames.npy").read_bytes()
    (place / "frames.npy").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(
        FileError,
        match=r"n-mnist: Test.zip, Train.zip not in .*download; download .* and run `snnkd data n-mnist",
    ):
        loaded(small("n-mnist"))


def test_a_folder_that_spikingjelly_made_is_used_where_it_is(
    converted: dict[str, Path], cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNNKD_DATA", str(tmp_path / "other"))
    done = cli("data", "n-mnist", "--from", converted["n-mnist"], "--json")
    assert done.code == 0, done.err
    assert (done.json["classes"], done.json["shape"], done.json["frames"]) == (10, [2, 34, 34], 10)
    assert not (tmp_path / "other" / "n-mnist" / event_files.EVENTS).exists()


def test_frames_of_other_events_are_not_taken_for_those_asked_for(
    here: Path, converted: dict[str, Path], cli: Cli, tmp_path: Path
) -> None:
    words = ["data", "n-mnist", "--set", "data.frames=4"]
    assert cli(*words).code == 0
    (place,) = (here / "n-mnist").glob("frames-*")
    other = tmp_path / "other"
    shutil.copytree(converted["n-mnist"] / event_files.EVENTS, other / event_files.EVENTS)
    (other / event_files.EVENTS / "train" / "0" / "00000.npz").unlink()
    refused = cli(*words, "--from", other)
    assert refused.code == 3
    assert f"remove {place} and repeat" in refused.complaint
    assert cli(*words, "--from", here / "n-mnist").code == 0
    shutil.rmtree(place)
    for _ in range(2):
        done = cli(*words, "--from", other)
        assert done.code == 0, done.err
        assert "has 39 samples of n-mnist; published are 70,000" in " ".join(done.err.split())
    assert cli(*words).code == 0
    refused = cli(*words, "--from", here / "n-mnist")
    assert refused.code == 3
    assert f"are from the events in {other.resolve()}" in refused.complaint


@pytest.mark.parametrize("harm", ["bit", "truncated", "header", "labels", "about"])
def test_damaged_frames_are_made_anew(here: Path, harm: str) -> None:
    config = small("n-mnist", size=8)
    data, _ = loaded(config)
    (place,) = (here / "n-mnist").glob("frames-*")
    path = place / {"labels": "labels.npy", "about": "about.json"}.get(harm, "frames.npy")
    before = {file.name: file.read_bytes() for file in place.iterdir()}
    content = bytearray(path.read_bytes())
    content[-9 if harm == "labels" else 40 if harm in ("header", "about") else 2000] ^= 2
    path.write_bytes(content[: len(content) // 2] if harm == "truncated" else content)
    again, heard = loaded(config)
    assert again.sha256 == data.sha256
    assert any("integrating again" in line for line in heard)
    assert {file.name: file.read_bytes() for file in place.iterdir()} == before


@pytest.mark.nightly  # at chosen operations: faults/test_data_faults
def test_a_kill_leaves_nothing_half_used(here: Path) -> None:
    config = small("n-mnist")
    code = (
        "import os, signal\n"
        "from snnkd.data.sets import events\n"
        "from snnkd.data.download.archives import FetchOptions\n"
        "from snnkd.schema.events import NMNISTConfig\n"
        "from snnkd.console import Console\n"
        "integrate, calls = events.integrate, []\n"
        "def counted(*arguments):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 20: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return integrate(*arguments)\n"
        "events.integrate = counted\n"
        "events.load(NMNISTConfig(name='n-mnist', frames=4), Console(quiet=True), FetchOptions())\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert next(path.name for path in (here / "n-mnist").glob("*frames-*") if path.is_dir()).startswith(
        ".frames-"
    )
    assert list((here / "n-mnist").glob("frames-*")) == []
    killed, _ = loaded(config)
    assert not [path for path in (here / "n-mnist").glob(".frames-*") if path.is_dir()]
    shutil.rmtree(next((here / "n-mnist").glob("frames-*")))
    assert loaded(config)[0].sha256 == killed.sha256


def test_a_request_to_stop_ends_the_work(here: Path) -> None:
    from snnkd.errors import Preempted

    def stop(where: str) -> None:
        raise Preempted(where)

    with pytest.raises(Preempted, match="while integrating n-mnist"):
        loaded(small("n-mnist"), FetchOptions(stop=stop))
    assert not [path for path in (here / "n-mnist").glob("*frames-*") if path.is_dir()]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04 half", "damaged"),
        (None, "t, x, y and p differ in length"),
        ({"x": 34}, "x is 34 to 34 on a 34x34 sensor"),
        ({"y": -1}, "damaged: y is -1 to -1"),
        ({"t": 0.5}, "its events are not integers"),
    ],
)
def test_a_damaged_file_of_events_is_named(here: Path, content: Any, said: str) -> None:
    path = here / "n-mnist" / event_files.EVENTS / "test" / "4" / "00000.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        arrays = {key: np.zeros(50, int) for key in "txyp"}
        arrays |= {key: np.full(50, value) for key, value in (content or {}).items()}
        np.savez(path, **(arrays if content else {**arrays, "t": np.zeros(49, int)}))  # type: ignore[arg-type]
    with pytest.raises(FileError, match=f"{path}: .*{said}"):
        loaded(small("n-mnist"))


def test_a_tree_that_is_another_is_refused(here: Path) -> None:
    root = here / "n-mnist" / event_files.EVENTS
    (root / "train" / "3").rename(root / "train" / "three")
    with pytest.raises(FileError, match=r"its folders .*three are not the classes of n-mnist"):
        loaded(small("n-mnist"))
    shutil.rmtree(root / "test" / "5")
    (root / "test" / "5").mkdir()
    (root / "train" / "three").rename(root / "train" / "3")
    with pytest.raises(FileError, match="test: not the events of n-mnist"):
        loaded(small("n-mnist"))
    (here / "n-mnist" / f"{event_files.EVENTS}.building").touch()
    with pytest.raises(
        FileError,
        match=r"SpikingJelly was interrupted while converting; remove events_np.building and events_np",
    ):
        loaded(small("n-mnist"))


def test_archives_are_verified_and_what_a_kill_left_is_no_hindrance(
    published: Published, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "empty"
    monkeypatch.setenv("SNNKD_DATA", str(root))
    source = tmp_path / "copy"
    shutil.copytree(published["n-mnist"][0], source)
    whole = (source / "Test.zip").read_bytes()
    (source / "Test.zip").write_bytes(whole[:-1])
    refused = cli("data", "n-mnist", "--from", source)
    assert refused.code == 3
    assert "Test.zip is damaged" in refused.complaint
    assert (source / "Test.zip").read_bytes() == whole[:-1]  # nobody's file is removed
    (source / "Test.zip").write_bytes(whole)
    left = root / "n-mnist" / f".{event_files.EVENTS}.abcd1234.tmp"
    (left / "extract").mkdir(parents=True)
    (left / event_files.EVENTS).mkdir()
    (left / "lock").touch()
    done = cli("data", "n-mnist", "--from", source, "--set", "data.frames=2", "--json")
    assert done.code == 0, done.err
    assert (done.json["frames"], done.json["images"]) == (2, {"train": 30, "test": 10})
    assert sorted(path.name for path in (root / "n-mnist").iterdir() if not path.name.endswith(".lock"))[
        :2
    ] == ["download", event_files.EVENTS]


def test_files_inside_that_cannot_be_read_are_said(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published: Published
) -> None:
    """With the right checksum of wrong content: what SpikingJelly says of it comes in one line."""
    import hashlib
    import zipfile

    monkeypatch.setenv("SNNKD_DATA", str(tmp_path / "empty"))
    source = tmp_path / "wrong"
    source.mkdir()
    for thing in THINGS:
        with zipfile.ZipFile(source / f"{thing}.zip", "w") as archive:
            archive.writestr(f"{thing}/a.aedat", b"#!AER-DAT2.0\r\n" + b"\x00\x00\x01\x02" * 3)
    table = [(path.name, "", hashlib.md5(path.read_bytes()).hexdigest()) for path in sorted(source.iterdir())]
    monkeypatch.setattr(
        event_files.dataset_class("cifar10-dvs"), "resource_url_md5", classmethod(lambda cls: table)
    )
    refused = cli("data", "cifar10-dvs", "--from", source)
    assert refused.code == 3
    assert "airplane.zip" in refused.complaint
    assert "odd number of data elements" in refused.complaint
    assert not (tmp_path / "empty" / "cifar10-dvs" / event_files.EVENTS).exists()


@pytest.mark.nightly  # an interpreter of its own
def test_the_speech_data_sets_are_not_needed() -> None:
    """Their torchaudio does not load beside every torch."""
    code = (
        "import sys\n"
        "sys.modules['torchaudio'] = None\n"
        "from snnkd.data.sets.event_files import DATASETS, archives\n"
        "assert [len(archives(name)) for name in DATASETS] == [2, 10, 1]\n"
        "assert all(len(archive.md5) == 32 for name in DATASETS for archive in archives(name))\n"
        "assert 'spikingjelly.datasets' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_load_data_without_fetching_says_what_there_will_be(here: Path) -> None:
    with pytest.raises(FileError, match=r"n-mnist under .* is not integrated into 4 frames yet") as raised:
        load_data(small("n-mnist", size=17), Console(quiet=True), fetch=None)
    assert raised.value.nominal == (10, (2, 17, 17), 60_000)  # type: ignore[attr-defined]
