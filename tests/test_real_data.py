"""The real CIFAR-100 through npz:, where the project's shared folder stands beside the checkout; skipped
elsewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Cli

from snnkd.stopping import Stop

UNPACK = Path(__file__).resolve().parents[2] / "shared" / "data" / "unpack.py"


@pytest.mark.skipif(not UNPACK.exists(), reason=f"no CIFAR-100 at {UNPACK}")
@pytest.mark.nightly  # the parts: data/test_cifar, test_resume
def test_cifar100_trains_resumes_and_evaluates(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run([sys.executable, UNPACK, "c100.npz", "--per-class", "5"], check=True, capture_output=True)
    words = [
        "--data",
        "npz:c100.npz",
        "--model",
        "resnet20",
        "--epochs",
        1,
        "--batch-size",
        50,
        "--set",
        "data.augment=[crop, flip]",
        "--set",
        "model.width=8",
    ]
    teacher = cli("teach", *words)
    assert teacher.code == 0, teacher.err
    assert teacher.out.startswith("runs/teach-npz_c100-resnet20-")
    student = ["distill", *words, "--loss", "hta-kl", "--T", 2, "--allow-weak-teacher"]
    whole = cli(*student)
    assert whole.code == 0, whole.err
    # the same run again under another name, stopped in its middle
    with monkeypatch.context() as patch:
        left = iter(range(3))
        patch.setattr(
            Stop, "reason", property(lambda self: None if next(left, None) is not None else "SIGTERM")
        )
        stopped = cli(*student, "--out", "again")
    assert stopped.code == 75
    assert "after step 3 of 10" in stopped.complaint
    assert cli(*student, "--out", "again").code == 0
    assert Path("again/model.safetensors").read_bytes() == (whole.folder / "model.safetensors").read_bytes()
    result = cli("eval", "again", "--json").json
    assert result["images"] == 100
    assert len(result["curve"]) == 2
