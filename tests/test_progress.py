"""What a bar says within an epoch, how often, and the estimate for a sweep."""

import pytest
from rich.console import Console as RichConsole

from snnkd import console
from snnkd.console import Bar
from snnkd.pipeline import _time_left
from snnkd.training.loop import step_line


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
