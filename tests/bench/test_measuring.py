"""The programs that measure speed: what they time, and what the README makes of it."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from conftest import results_script

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def speed_tables() -> ModuleType:
    results_script("render")  # puts the modules beside it on the path
    return importlib.import_module("speed_tables")


@pytest.mark.nightly  # a program of recipes/results
def test_measures_the_epochs_of_a_run_but_the_first() -> None:
    result = results_script("speed/measure").measure_epochs("resnet8", 1, images=256, epochs=2, device="cpu")
    assert result["epochs"] == 2
    assert result["images"] == 256
    assert 0 < result["seconds"]["q1"] <= result["seconds"]["median"] <= result["seconds"]["q3"] < 60


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.nightly  # a program of .ci
def test_gpu_script_needs_a_gpu(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    words = ["bash", str(ROOT / ".ci" / "gpu.sh"), str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "no GPU here\n")
    assert not list((tmp_path / "out").iterdir())


def test_shows_every_measured_machine(
    speed_tables: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(speed_tables.SPEED, tmp_path, dirs_exist_ok=True)
    result = json.loads((tmp_path / "bench-resnet20-avx2.json").read_text())
    result["hardware"] |= {"device": "cuda", "gpu": "A Card"}
    result["baseline"]["ratio"] = {"median": 4.56, "q1": 4.5, "q3": 4.6}
    del result["ablations"]
    (tmp_path / "bench-resnet99-gpu.json").write_text(json.dumps(result))
    settings = {"model": "resnet99", "T": 2, "batch_size": 128, "images": 50000, "epochs": 5}
    epoch = {"epoch": {**settings, "precision": "bf16", "seconds": {"median": 5.5, "q1": 5.4, "q3": 5.75}}}
    (tmp_path / "epoch-resnet99-gpu.json").write_text(json.dumps({**result, **epoch}))
    before = speed_tables.steps()
    monkeypatch.setattr(speed_tables, "SPEED", tmp_path)
    after = speed_tables.steps()
    assert set(before.split("\n\n")) <= set(after.split("\n\n"))
    assert "4.56 (4.50 to 4.60) times the images/s of the baseline loop" in after
    assert "An epoch of 50,000 images of resnet99, T = 2, batch 128, hta-kl, " in after
    assert "takes 5.50 (5.40 to 5.75) s" in after
    assert "(median and quartiles of 5 epochs; bf16)" in after
    assert after.count("On: A Card, torch ") == 2


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ((0.021, 0.012), "2.10 % of 30 ms at T = 1, batch 16, 10 classes, elsewhere at most 1.20 %"),
        (
            (0.03, 0.02),
            "3.00 % of 30 ms at T = 1, batch 16, 10 classes; 2.00 % of 30 ms at T = 2, batch 16, 10 classes.",
        ),
        ((0.019, 0.012), "the same table by 3 runs: at most 1.90 %"),
    ],
)
def test_largest_shares_of_the_loss_on_another_machine(
    speed_tables: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shares: tuple[float, float],
    expected: str,
) -> None:
    shutil.copytree(speed_tables.SPEED, tmp_path, dirs_exist_ok=True)
    result = json.loads((tmp_path / "growth.json").read_text())
    result["growth"] = [
        {"T": T, "batch": 16, "classes": 10, "ms": {"median": 30}, "loss_share": {"median": share}}
        for T, share in zip((1, 2), shares, strict=True)
    ]
    (tmp_path / "growth-other.json").write_text(json.dumps(result))
    monkeypatch.setattr(speed_tables, "SPEED", tmp_path)
    assert expected in speed_tables.growth()
