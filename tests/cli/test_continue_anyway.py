"""A run that goes on with other versions or hardware, and the device that it says it uses."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from conftest import SMALL, Cli


def test_a_run_goes_on_elsewhere_if_asked_and_its_result_says_so(cli: Cli) -> None:
    words = ["teach", *SMALL, "--out", "run"]
    assert cli(*words, "--max-time", "0s").code == 75
    run = json.loads(Path("run/run.json").read_text())
    run["needs"]["versions"]["torch"] = "2.6.0"
    Path("run/run.json").write_text(json.dumps(run))
    refused = cli(*words)
    assert refused.code == 2
    assert "versions.torch = '2.6.0'" in refused.complaint
    assert "--continue-anyway" in refused.complaint
    resumed = cli(*words, "--continue-anyway")
    assert resumed.code == 0, resumed.err
    change = f"versions.torch '2.6.0', then {torch.__version__.partition('+')[0]!r}"
    assert f"warning: resumed on another setup ({change}" in resumed.err.replace("+cpu", "")
    (said,) = json.loads(Path("run/result.json").read_text())["resumed"]
    assert said.startswith("versions.torch '2.6.0', then '")


def test_an_undisturbed_run_has_no_such_key_and_names_its_device(cli: Cli) -> None:
    done = cli("teach", *SMALL, "--out", "run", "--continue-anyway")
    assert "resumed" not in json.loads(Path("run/result.json").read_text())
    (line,) = [line for line in done.err.splitlines() if line.startswith("device: ")]
    if torch.cuda.is_available():
        assert line.startswith("device: cuda")
    else:
        assert line == "device: cpu, 1 thread, float32; no GPU found"
    again = cli("teach", *SMALL, "--device", "cpu", "--out", "other")
    assert "device: cpu, 1 thread, float32\n" in again.err
