"""Checkpoints: one file with a checksum; the previous one is kept; loading runs no code."""

from __future__ import annotations

import io
import pickletools
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from snnkd import distributed
from snnkd.console import Console
from snnkd.errors import FileError
from snnkd.files import check_guard, read_bytes, sha256, write_atomic
from snnkd.runs.folder import CHECKPOINT

LAST = CHECKPOINT
PREVIOUS = "previous.pt"
MAGIC = b"snnkd checkpoint 1 "
"""Format version, followed by the sha256 of the rest and a newline."""


@distributed.on_rank0
def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write `state` as last.pt; the old one becomes previous.pt. On an OSError both stay intact."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    write_atomic(folder / LAST, MAGIC + sha256(payload).encode() + b"\n" + payload, keep=folder / PREVIOUS)


@distributed.on_rank0
def load_state(
    folder: Path, console: Console, restore: Callable[[dict[str, Any]], None] = lambda state: None
) -> dict[str, Any] | None:
    """Load the newest intact checkpoint and pass it to `restore`; None if there is no checkpoint.

    If last.pt is damaged or `restore` fails on it, logs that and uses previous.pt. Raises FileError if no
    checkpoint is usable.
    """
    errors: list[str] = []
    for name in (LAST, PREVIOUS):
        path = folder / name
        if not path.exists():
            continue
        try:
            state = _read(path)
            _restore(state, restore, path)
        except FileError as error:
            errors.append(str(error))
            continue
        if errors:
            console.log(f"warning: {errors[0]}; continuing from {name}")
        return state
    if errors:
        raise FileError("; ".join(errors) + "; no usable checkpoint is left, --fresh starts over")
    return None


def _restore(state: dict[str, Any], restore: Callable[[dict[str, Any]], None], path: Path) -> None:
    try:
        restore(state)
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        IndexError,
        RuntimeError,
        OverflowError,
    ) as error:
        reason = (str(error).strip().splitlines() or [""])[0][:100]
        raise FileError(
            f"{path}: not the state of this run ({type(error).__name__}: {reason}); the file is damaged"
        ) from error


def _read(path: Path) -> dict[str, Any]:
    head, _, payload = read_bytes(path).partition(b"\n")
    if not head.startswith(MAGIC):
        version = head[:40].decode("ascii", "replace")
        raise FileError(
            f"{path}: starts with {version!r}, not {MAGIC.decode()!r}; "
            "not a checkpoint of this version of snnkd"
        )
    if sha256(payload) != head[len(MAGIC) :].decode("ascii", "replace"):
        raise FileError(f"{path}: its checksum does not match its {len(payload)} bytes; the file is damaged")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            _check_archive(payload)
            state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in many ways
        raise FileError(
            f"{path}: {(str(error).splitlines() or [type(error).__name__])[0]}; the file is damaged"
        ) from error
    if not isinstance(state, dict):
        raise FileError(f"{path}: contains a {type(state).__name__}, not the state of a run")
    return state


def _check_archive(payload: bytes) -> None:
    """Raise ValueError for content that torch.save never writes: compressed members and other globals."""
    with zipfile.ZipFile(io.BytesIO(payload)) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED or member.file_size > len(payload):
                raise ValueError(f"its member {member.filename!r} is compressed")
            if member.filename.endswith("data.pkl"):
                _check_pickle(archive.read(member))


def _check_pickle(content: bytes) -> None:
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("GLOBAL", "STACK_GLOBAL", "INST") and not str(argument).startswith(
            ("torch", "collections OrderedDict")
        ):
            raise ValueError(f"it calls {argument}")


def has_state(folder: Path) -> bool:
    return (folder / LAST).exists() or (folder / PREVIOUS).exists()


def remove_state(folder: Path) -> None:
    for name in (LAST, PREVIOUS):
        check_guard(folder / name)
        (folder / name).unlink(missing_ok=True)
