"""`snnkd data` struck at its file operations while it decodes a folder: then the command again, and the same
bytes."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
from data.pictures import picture_folder
from faults.forks import Forks

WORDS = ["data", "imagefolder:pictures", "--set", "data.size=8", "--json"]


@pytest.mark.parametrize(
    ("act", "every"),
    [
        ("kill", 4),
        ("full", 9),
        pytest.param("kill", 1, marks=pytest.mark.nightly),
        pytest.param("full", 3, marks=pytest.mark.nightly),
        pytest.param("read-only", 5, marks=pytest.mark.nightly),
    ],
)
def test_struck_at_an_operation_a_folder_is_decoded_whole_or_not_at_all(
    forks: Forks, tmp_path: Path, act: str, every: int
) -> None:
    pictures = picture_folder(tmp_path / "pictures", train=2, test=1)
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "pictures").symlink_to(pictures)
    operations = forks.operations(whole, WORDS)
    assert len(operations) > 8
    (expected,) = [path.read_bytes() for path in (whole / "data").glob("*.bin")]
    for number, operation in list(enumerate(operations, 1))[::every]:
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "pictures").symlink_to(pictures)
        status = forks.run(folder, WORDS, stop_at=number, act=act)
        assert status == {"kill": -signal.SIGKILL, "full": 4, "read-only": 3}[act], (
            f"{operation}: {(folder / 'err').read_text()}"
        )
        if act != "kill":
            assert (folder / "err").read_text().count("snnkd: ") == 1, operation
        assert forks.run(folder, WORDS) == 0, f"{operation}: {(folder / 'err').read_text()}"
        (made,) = [path.read_bytes() for path in (folder / "data").glob("*.bin")]
        assert made == expected, operation
        shutil.rmtree(folder)
