"""Where a run runs: devices, precision, threads and compilation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import SMALL, Cli

from snnkd.bench.ablations import has_bf16
from snnkd.environment import autocast, hardware, in_bf16, pick_device, versions
from snnkd.errors import UsageError
from snnkd.schema.run import ExecutionConfig


@pytest.mark.parametrize("name", ["meta", "mps", "cuda:999", "gpu", ""])
def test_a_device_that_is_not_there(name: str) -> None:
    with pytest.raises(UsageError, match=repr(name)):
        pick_device(name)


def test_bf16_is_for_the_layers_and_float32_for_the_loss(cli: Cli) -> None:
    device = torch.device("cpu")
    with autocast(ExecutionConfig(precision="bf16"), device):
        assert torch.is_autocast_enabled("cpu")
    with autocast(ExecutionConfig(precision="auto"), device):
        assert not torch.is_autocast_enabled("cpu"), "auto is float32 on a CPU"
    ended = cli("distill", *SMALL, "--loss", "none", "--T", 2, "--set", "execution.precision=bf16", "--json")
    assert ended.code == 0, ended.err
    weights = Path(ended.json["run"], "model.safetensors").read_bytes()
    assert ended.json["precision"] == "bf16"
    assert cli("eval", ended.json["run"], "--json").json["precision"] == "bf16", (
        "what it was trained in, not measured in"
    )
    float32 = cli("distill", *SMALL, "--loss", "none", "--T", 2, "--out", "float32")
    assert json.loads(Path("float32/result.json").read_text())["precision"] == "float32"
    assert (float32.folder / "model.safetensors").read_bytes() != weights


@pytest.mark.parametrize("real", [True, False])
def test_bf16_that_a_gpu_only_imitates_is_not_used_by_itself(
    real: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or real
    )
    device = torch.device("cuda")
    assert in_bf16(ExecutionConfig(precision="auto"), device) == has_bf16(device) == real
    assert in_bf16(ExecutionConfig(precision="bf16"), device), "asked for, it is done"


def test_the_threads_of_the_start_are_restored(cli: Cli) -> None:
    before = torch.get_num_threads()
    try:
        assert (
            cli("teach", *SMALL, "--out", "run", "--max-time", "0s", "--set", "execution.threads=2").code
            == 75
        )
        assert json.loads(Path("run/run.json").read_text())["needs"]["threads"] == 2
        torch.set_num_threads(1)
        assert cli("teach", *SMALL, "--out", "run", "--json").json["hardware"]["threads"] == 2
        assert torch.get_num_threads() == 1, (
            "and the process's own come back: a student after it starts with them"
        )
    finally:
        torch.set_num_threads(before)


def test_a_run_that_was_compiled_is_continued_compiled(cli: Cli) -> None:
    """Refused rather than continued with other bytes."""
    assert cli("teach", *SMALL, "--out", "run", "--max-time", "0s").code == 75
    ended = cli("teach", *SMALL, "--out", "run", "--set", "execution.compile=on")
    assert ended.code == 2
    assert "compile" in ended.complaint


@pytest.mark.nightly  # the step itself: test_execution_keys
def test_compiled_training_comes_to_the_same_loss(cli: Cli) -> None:
    words = ["distill", *SMALL, "--loss", "none", "--T", 2, "--epochs", 1]
    rows = []
    for out, mode in (("eager", "off"), ("compiled", "on")):
        ended = cli(*words, "--out", out, "--set", f"execution.compile={mode}")
        assert ended.code == 0, ended.err
        rows.append(json.loads(Path(out, "metrics.jsonl").read_text()))
    assert rows[0]["loss"] == pytest.approx(rows[1]["loss"], rel=1e-3)


def test_results_say_on_what_and_with_what() -> None:
    assert {"device", "cpu", "vectors", "cpus", "threads"} <= hardware(torch.device("cpu")).keys()
    assert {"snnkd", "python", "torch", "spikingjelly", "pillow", "matplotlib"} <= versions().keys()
