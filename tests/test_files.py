"""A file is whole or absent, whatever fails while it is written."""

import contextlib
import errno
import fcntl
import os
import stat
import sys
from pathlib import Path

import pytest

from snnkd import files
from snnkd.errors import FileError
from snnkd.files import replacing, sweep, temporary_folder

NAME = "a.bin"


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_writes_and_replaces(tmp_path):
    path = tmp_path / NAME
    files.write_atomic(path, b"one")
    files.write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert names(tmp_path) == {NAME}


def test_the_file_has_the_users_usual_rights(tmp_path):
    files.write_atomic(tmp_path / NAME, b"one")
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / NAME).stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("call", ["replace", "fsync", "fdopen", "chmod"])
def test_a_failure_leaves_the_old_content_and_no_temporary_file(tmp_path, monkeypatch, call):
    path = tmp_path / NAME
    files.write_atomic(path, b"old")
    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left"):
        files.write_atomic(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == {NAME}


def test_a_write_that_fails_half_way(tmp_path, monkeypatch):
    path = tmp_path / NAME
    files.write_atomic(path, b"old")
    opened = os.fdopen

    class Torn:
        def __init__(self, *words: object) -> None:
            self.file = opened(*words)

        def __enter__(self) -> "Torn":
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, content: bytes) -> None:
            self.file.write(content[:1])
            full()

    monkeypatch.setattr(os, "fdopen", Torn)
    with pytest.raises(OSError, match="No space left"):
        files.write_atomic(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == {NAME}


def test_a_keyboard_interrupt_leaves_no_temporary_file(tmp_path, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.write_atomic(tmp_path / NAME, b"new")
    monkeypatch.undo()
    assert names(tmp_path) == set()


def test_keep_keeps_the_previous(tmp_path):
    path, kept = tmp_path / NAME, tmp_path / "kept.bin"
    for content in (b"one", b"two", b"three"):
        files.write_atomic(path, content, keep=kept)
    assert (path.read_bytes(), kept.read_bytes()) == (b"three", b"two")
    assert names(tmp_path) == {NAME, "kept.bin"}


@pytest.mark.parametrize("failing", [1, 2])
def test_with_keep_the_last_content_outlives_either_rename(tmp_path, monkeypatch, failing):
    path, kept = tmp_path / NAME, tmp_path / "kept.bin"
    for content in (b"one", b"two"):
        files.write_atomic(path, content, keep=kept)
    calls, replace = [], os.replace

    def fail_once(*words: str) -> None:
        calls.append(words)
        if len(calls) == failing:
            full()
        replace(*words)

    monkeypatch.setattr(os, "replace", fail_once)
    with pytest.raises(OSError, match="No space left"):
        files.write_atomic(path, b"three", keep=kept)
    assert (path if path.exists() else kept).read_bytes() == b"two"
    assert not [name for name in names(tmp_path) if name.endswith(".tmp")]


def test_the_order_of_the_calls_outlasts_a_power_cut(tmp_path, monkeypatch):
    path = tmp_path / NAME
    calls: list[tuple[str, str, int]] = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor: int) -> None:
        target = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        calls.append(
            (
                "fsync",
                "folder" if target == tmp_path else "temporary",
                target.stat().st_size if target.is_file() else 0,
            )
        )
        fsync(descriptor)

    def record_replace(source: str, target: str) -> None:
        calls.append(("replace", Path(target).name, Path(source).stat().st_size))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    files.write_atomic(path, b"12345")
    # all five bytes are in the file when it is synced, it is synced before it is renamed, the folder after
    assert calls == [("fsync", "temporary", 5), ("replace", NAME, 5), ("fsync", "folder", 0)]
    calls.clear()
    files.write_atomic(path, b"1234567", keep=tmp_path / "kept")
    assert calls == [
        ("fsync", "temporary", 7),
        ("replace", "kept", 5),
        ("replace", NAME, 7),
        ("fsync", "folder", 0),
    ]


def test_json_round_trip(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"ä": [1, None], "b": 0.1})
    assert files.read_json(path) == {"ä": [1, None], "b": 0.1}
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(path, {"b": float("nan")})
    assert files.read_json(path)["b"] == 0.1


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"", "not a JSON file"),
        (b'{"a": 1', "not a JSON file"),
        (b"\xff\xfe\xfa", "not a JSON file"),
        (b"[" * 100_000, "not a JSON file"),
        (b"[1]", "holds a list"),
        (b"null", "holds a NoneType"),
    ],
)
def test_trouble_with_json_is_one_line(tmp_path, content, hint):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(FileError, match=hint) as caught:
        files.read_json(path)
    assert str(caught.value).splitlines() == [str(caught.value)]
    assert str(caught.value).startswith(str(path))


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(FileError, match=r"absent: no such file or directory$"):
        files.read_bytes(tmp_path / "absent")
    with pytest.raises(FileError, match=r"is a directory$"):
        files.read_json(tmp_path)


