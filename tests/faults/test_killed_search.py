"""A search that is killed within a task and continued by the same command."""

from __future__ import annotations

import signal
from pathlib import Path

from faults.forks import Forks

SEARCH = """\
stage: distill
loss: none
data: {name: glyphs, classes: 4, size: 8, train_images: 40, test_images: 8, val_fraction: 0.2}
model: {width: 2, T: 1}
train: {epochs: 2, batch_size: 8}
sweep: {train.lr: {log_uniform: [0.01, 0.1]}}
search: {samples: 2}
"""


def test_it_ends_with_the_same_runs_and_the_same_choice(forks: Forks, tmp_path: Path) -> None:
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "s.yaml").write_text(SEARCH)
    words = ["run", "s.yaml"]
    operations = forks.operations(tmp_path / "whole", words)
    runs = [Path(line) for line in (tmp_path / "whole/out").read_text().splitlines()]
    assert len(runs) == 2
    # the second checkpoint of the second task is begun
    (_, stop_at, *_) = (
        number
        for number, operation in enumerate(operations, 1)
        if runs[1].name in operation and "last.pt" in operation and operation.startswith("create")
    )
    assert forks.run(tmp_path / "killed", words, stop_at=stop_at) == -signal.SIGKILL
    done = [(tmp_path / "killed" / run / "result.json").exists() for run in runs]
    assert done == [True, False]
    assert forks.run(tmp_path / "killed", words) == 0
    said = (tmp_path / "killed/err").read_text()
    assert f"already done: {runs[0]}" in said
    assert "continuing in epoch 2 of 2" in said
    picked = []
    for name in ("whole", "killed"):
        assert forks.run(tmp_path / name, ["pick", "s.yaml"]) == 0, (tmp_path / name / "err").read_text()
        picked.append((tmp_path / name / "out").read_text())
    assert picked[0] == picked[1]
    weights = [(tmp_path / name / runs[1] / "model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert weights[0] == weights[1]
