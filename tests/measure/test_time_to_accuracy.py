"""The program that says how long a student trains, its teacher included, until it reaches an accuracy."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from conftest import SMALL, Cli, results_script


@pytest.fixture(scope="module")
def program() -> ModuleType:
    return results_script("time_to_accuracy")


def curve(label: str, seconds: list[float], top1: list[float]) -> dict[str, object]:
    return {"label": label, "cpu_seconds": seconds, "val_top1": top1, "hardware": {"cpu": "a CPU"}}


def test_times_are_medians_over_seeds_and_ratios_to_the_first_label(program: ModuleType) -> None:
    curves = [
        curve("fast", [60, 120, 180], [51, 49, 56]),
        curve("fast", [60, 120, 240], [49, 50, 58]),
        curve("slow", [600, 1200], [51, 61]),
        curve("slow", [600, 1200], [40, 70]),
    ]
    rows = program.render_table(curves).splitlines()
    assert rows[2] == "| fast | 2 | 57.0 | 4 | 2 (1.00) | 4 (1.00) | not reached |"
    assert rows[3] == "| slow | 2 | 65.5 | 20 | 15 (10.00) | 20 (5.71) | 20 |"
    assert rows[-1] == "On: a CPU."
    assert program.render_table([]) == "Not run yet."


def test_a_curve_begins_where_the_teacher_ended(
    program: ModuleType, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    val = ["--set", "data.val_fraction=0.2"]
    assert cli("teach", *SMALL, *val, "--out", "teacher").code == 0
    common = [*SMALL, *val, "--teacher", "teacher", "--allow-weak-teacher", "--loss", "kl", "--T", 1]
    for seed in (0, 1):
        assert cli("distill", *common, "--seed", seed, "--out", f"student{seed}").code == 0
    monkeypatch.setattr(program, "FOLDER", Path("results"))
    monkeypatch.setattr(sys, "argv", ["", "a=teacher,student0", "a=teacher,student1", "b=student0"])
    program.main()
    whole, _, alone = json.loads(Path("results/time.json").read_text())
    rows = [json.loads(line) for line in Path("student0/metrics.jsonl").read_text().splitlines()]
    before = json.loads(Path("teacher/result.json").read_text())["seconds"]["train_cpu"]
    assert before > 0
    assert whole["cpu_seconds"] == pytest.approx([before + row["cpu_seconds"] for row in rows], abs=0.1)
    assert alone["cpu_seconds"] == pytest.approx([row["cpu_seconds"] for row in rows], abs=0.1)
    assert whole["val_top1"] == alone["val_top1"] == [row["val_top1"] for row in rows]
    assert Path("results/time.png").read_bytes().startswith(b"\x89PNG")
    assert cli("teach", *SMALL, "--out", "other").code == 0
    monkeypatch.setattr(sys, "argv", ["", "a=other"])
    with pytest.raises(SystemExit, match="other: no validation accuracy"):
        program.main()
