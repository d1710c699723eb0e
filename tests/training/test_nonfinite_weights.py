"""Weights that are not finite after a loss that was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL, Cli

from snnkd.console import Console
from snnkd.stopping import Stop
from snnkd.training.checkpoint import load_state


def test_weights_spoilt_by_the_last_step(cli: Cli) -> None:
    ended = cli("teach", *SMALL, "--lr", "1e38", "--epochs", 1, "--batch-size", 300, "--out", "run")
    assert ended.code == 4, ended.err
    assert "lower train.lr" in ended.complaint
    assert not Path("run/result.json").exists()
    state = load_state(Path("run"), Console(quiet=True))
    assert state is None or all(value.isfinite().all() for value in state["network"].values())
    assert cli("status", "run").code == 4


@pytest.mark.parametrize("steps", [6, 7])
def test_no_checkpoint_holds_spoilt_weights(cli: Cli, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Spoilt by the last step of an epoch, or by the step before a stop: the checkpoint before stays."""
    honest = torch.optim.SGD.step
    left, asked = iter(range(steps)), []

    def step(self: Any, *given: Any) -> Any:
        made = honest(self, *given)
        next(left)
        if left.__length_hint__() == 0:
            with torch.no_grad():
                self.param_groups[0]["params"][0][0] = float("inf")
            asked.append(True)
        return made

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", step)
        patch.setattr(Stop, "reason", property(lambda self: "SIGTERM" if asked else None))
        ended = cli("teach", *SMALL, "--out", "run")
    assert ended.code == 4, ended.err
    assert "is no longer finite" in ended.complaint
    assert Path("run/last.pt").exists() == (steps > 6)
    assert cli("teach", *SMALL, "--out", "run").code == 0
    assert cli("teach", *SMALL, "--out", "whole").code == 0
    assert Path("run/model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()
