"""snnkd from Python: the same runs as from the command line, as typed results."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL, Cli

import snnkd
from snnkd.errors import FileError, SnnkdError, UsageError

KEYS = {"data.classes": 10, "data.train_images": 300, "data.test_images": 100, "model.width": 4}
SHORT = {"epochs": 2, "batch_size": 50, "settings": KEYS, "quiet": True}


def test_the_same_runs_as_from_the_command_line(cli: Cli, capfd: pytest.CaptureFixture[str]) -> None:
    teacher = snnkd.teach(**SHORT)
    student = snnkd.distill(teacher=teacher, loss="kl", T=2, allow_weak_teacher=True, **SHORT)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    assert cli("teach", *SMALL).folder == teacher.folder
    done = cli(
        "distill",
        *SMALL,
        "--loss",
        "kl",
        "--T",
        2,
        "--allow-weak-teacher",
        "--teacher",
        teacher.folder,
        "--json",
    )
    assert done.json["run"] == str(student.folder)
    assert done.json == student.result.details
    assert [point.t for point in student.result.curve] == [1, 2]
    assert student.result.top1 == done.json["curve"][1]["top1"]
    assert student.result.rate == done.json["rate"]


def test_measure_and_export(cli: Cli) -> None:
    run = snnkd.distill(loss="none", T=2, **SHORT)
    longer = snnkd.evaluate(run, T=4, save_logits="logits.npz", quiet=True)
    assert len(longer.curve) == 4
    with np.load("logits.npz") as held:
        assert held["logits"].shape == (4, 100, 10)
    assert (run.folder / "eval/test-T4.json").exists()
    noisy = snnkd.evaluate(run, settings={"data.noise": 0.5}, quiet=True)
    assert noisy.details["data_sha256"] != run.result.details["data_sha256"]
    assert (
        snnkd.evaluate(run, settings={"data.noise": np.float64(0.5)}, quiet=True).details["data_sha256"]
        == noisy.details["data_sha256"]
    )
    done = snnkd.export(run, out="there", quiet=True)
    assert done == snnkd.Exported(Path("there"), "safetensors", 2, 100, 1.0, 0.0)
    images = torch.rand(3, 1, 16, 16)
    assert torch.equal(snnkd.load("there")(images), run.network()(images))
    assert snnkd.evaluate("there", quiet=True).top1 == run.result.top1


def test_errors_are_those_of_the_command_line() -> None:
    with pytest.raises(UsageError, match="did you mean"):
        snnkd.distill(loss="hta_kl")
    with pytest.raises(UsageError, match=r"train\.lr"):
        snnkd.teach(lr=-1.0)
    with pytest.raises(FileError) as refused:
        snnkd.distill(loss="kl", T=2, **SHORT)
    assert isinstance(refused.value, SnnkdError)
    assert refused.value.exit_code == 3
    with pytest.raises(FileError):
        snnkd.evaluate("nowhere")


def test_every_function_says_what_it_does_and_has_types() -> None:
    for name in snnkd.__all__:
        thing = getattr(snnkd, name)
        if callable(thing):
            assert thing.__doc__
            assert all(
                p.annotation is not inspect.Parameter.empty
                for p in inspect.signature(thing).parameters.values()
            )


def test_nothing_heavy_is_imported_until_it_is_used() -> None:
    code = "import sys, snnkd; assert 'torch' not in sys.modules; snnkd.load; assert 'torch' in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.nightly  # three interpreters
def test_export_is_the_function_whatever_was_imported_before() -> None:
    code = "import snnkd.pipeline, snnkd; assert callable(snnkd.export)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
