"""`snnkd bench` through the command line, on networks so small that its numbers say nothing and its form
everything.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Cli

TINY = [
    "--batch-size",
    4,
    "--T",
    2,
    "--set",
    "data.size=8",
    "--set",
    "model.width=2",
    "--rounds",
    2,
    "--set",
    "execution.compile=off",
]
PARTS = ["data", "teacher", "student", "loss", "backward", "optimizer"]


@pytest.mark.nightly
def test_the_profiler_writes_no_log_of_its_own() -> None:
    words = [sys.executable, "-m", "snnkd", "bench", *map(str, TINY), "--loss", "none"]
    ended = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "timing its parts" in ended.stderr
    assert "profiler" not in ended.stderr


def test_json_has_what_was_measured_and_on_what(cli: Cli) -> None:
    ended = cli("bench", *TINY, "--loss", "kl", "--json")
    assert ended.code == 0, ended.err
    found = ended.json
    assert (found["schema"], found["model"]["name"], found["T"], found["batch_size"], found["loss"]) == (
        1,
        "resnet8",
        2,
        4,
        "kl",
    )
    assert list(found["parts"]) == PARTS
    assert all(part["q1"] <= part["median"] <= part["q3"] for part in found["parts"].values())
    assert found["parts"]["teacher"]["median"] > 0
    whole = sum(part["median"] for part in found["parts"].values())
    assert whole == pytest.approx(found["step_ms"]["median"], rel=0.9)
    assert found["images_per_s"] == pytest.approx(4000 / found["step_ms"]["median"], rel=0.01)
    assert found["peak_memory_bytes"] > 2**26
    efficiency = found["efficiency"]
    assert list(efficiency) == ["convolution_gflops", "matmul_gflops", "ratio", "share"]
    assert 0 < efficiency["share"]["median"] < 1
    assert efficiency["ratio"]["median"] == pytest.approx(
        efficiency["convolution_gflops"]["median"] / efficiency["matmul_gflops"]["median"], rel=1
    )
    assert found["spiking_overhead"]["median"] > 0
    assert found["hardware"]["device"] == "cpu"
    assert found["versions"]["torch"]
    assert found["rounds"] == 2
    assert "baseline" not in found
    assert not list(Path().iterdir()), "needs and leaves no files"


def test_a_loss_without_teacher_has_no_time_for_one(cli: Cli) -> None:
    found = cli("bench", *TINY, "--loss", "none", "--json").json
    assert found["parts"]["teacher"]["median"] == 0


def test_baseline_and_ablations(cli: Cli) -> None:
    ended = cli("bench", "glyphs", *TINY, "--baseline", "--ablations", "--json")
    assert ended.code == 0, ended.err
    found = ended.json
    base = found["baseline"]
    assert base["ratio"]["median"] > 0
    assert base["images_per_s"] > 0
    assert set(base["features"]) == {"workers", "copies", "loop", "rows", "items"}
    names = [row["change"] for row in found["ablations"]]
    # then bf16, if the CPU has it
    assert (names[0], names[5]) == ("baseline loop", "sums kept on the device")
    assert found["ablations"][0]["speedup"] == {"median": 1.0, "q1": 1.0, "q3": 1.0}


def test_as_text_it_fits_80_columns(cli: Cli) -> None:
    ended = cli("bench", *TINY, "--baseline")
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert all(len(line) <= 80 for line in lines), ended.out
    assert lines[0] == "resnet8, T = 2, batch 4, glyphs, loss hta-kl"
    assert [line.split()[0] for line in lines[5:11]] == PARTS
    assert lines[-1].startswith("baseline loop ")


def test_other_data_than_glyphs_need_no_download(cli: Cli) -> None:
    ended = cli(
        "bench",
        *TINY[:4],
        "--data",
        "cifar100",
        "--set",
        "model.width=2",
        "--rounds",
        2,
        "--set",
        "execution.compile=off",
        "--json",
    )
    assert ended.code == 0, ended.err
    assert ended.json["data"] == "cifar100"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--rounds", 1], "--rounds 1"),
        (["--batch-size", 1], "train.batch_size: 1"),
        (["--set", "execution.accumulate=2"], "execution.accumulate: 2; bench times one batch"),
        (["--model", "resnet9"], "resnet9"),
    ],
)
def test_refusals(cli: Cli, words: list[object], why: str) -> None:
    ended = cli("bench", *TINY, *words)
    assert ended.code == 2
    assert why in ended.complaint


def test_a_stored_object_is_plain_json(cli: Cli) -> None:
    assert json.loads(json.dumps(cli("bench", *TINY, "--json").json, allow_nan=False))


def test_the_baseline_loop_augments_with_torchvision(cli: Cli) -> None:
    policies = "autoaugment, {name: randaugment, ops: 1}, trivialaugment"
    names = f"[crop, flip, {policies}, {{name: cutout, size: 4}}, erase]"
    ended = cli(
        "bench", *TINY, "--set", f"data.augment={names}", "--set", "data.channels=3", "--baseline", "--json"
    )
    assert ended.code == 0, ended.err
    assert ended.json["baseline"]["ratio"]["median"] > 0


def test_mixed_images_are_timed_but_not_against_the_baseline_loop(cli: Cli) -> None:
    mixed = ["--set", "data.augment=[crop, mixup]", "--loss", "kl"]
    assert cli("bench", *TINY, *mixed, "--json").code == 0
    for flag in ("--baseline", "--ablations"):
        ended = cli("bench", *TINY, *mixed, flag)
        assert ended.code == 2
        assert ended.complaint == (
            "snnkd: data.augment: the baseline loop has no mixup; omit --baseline and --ablations"
        )
