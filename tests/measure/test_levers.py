"""The table of what each lever of fast training gains."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from conftest import results_script


@pytest.fixture(scope="module")
def program() -> ModuleType:
    return results_script("levers")


def runs(*values: tuple[int, float, float]) -> list[dict[str, Any]]:
    return [{"seed": seed, "val_top1": top1, "cpu_seconds": seconds} for seed, top1, seconds in values]


def test_gains_are_paired_by_seed(program: ModuleType) -> None:
    content = {
        "base": ["train.epochs=3"],
        "levers": {
            "base": {"runs": runs((0, 40.0, 100.0), (1, 42.0, 200.0), (2, 44.0, 300.0))},
            "flip": {"runs": runs((1, 43.0, 100.0), (2, 47.0, 300.0))},
            "one": {"runs": runs((2, 43.0, 600.0))},
        },
        "hardware": {"cpu": "a CPU"},
        "versions": {"torch": "2.14"},
    }
    _, _, base, flip, one, _, about = program.render_table("teacher", content).splitlines()
    assert base == "| base | 3 | 42.0 ± 2.0 |  | 1.00 |"
    assert flip == "| flip | 2 | 45.0 ± 2.8 | +2.0 [-10.7, +14.7] | 0.75 |"
    assert one == "| one | 1 | 43.0 | -1.0 | 2.00 |"
    assert about == "Base: `train.epochs=3`. On: a CPU, torch 2.14."
