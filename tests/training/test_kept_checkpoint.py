"""Checkpoints of earlier versions of snnkd load: one of each format is kept beside this file.

Made by `snnkd teach` with the words below, stopped twice by --max-time 0s; continuing it is bitwise only with the same
versions of torch and numpy, so that only loading and going on are asked for here.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import Cli

from snnkd.training.checkpoint import LAST, MAGIC

KEPT = sorted((Path(__file__).parent / "kept").glob("checkpoint-*.pt"))
WORDS = ["teach", "--set", "data.classes=2", "--set", "data.train_images=40", "--set", "data.test_images=20", "--set", "data.size=8",
         "--epochs", 3, "--batch-size", 20, "--set", "model.width=1", "--out", "run"]  # fmt: skip


def test_the_present_format_is_kept() -> None:
    assert KEPT[-1].read_bytes().startswith(MAGIC)


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.stem)
def test_it_is_continued(cli: Cli, kept: Path) -> None:
    assert cli(*WORDS, "--max-time", "0s").code == 75
    shutil.copy(kept, Path("run", LAST))
    ended = cli(*WORDS)
    assert ended.code == 0, ended.err
    assert "continuing in epoch 2 of 3, after step 1 of 2" in ended.err
    assert "warning" not in ended.err


def test_one_of_a_version_to_come_is_refused_by_name(cli: Cli) -> None:
    assert cli(*WORDS, "--max-time", "0s").code == 75
    later = Path("run", LAST).read_bytes().replace(b"snnkd checkpoint 1", b"snnkd checkpoint 7", 1)
    Path("run", LAST).write_bytes(later)
    Path("run/previous.pt").unlink(missing_ok=True)
    ended = cli(*WORDS)
    assert ended.code == 3
    assert "snnkd checkpoint 7" in ended.complaint
    assert Path("run", LAST).read_bytes() == later
