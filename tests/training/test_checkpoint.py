"""Checkpoints are whole or refused, the previous one stays, and nothing in them runs code."""

import errno
import io
import os
import pickle
from pathlib import Path

import pytest
import torch

from snnkd import files
from snnkd.console import Console
from snnkd.errors import FileError
from snnkd.training import checkpoint
from snnkd.training.checkpoint import LAST, MAGIC, PREVIOUS, load_state, remove_state, save_state


class Listener(Console):
    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def log(self, line: str) -> None:
        self.lines.append(line)


def content(number: int) -> dict[str, object]:
    optimizer = {
        "state": {0: {"momentum_buffer": torch.full((3,), float(number))}},
        "param_groups": [{"lr": 0.1, "params": [0]}],
    }
    return {
        "number": number,
        "network": {"weight": torch.arange(4.0)},
        "optimizer": optimizer,
        "best": None,
        "nested": [(1, "a")],
    }


def load(folder: Path) -> tuple[object, list[str]]:
    listener = Listener()
    made = load_state(folder, listener)
    return (made and made["number"]), listener.lines


def seal(path: Path, payload: bytes) -> None:
    """A checkpoint with a correct checksum, whatever is in it."""
    path.write_bytes(MAGIC + files.sha256(payload).encode() + b"\n" + payload)


def refusal(folder: Path) -> str:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(FileError) as caught:
        load(folder)
    assert str(caught.value).splitlines() == [str(caught.value)]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    return str(caught.value)


def test_round_trip(tmp_path):
    save_state(tmp_path, content(1))
    made = load_state(tmp_path, Listener())
    assert made is not None
    assert made["network"]["weight"].equal(torch.arange(4.0))
    assert made["optimizer"]["state"][0]["momentum_buffer"].tolist() == [1, 1, 1]
    assert (made["best"], made["nested"]) == (None, [(1, "a")])


def test_no_checkpoint(tmp_path):
    assert load(tmp_path) == (None, [])


def test_the_previous_is_kept_and_both_are_removed_together(tmp_path):
    for number in (1, 2, 3):
        save_state(tmp_path, content(number))
    assert load(tmp_path) == (3, [])
    (tmp_path / LAST).unlink()
    assert load(tmp_path) == (2, [])  # as after a kill between the two renames
    remove_state(tmp_path)
    remove_state(tmp_path)
    assert list(tmp_path.iterdir()) == []


def damage_flip(raw: bytes) -> bytes:
    return raw[:-20] + bytes([raw[-20] ^ 1]) + raw[-19:]


@pytest.mark.parametrize(
    "damage",
    [damage_flip, lambda raw: raw[:-1], lambda raw: raw[:50], lambda raw: b"", lambda raw: b"\n" + raw],
)
def test_a_damaged_last_one_is_told_and_the_previous_taken(tmp_path, damage):
    for number in (1, 2):
        save_state(tmp_path, content(number))
    raw = (tmp_path / LAST).read_bytes()
    (tmp_path / LAST).write_bytes(damage(raw))
    number, (line,) = load(tmp_path)
    assert number == 1
    assert line.startswith("warning: ")
    assert str(tmp_path / LAST) in line
    assert PREVIOUS in line


def test_the_checksum_finds_a_single_bit_anywhere(tmp_path):
    save_state(tmp_path, content(1))
    raw = (tmp_path / LAST).read_bytes()
    for place in range(len(MAGIC) + 65, len(raw), 97):
        (tmp_path / LAST).write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        assert "checksum" in refusal(tmp_path)


def test_two_damaged_ones_are_refused_and_left_as_they_are(tmp_path):
    for number in (1, 2):
        save_state(tmp_path, content(number))
    for name in (LAST, PREVIOUS):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-1])
    message = refusal(tmp_path)
    assert str(tmp_path / LAST) in message
    assert str(tmp_path / PREVIOUS) in message
    assert "--fresh" in message


class Trap:
    """Unpickling this makes a folder."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("sprung",)


def as_torch() -> bytes:
    buffer = io.BytesIO()
    torch.save({"number": Trap()}, buffer)
    return buffer.getvalue()


def as_old_torch() -> bytes:
    buffer = io.BytesIO()
    torch.save({"number": Trap()}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "make",
    [as_torch, as_old_torch, lambda: pickle.dumps({"number": Trap()}), lambda: pickle.dumps(Trap(), 0)],
)
def test_code_in_a_checkpoint_never_runs(tmp_path, make):
    seal(tmp_path / LAST, make())
    assert LAST in refusal(tmp_path)
    assert not Path("sprung").exists()


@pytest.mark.parametrize(
    "payload", [b"", b"\n", b"not a checkpoint", b"PK\x03\x04", pickle.dumps([1, 2]), b"\x80\x02." * 5]
)
def test_other_content_under_a_correct_checksum(tmp_path, payload):
    seal(tmp_path / LAST, payload)
    refusal(tmp_path)


def test_what_is_no_state(tmp_path):
    buffer = io.BytesIO()
    torch.save([1, 2], buffer)
    seal(tmp_path / LAST, buffer.getvalue())
    assert "contains a list" in refusal(tmp_path)


def test_another_version_is_named(tmp_path):
    save_state(tmp_path, content(1))
    raw = (tmp_path / LAST).read_bytes()
    (tmp_path / LAST).write_bytes(raw.replace(b"checkpoint 1 ", b"checkpoint 2 ", 1))
    assert "snnkd checkpoint 2 " in refusal(tmp_path)


def test_a_full_disk_leaves_both_intact(tmp_path, monkeypatch):
    for number in (1, 2):
        save_state(tmp_path, content(number))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_state(tmp_path, content(3))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_no_other_reader_of_pickles_stands_in_the_package():
    package = Path(checkpoint.__file__).parent.parent
    for path in package.rglob("*.py"):
        text = path.read_text()
        assert text.count("torch.load(") == text.count("weights_only=True"), path
        for word in ("pickle.load", "allow_pickle=True", "weights_only=False", "joblib", "marshal.load"):
            assert word not in text, path