def test_the_checksum_of_parts_is_that_of_the_whole():
    assert files.sha256(b"ab", memoryview(b"c")) == files.sha256(b"abc")


def test_what_a_killed_write_left_is_swept_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    dead = [tmp_path / f".{name}.abcd12_9.tmp" for name in ("last.pt", "model.safetensors")]
    others = [
        tmp_path / name for name in (".mine.tmp", "last.pt.abcd1234.tmp", ".last.pt.tmp", ".x.ABCD1234.tmp")
    ]
    for path in (*dead, *others):
        path.write_bytes(b"part")
    with replacing(tmp_path / "last.pt") as file:
        file.write(b"whole")
        assert not dead[0].exists(), "of the same file, by any write"
        assert dead[1].exists()
        sweep(tmp_path)
    assert (tmp_path / "last.pt").read_bytes() == b"whole"
    assert sorted(tmp_path.iterdir()) == sorted([*others, tmp_path / "last.pt"])
    sweep(tmp_path / "absent")


def test_a_folder_that_a_killed_write_left_is_swept_and_one_in_use_is_not(tmp_path: Path) -> None:
    dead = [tmp_path / f".{name}.abcd12_9.tmp" for name in ("onnx", "frames")]
    for path in dead:
        (path / "new").mkdir(parents=True)
        (path / "lock").touch()
    (tmp_path / ".onnx.abcd1234.tmp").mkdir()  # killed before it locked
    with temporary_folder(tmp_path / "onnx") as folder:
        assert not dead[0].exists(), "of the same target, by any write"
        assert dead[1].exists()
        sweep(tmp_path)
        assert list(tmp_path.iterdir()) == [folder]
        (folder / "new").write_bytes(b"whole")
        (folder / "new").rename(tmp_path / "onnx")
    assert list(tmp_path.iterdir()) == [tmp_path / "onnx"]


def test_a_folder_in_use_is_not_swept_where_folders_have_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on NFS, where the lock of a folder is seen by its own machine only."""
    flock = fcntl.flock

    def flock_of_files(descriptor: int, operation: int) -> None:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock_of_files)
    with temporary_folder(tmp_path / "onnx") as folder:
        (folder / "new").mkdir()
        sweep(tmp_path)
        assert (folder / "new").exists()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_folder_is_removed_where_open_files_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on NFS, which keeps a removed file under another name until it is closed."""
    unlink = os.unlink

    def rename_or_unlink(path: str, *, dir_fd: int | None = None) -> None:
        status = os.stat(path, dir_fd=dir_fd)
        for each in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                if os.path.samestat(each.stat(), status):
                    os.rename(path, ".nfs0001", src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
                    return
        unlink(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", rename_or_unlink)
    with temporary_folder(tmp_path / "onnx") as folder:
        (folder / "new").touch()
    assert not list(tmp_path.iterdir())
