"""A disk that is really full, and a run directory that disappears: one line, the right exit code, nothing
lost."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.forks import Forks, alive

TEACH = ["teach", "--set", "data.classes=10", "--set", "data.train_images=300", "--set", "data.test_images=100", "--epochs", "40",
         "--batch-size", "50", "--set", "model.width=4", "--out", "place/run"]  # fmt: skip


def _complaint(folder: Path) -> str:
    said = (folder / "err").read_text()
    (line,) = [line for line in said.splitlines() if line.startswith("snnkd: ")]
    assert "Traceback" not in said
    return line


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 KB at `place`."""
    place = tmp_path / "place"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a tmpfs needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_keeps_the_previous_checkpoint_and_continues_when_there_is_room(
    forks: Forks, small_disk: Path
) -> None:
    """Half a checkpoint fits beside what stands there already; a ballast file fills the rest."""
    root = small_disk.parent
    assert forks.run(root, [*TEACH, "--max-time", "0s"]) == 75
    used = sum(path.stat().st_size for path in small_disk.rglob("*") if path.is_file())
    size = (small_disk / "run/last.pt").stat().st_size
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * (300 * 1024 - used - size // 2 - 20_000))
    before = (small_disk / "run/last.pt").read_bytes()
    assert forks.run(root, TEACH) == 4
    assert "the disk is full" in _complaint(root)
    assert before in [path.read_bytes() for path in (small_disk / "run").glob("*.pt")]
    assert not list((small_disk / "run").glob("*.tmp"))
    ballast.unlink()
    assert forks.run(root, TEACH) == 0
    assert "continuing in epoch 1" in (root / "err").read_text()


def test_a_directory_that_disappears(forks: Forks, tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    pid = forks.start(tmp_path, TEACH)
    while not (tmp_path / "place/run/last.pt").exists() and alive(pid):
        time.sleep(0.01)
    shutil.rmtree(tmp_path / "place")
    assert forks.wait() == 3
    assert "no such file or directory" in _complaint(tmp_path)
    (tmp_path / "place").mkdir()
    assert forks.run(tmp_path, TEACH) == 0
