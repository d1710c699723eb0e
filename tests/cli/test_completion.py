"""What shells complete, and the groups of the help."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Cli

from snnkd.catalog.losses import LOSSES


@pytest.fixture
def completed(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    """The words that bash offers for the last word of a line."""

    def call(line: str) -> list[str]:
        monkeypatch.setenv("_SNNKD_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        ended = cli()
        assert ended.code == 0, ended.err
        return ended.out.split()

    return call


def test_names_recipes_keys_and_runs(completed) -> None:
    for name in ("runs/teach-a", "runs/distill-b", "elsewhere/one"):
        Path(name).mkdir(parents=True)
        Path(name, "run.json").touch()
    Path("runs/notes").mkdir()
    Path("mine.yaml").touch()
    assert "predict" in completed("snnkd pr")
    assert completed("snnkd distill --loss hta") == ["hta-kl"]
    assert len(completed("snnkd distill --loss ")) == len(list(LOSSES))
    assert completed("snnkd teach --model resnet2") == ["resnet20", "resnet20w"]
    assert completed("snnkd teach --data fash") == ["fashion-mnist"]
    assert completed("snnkd distill --neuron pl") == ["plif"]
    assert "glyphs" in completed("snnkd run gl")
    assert completed("snnkd check mi") == ["mine.yaml"]
    assert completed("snnkd eval runs/d") == ["runs/distill-b"]
    assert completed("snnkd distill --teacher ru") == ["runs/distill-b", "runs/teach-a", "runs/"]
    assert completed("snnkd export elsewhere/o") == ["elsewhere/one/"]
    assert completed("snnkd teach --set train.warm") == ["train.warmup_epochs="]
    assert completed("snnkd keys exec") == ["execution", *completed("snnkd keys execution.")]
    assert completed("snnkd list sur") == ["surrogates"]
    assert completed("snnkd guide spe") == ["speed"]


def test_a_runs_folder_that_is_missing_completes_nothing(completed) -> None:
    assert completed("snnkd eval x") == []


def test_completion_without_torch() -> None:
    code = "import sys\nfrom snnkd.cli import main\ntry: main()\nfinally: print(*sys.modules)"
    words = {"_SNNKD_COMPLETE": "complete_bash", "COMP_WORDS": "snnkd eval r", "COMP_CWORD": "2"}
    ended = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **words}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert not {"torch", "numpy", "matplotlib"} & set(ended.stdout.split())


def test_help_is_grouped(cli: Cli) -> None:
    top = cli("--help").out
    titles = [line for line in top.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert titles == ["Options:", "Train:", "Use a network:", "Many runs:", "Look up:"]
    assert "Examples:\n  snnkd teach && " in top.replace("  Examples", "Examples").replace(
        "    snnkd", "  snnkd"
    )
    distill = cli("distill", "--help").out
    of_keys, _, others = distill.partition("Options for recipe keys:")[2].partition("\nOptions:")
    assert all(option in of_keys for option in ("--loss", "--T", "--set", "--teacher", "--epochs"))
    assert all(option in others for option in ("--out", "--fresh", "--max-time", "--json"))
    assert "`snnkd keys`" in " ".join(of_keys.split())
    assert "Options for recipe keys:" not in cli("eval", "--help").out


def test_quiet_prints_results_and_errors_only(cli: Cli) -> None:
    small = ["--epochs", 1, "--batch-size", 50, "--set", "model.width=4", "--set", "data.classes=2"]
    small += ["--set", "data.train_images=100", "--set", "data.test_images=20"]
    done = cli("teach", *small, "--quiet")
    assert (done.code, done.err) == (0, "")
    assert "epoch 1" in (done.folder / "log.txt").read_text()
    checked = cli("--quiet", "check", "glyphs")
    assert (checked.code, checked.err, checked.out != "") == (0, "", True)
    refused = cli("teach", "--quiet", "--lr", -1)
    assert refused.complaint.startswith("snnkd: train.lr")
    assert "epoch" in cli("teach", *small, "--seed", 1).err, "the next command is not quiet"
