"""Where a run runs: devices, precision, threads and compilation."""

from __future__ import annotations

import getpass
import json
import os
import tempfile
from pathlib import Path

import pytest
import torch
from conftest import SMALL, Cli

from snnkd import distributed
from snnkd.bench.ablations import has_bf16
from snnkd.environment import autocast, hardware, in_bf16, pick_device, versions
from snnkd.errors import UsageError
from snnkd.schema.run import ExecutionConfig
from snnkd.training import compiling


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


LAUNCHER = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", distributed.TORCHRUN: "7"}


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, None),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE: 'two' is not a number; unset TORCHELASTIC_RUN_ID"),
        ({"RANK": "-1"}, "RANK: '-1' is not a number"),
        ({"LOCAL_RANK": None}, "LOCAL_RANK: None is not a number"),
        ({"RANK": "2"}, "RANK: 2 is not below WORLD_SIZE 2"),
    ],
)
def test_variables_of_a_launcher_that_make_no_sense(
    monkeypatch: pytest.MonkeyPatch, cli: Cli, variables: dict[str, str | None], message: str | None
) -> None:
    for name, value in {**LAUNCHER, **variables}.items():
        monkeypatch.setenv(name, value) if value is not None else monkeypatch.delenv(name, raising=False)
    if message is None:
        distributed.check_launcher()
        return
    ended = cli("list", "losses")
    assert ended.code == 2
    assert message in ended.complaint
    monkeypatch.delenv(distributed.TORCHRUN)
    assert cli("list", "losses").code == 0


def test_a_compiler_cache_of_an_unknown_user_or_of_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv(compiling.CACHE, "mine")
    compiling.use_own_cache()
    assert os.environ[compiling.CACHE] == "mine"
    monkeypatch.delenv(compiling.CACHE)
    monkeypatch.setattr(getpass, "getuser", lambda: "somebody")
    compiling.use_own_cache()  # torch makes its own
    assert compiling.CACHE not in os.environ
    (tmp_path / "torchinductor_somebody").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    compiling.use_own_cache()
    assert Path(os.environ[compiling.CACHE]) == tmp_path / f"torchinductor_{os.getuid()}"

    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.delenv(compiling.CACHE)
    monkeypatch.setattr(getpass, "getuser", unknown)
    compiling.use_own_cache()
    assert Path(os.environ[compiling.CACHE]).parent == tmp_path
