"""Silent and saturated layers are reported while training, with epoch and layer; so are gradients that are
not finite."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from conftest import SMALL, Cli
from torch import nn

from snnkd.models.activation import LIF
from snnkd.schema.neuron import NeuronConfig
from snnkd.training.firing_rates import silent_or_saturated, warning, watch


def test_rates_of_the_passes_inside() -> None:
    network = nn.ModuleDict({"quiet": LIF(NeuronConfig(threshold=100.0)), "loud": LIF(NeuronConfig())})
    x = torch.full((4, 3), 5.0)
    with watch(network) as rates:
        for layer in network.values():
            layer(x, 2)
    assert {name: float(rate) for name, rate in rates.items()} == {"quiet": 0.0, "loud": 1.0}
    network["loud"](torch.zeros(4, 3), 2)
    assert float(rates["loud"]) == 1.0, "nothing is noted any more"
    with watch(network, on=False) as rates:
        network["loud"](x, 2)
    assert rates == {}


def test_what_is_troubled() -> None:
    assert silent_or_saturated({"a": 0.0, "b": 0.95, "c": 0.951, "d": 0.2}) == {
        "silent": ["a"],
        "saturated": ["c"],
    }
    assert silent_or_saturated({"d": 0.2}) == {}


def test_the_warning_is_one_line_with_few_names() -> None:
    line = warning(7, {"silent": list("abcde"), "saturated": ["x"]})
    assert (
        line == "warning: epoch 7: silent layers (rate 0): a, b, c and 2 more; saturated layers (rate above "
        "0.95): x"
    )
    assert "no layer is silent" in warning(8, {})


def test_a_silent_student_is_reported_once_and_logged(cli: Cli) -> None:
    ended = cli(
        "distill", *SMALL, "--loss", "none", "--T", 2, "--set", "neuron.threshold=1000", "--out", "run"
    )
    assert ended.code == 0, ended.err
    warnings = [line for line in ended.err.splitlines() if line.startswith("warning: epoch")]
    assert len(warnings) == 1, "the same layers in the next epoch are no news"
    assert warnings[0].startswith("warning: epoch 1: silent layers (rate 0): body.act, ")
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert all("body.act" in row["silent"] and row["rate"] == 0 for row in rows)


def test_a_healthy_student_is_not_warned_of(cli: Cli) -> None:
    ended = cli("distill", *SMALL, "--loss", "none", "--T", 2, "--out", "run")
    row = json.loads(Path("run/metrics.jsonl").read_text().splitlines()[-1])
    assert 0 < row["rate"] < 0.95
    assert ("silent" in row) == ("silent" in ended.err)


@pytest.mark.parametrize("gradient", ["nan", "inf"])
def test_a_gradient_that_is_not_finite_ends_the_run_with_the_last_checkpoint_intact(
    cli: Cli, gradient: str
) -> None:
    source = f"""
import torch
calls = 0
class Spoilt(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.sum() * 0
    @staticmethod
    def backward(ctx, outer):
        return torch.full((50, 10), float("{gradient}"))
def f(student, teacher, *, temperature, labels):
    global calls
    calls += 1
    honest = (student - teacher).square().mean()
    return honest + Spoilt.apply(student) if calls > 10 else honest
"""
    Path(f"mine_{gradient}.py").write_text(source)
    try:
        assert cli("teach", *SMALL).code == 0
        ended = cli(
            "distill",
            *SMALL,
            "--loss",
            f"mine_{gradient}:f",
            "--T",
            2,
            "--allow-weak-teacher",
            "--out",
            "run",
        )
    finally:
        sys.modules.pop(f"mine_{gradient}", None)
    assert ended.code == 4, ended.err
    assert "the gradient became " in ended.complaint, "the norm of infinite ones is nan or inf"
    assert "in epoch 2, by step 3" in ended.complaint
    assert "the checkpoint is intact" in ended.complaint
    assert Path("run/last.pt").exists()
