"""What a bar says within an epoch, how often, and the estimate for a sweep."""

import json
import subprocess
import sys

import pytest
from conftest import SMALL, teach_and_distill
from rich.console import Console as RichConsole

from snnkd import console
from snnkd.console import Bar
from snnkd.pipeline import _time_left
from snnkd.training.loop import epoch_line, step_line


def test_a_description_is_due_once_a_second_and_only_for_a_bar_that_is_shown(monkeypatch):
    now = 100.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    bars = [Bar(RichConsole(force_terminal=True), "training", 5, 0), Bar(None, "training", 5, 0)]
    assert [bar.is_due() for bar in bars] == [False, False]
    now = 101.0
    assert [bar.is_due() for bar in bars] == [True, False]
    assert [bar.is_due() for bar in bars] == [False, False]


def test_a_bar_fits_80_columns(capsys):
    line = step_line(299, 300, {"loss": 12.3456, "train_top1": 100.0}, 12345.6)
    assert line == "epoch 300/300  loss 12.346  100.0 %  12346 images/s"
    with Bar(RichConsole(force_terminal=True, width=80, legacy_windows=False), "training", 117_000, 0) as bar:
        bar.describe(line)
        bar.advance()
    assert "images/s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "tasks", "text"),
    [([], 4, ""), ([0.1, 0.2], 4, ""), ([60.0], 3, ", about 3:00 left"), ([0.1, 100.0, 140.0], 2, ", about 4:00 left")],
)  # fmt: skip
def test_the_time_left_counts_tasks_that_were_not_finished_already(seconds, tasks, text):
    assert _time_left(seconds, tasks) == text


ROW = {"epoch": 3, "loss": 2.75, "hard": 1.5, "kl": 2.5, "train_top1": 61.5, "images_per_s": 800.0}


def test_an_epochs_line_has_the_parts_of_the_loss_with_their_weights():
    """Unweighted as in metrics.jsonl; with the weights they sum to the loss."""
    weighted = epoch_line(ROW, 10, 75.0, {"hard": 1.0, "kl": 0.5})
    assert weighted == (
        "epoch 3/10  loss 2.7500 = hard 1.5000 + 0.5 x kl 2.5000  train 61.50 %  800 images/s  1:15 left"
    )
    alone = epoch_line(ROW, 10, 75.0, {"hard": 1.0})
    assert alone == "epoch 3/10  loss 2.7500  train 61.50 %  800 images/s  1:15 left"


def test_the_parts_of_a_run_sum_to_its_loss(cli):
    """Also with a weight that changes over the epochs; the line and metrics.jsonl have the same numbers."""
    changing = [
        "--set",
        "loss.terms=[{divergence: kl, against: other-steps, target: step, weight: 2, weight_end: 0}]",
    ]
    ended = cli("distill", *SMALL, "--T", 2, *changing, "--set", "loss.name=custom", "--loss", "none")
    assert ended.code == 0, ended.err
    lines = [line for line in ended.err.splitlines() if line.startswith("epoch ")]
    rows = [json.loads(line) for line in (ended.folder / "metrics.jsonl").read_text().splitlines()]
    for line, row, weight in zip(lines, rows, (2, 1), strict=True):
        assert row["loss"] == pytest.approx(row["hard"] + weight * row["kl"], rel=1e-4)
        shown = f"{'' if weight == 1 else '2 x '}kl {row['kl']:.4f}"
        assert f"loss {row['loss']:.4f} = hard {row['hard']:.4f} + {shown}  train" in line


def test_a_bar_counts_the_batches_that_are_measured(cli, monkeypatch):
    bars = []

    class Counted(Bar):
        def __init__(self, console, title, total, done):
            super().__init__(console, title, total, done)
            bars.append([title, total, 0])

        def advance(self):
            super().advance()
            bars[-1][2] += 1

    monkeypatch.setattr(console, "Bar", Counted)
    run = teach_and_distill(cli)
    images = int(json.loads((run / "result.json").read_text())["images"])
    bars.clear()
    assert cli("eval", run, "--batch-size", 7).code == 0
    assert bars == [["measuring", -(-images // 7), -(-images // 7)]]
    bars.clear()
    small = [*SMALL, "--allow-weak-teacher", "--set", "execution.eval_batch_size=5"]
    assert cli("distill", *small, "--loss", "kl", "--seed", 3).code == 0
    assert [bar[0] for bar in bars] == ["measuring the teacher", "training", "measuring"]
    assert bars[0][1:] == bars[2][1:] == [-(-images // 5)] * 2


WITHOUT_TORCH = """
import sys
from snnkd.cli import main

class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            sys.exit(99)

sys.meta_path.insert(0, Stop())
for line in sys.stdin.read().splitlines():
    sys.argv = ["snnkd", *line.split()]
    try:
        main()
    except SystemExit as ended:
        print(ended.code)
"""


def test_the_long_import_of_pytorch_is_announced():
    commands = ["teach", "distill --loss none", "run glyphs", "check glyphs", "bench", "data glyphs"]
    command = [sys.executable, "-c", WITHOUT_TORCH]
    ended = subprocess.run(command, input="\n".join(commands), capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["99"] * len(commands), ended.stderr
    assert ended.stderr == "loading PyTorch\n" * len(commands)
