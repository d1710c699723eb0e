"""One process per run, and the lock goes with its process."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from snnkd import distributed, locks
from snnkd.distributed import PeerLost
from snnkd.errors import FileError, Interrupted, Preempted, RunError, SnnkdError
from snnkd.exports.install import install
from snnkd.files import replacing, write_atomic
from snnkd.runs.folder import CHECKPOINT
from snnkd.runs.lock import NAME, Lock, is_held, read_holder, warn_of_local_locks
from snnkd.runs.metrics import append_metrics
from snnkd.runs.status import run_status
from snnkd.training.checkpoint import remove_state, save_state

HOLD = """
import sys, time
from pathlib import Path
from snnkd.runs.lock import Lock
with Lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_run_held_by_another_process(tmp_path, holder):
    assert is_held(tmp_path)
    with (
        pytest.raises(
            FileError, match=f"held by process {holder.pid} on .* since .*; wait for it or stop it"
        ) as caught,
        Lock(tmp_path),
    ):
        pass
    assert str(caught.value).startswith(str(tmp_path))
    assert read_holder(tmp_path)["pid"] == holder.pid  # still the holder's words


def test_a_killed_process_holds_nothing(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert not is_held(tmp_path)
    assert read_holder(tmp_path)["state"] == "running"
    with Lock(tmp_path):
        assert is_held(tmp_path)
        assert read_holder(tmp_path)["pid"] == os.getpid()


@pytest.mark.parametrize(
    ("error", "state", "why"),
    [
        (None, "done", None),
        (Preempted("by SIGTERM"), "stopped", "by SIGTERM"),
        (Interrupted("by SIGINT"), "stopped", "by SIGINT"),
        (RunError("no memory"), "failed", "RunError: no memory"),
        (ValueError("line one\nline two"), "failed", "ValueError: line one"),
    ],
)
def test_the_file_says_how_it_ended(tmp_path, error, state, why):
    if error is None:
        with Lock(tmp_path):
            pass
    else:
        with pytest.raises(type(error)), Lock(tmp_path):
            raise error
    said = read_holder(tmp_path)
    assert (said["state"], said.get("why")) == (state, why)
    assert not is_held(tmp_path)


def test_a_look_at_the_lock_does_not_take_it(tmp_path):
    with Lock(tmp_path / "new" / "folder"):
        pass
    assert not is_held(tmp_path / "new" / "folder")
    assert not is_held(tmp_path / "absent")
    with Lock(tmp_path / "new" / "folder"):
        pass


def test_a_folder_that_cannot_be_written(tmp_path):
    Path("file").write_text("")
    with pytest.raises(FileError, match=r"file: file exists$"), Lock(tmp_path / "file"):
        pass


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff"])
def test_a_damaged_lock_file_says_nothing_and_can_be_taken(tmp_path, content):
    (tmp_path / NAME).write_bytes(content)
    assert read_holder(tmp_path) == {}
    with Lock(tmp_path):
        assert json.loads((tmp_path / NAME).read_text())["state"] == "running"


def moved(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


def restored(folder: Path) -> None:
    shutil.copytree(folder, folder.with_name("backup"))
    shutil.rmtree(folder)
    folder.with_name("backup").rename(folder)


def unlocked(folder: Path) -> None:
    (folder / NAME).unlink()


def locked_anew(folder: Path) -> None:
    """As a second process does after the lock file was removed."""
    unlocked(folder)
    (folder / NAME).write_text("{}")


LOST = [moved, restored, unlocked, locked_anew]
WRITES: list[Callable[[Path], None]] = [
    lambda run: write_atomic(run / "file", b""),
    lambda run: append_metrics(run, {"epoch": 1}),
    lambda run: save_state(run, {}),
    remove_state,
    lambda run: install(run / "export" / "nir", False, lambda path: None),
]


@pytest.mark.parametrize("change", LOST)
def test_nothing_is_written_into_a_run_that_was_taken_away(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    run = tmp_path / "run"
    with Lock(run):
        write_atomic(run / "last.pt", b"mine")
        change(run)
        before = contents(tmp_path)
        for write in WRITES:
            with pytest.raises(FileError, match="moved or removed while in use; repeat the command"):
                write(run)
        assert contents(tmp_path) == before
    write_atomic(tmp_path / "file", b"")
    with Lock(run):
        write_atomic(run / "file", b"again")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def replace_late(run: Path) -> None:
    """Restore the folder while a file of it is being written, as after SIGSTOP."""
    with replacing(run / "last.pt") as file:
        file.write(b"mine")
        restored(run)
        (run / "last.pt").write_bytes(b"theirs")


def test_a_write_that_was_suspended_replaces_nothing(tmp_path: Path) -> None:
    with Lock(tmp_path / "run"), pytest.raises(FileError, match="not the one that this process locked"):
        replace_late(tmp_path / "run")
    assert (tmp_path / "run" / "last.pt").read_bytes() == b"theirs"


def _starts(folder: Path, errors: list[BaseException | None]) -> list[int]:
    """The exit codes of starts that end with these errors; without one by a kill, which records nothing."""
    codes = []
    for error in errors:
        if error is None:
            with Lock(folder):
                record = (folder / NAME).read_bytes()
            (folder / NAME).write_bytes(record)
            codes.append(-9)
            continue
        with pytest.raises(SnnkdError) as caught, Lock(folder):
            raise error
        codes.append(caught.value.exit_code)
    return codes


def test_starts_that_end_alike_without_a_checkpoint_are_a_failure_at_last(tmp_path):
    """A batch script requeues a job that ends with 75, and must not do so for ever."""
    stopped = Preempted("stopped by SIGTERM in epoch 1; the same command continues")
    assert _starts(tmp_path, [stopped, None, stopped, PeerLost("another process ended"), stopped]) == [
        *(75, -9, 75, 75),
        4,
    ]
    assert read_holder(tmp_path)["why"] == (
        f"{tmp_path}: 5 starts in a row without a new checkpoint, the last: "
        "stopped by SIGTERM in epoch 1; read the job's output"
    )
    assert _starts(tmp_path, [stopped] * 2) == [75, 75], "after a failure it is somebody's decision"
    for time in range(4):
        (tmp_path / CHECKPOINT).write_text("")
        os.utime(tmp_path / CHECKPOINT, (time, time))
        assert _starts(tmp_path, [stopped] * 2) == [75, 75], "each new checkpoint counts as progress"


def test_a_user_may_stop_a_run_as_often_as_he_likes(tmp_path):
    codes = _starts(tmp_path, [*[Interrupted("stopped by SIGINT")] * 7, Preempted("stopped by SIGTERM")])
    assert codes == [*[130] * 7, 75]


def test_a_run_that_is_killed_each_time_is_failed(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    _starts(tmp_path, [None] * 4)
    assert run_status(tmp_path).state == "stale"
    _starts(tmp_path, [None])
    assert (run_status(tmp_path).state, run_status(tmp_path).note) == (
        "failed",
        "killed at its 5th start in a row without a new checkpoint",
    )
    (tmp_path / CHECKPOINT).write_text("")
    assert run_status(tmp_path).state == "stale", "the last start came further"


@pytest.mark.parametrize(
    ("mount", "kind"),
    [
        ("home:/export {} nfs4 rw,vers=4.2,local_lock=none 0 0", None),
        ("home:/export {} nfs rw,vers=3,nolock,local_lock=all 0 0", "nfs, nolock"),
        ("10.0.0.1@tcp:/scratch {} lustre rw,flock 0 0", None),
        ("10.0.0.1@tcp:/scratch {} lustre rw,localflock 0 0", "lustre, localflock"),
        ("me@host: {} fuse.sshfs rw 0 0", "fuse.sshfs"),
        ("me@host: /somewhere/else fuse.sshfs rw 0 0", None),
    ],
)
def test_locks_that_other_machines_do_not_see(tmp_path, monkeypatch, mount, kind):
    Path("mounts").write_text(
        f"/dev/sda / ext4 rw 0 0\n{mount.format(tmp_path)}\n/dev/sdb {tmp_path}/x ext4 rw 0 0\n"
    )
    monkeypatch.setattr(locks, "MOUNTS", Path("mounts").absolute())
    assert locks.local_locks(tmp_path / "runs" / "new") == kind
    lines = []
    console = SimpleNamespace(log=lines.append)
    warn_of_local_locks(tmp_path / "run", console)
    assert not lines, "outside a job nobody shares it"
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    with Lock(tmp_path / "run"):
        warn_of_local_locks(tmp_path / "run", console)
    assert lines == (
        []
        if kind is None
        else [
            f"warning: the lock of {tmp_path}/run is not seen on other machines ({kind}); "
            "start this run nowhere else at the same time"
        ]
    )


def test_a_machine_of_the_job_that_does_not_see_the_lock_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "all_gather", lambda value: [value, ("n2", True)])
    lines = []
    with Lock(tmp_path):
        warn_of_local_locks(tmp_path, SimpleNamespace(log=lines.append))
    assert lines == [
        f"warning: the lock of {tmp_path} is not seen on n2; start this run nowhere else at the same time"
    ]


@pytest.mark.nightly
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("bindfs") is None, reason="needs root and bindfs")
def test_flock_of_a_fuse_file_system_stays_in_its_mount(tmp_path):
    """Two mounts of one folder are as two machines with sshfs: files and renames are shared, locks are not."""
    for name in ("folder", "one", "two"):
        Path(name).mkdir()
    mounts = [tmp_path / "one", tmp_path / "two"]
    try:
        for mount in mounts:
            subprocess.run(["bindfs", "folder", mount], check=True)
        with Lock(mounts[0] / "run"):
            write_atomic(mounts[0] / "run" / "file", b"content")
            assert (mounts[1] / "run" / "file").read_bytes() == b"content"
            assert is_held(mounts[0] / "run")
            assert not is_held(mounts[1] / "run")
    finally:
        for mount in mounts:
            subprocess.run(["umount", mount], check=False)
