"""The memory that `snnkd check` states: of the process, and of training or evaluation, whichever needs more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Cli

RECIPE = """
stage: {stage}
data: {{name: glyphs, size: 32, train_images: 128, test_images: 256, augment: []}}
model: {{name: resnet20, width: 8}}
loss: none
train: {{epochs: 1, batch_size: 64}}
"""
PEAK = """
import resource, subprocess, sys
subprocess.run([sys.executable, "-m", "snnkd", *sys.argv[1:]], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


def stated(cli: Cli, stage: str, *settings: str) -> int:
    text = RECIPE.format(stage=stage)
    Path("r.yaml").write_text(text if stage == "distill" else text.replace("loss: none\n", ""))
    checked = cli("check", "r.yaml", *(word for setting in settings for word in ("--set", setting)), "--json")
    assert checked.code == 0, checked.err
    return int(checked.json["stages"][0]["memory_bytes"])


def test_training_and_evaluation_count(cli: Cli) -> None:
    small = stated(cli, "distill", "train.batch_size=2", "execution.eval_batch_size=1")
    training = stated(cli, "distill", "execution.eval_batch_size=1")
    halved = stated(cli, "distill", "execution.eval_batch_size=1", "execution.accumulate=2")
    evaluation = stated(cli, "distill", "train.batch_size=2", "execution.eval_batch_size=500")
    assert 2**29 < small < halved < training
    assert small < evaluation


@pytest.mark.nightly
@pytest.mark.parametrize(("stage", "settings"), [("teach", []), ("distill", ["model.T=4"])])
@pytest.mark.parametrize("batches", [(64, 4), (8, 256)])
def test_the_peak_is_within_half_of_it(
    cli: Cli, stage: str, settings: list[str], batches: tuple[int, int]
) -> None:
    keys = [*settings, f"train.batch_size={batches[0]}", f"execution.eval_batch_size={batches[1]}"]
    expected = stated(cli, stage, *keys)
    words = [stage, "r.yaml", *(word for key in keys for word in ("--set", key))]
    done = subprocess.run([sys.executable, "-c", PEAK, *words], capture_output=True, text=True, check=True)
    assert 0.5 < int(done.stdout) / expected < 1.5
