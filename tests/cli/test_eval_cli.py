"""`snnkd eval`: other images, other timesteps, logits in a file, whole folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL, Cli, random_npz, teach_and_distill

from snnkd.models.files import load_network


@pytest.fixture
def student(cli: Cli) -> Path:
    return teach_and_distill(cli)


def test_logits_in_a_file_give_the_curve_again(cli: Cli, student: Path) -> None:
    done = cli("eval", student, "--T", 3, "--save-logits", "l.npz", "--json")
    assert done.code == 0, done.err
    with np.load("l.npz", allow_pickle=False) as held:
        logits, labels = held["logits"], held["labels"]
        assert (logits.dtype, logits.shape, labels.dtype) == (np.float32, (3, 100, 10), np.int64)
        assert str(held["weights_sha256"]) == load_network(student).sha256
        assert str(held["data_sha256"]) == done.json["data_sha256"]
        assert str(held["split"]) == "test"
    for t, entry in enumerate(done.json["curve"], 1):
        assert 100 * np.mean(logits[:t].mean(0).argmax(1) == labels) == pytest.approx(entry["top1"])
    first = Path("l.npz").read_bytes()
    again = cli("eval", student, "--T", 3, "--save-logits", "l.npz")
    assert (again.code, "; no GPU found\n" in again.err) == (0, not torch.cuda.is_available())
    assert Path("l.npz").read_bytes() == first


def test_logits_in_the_run_where_compare_finds_them(cli: Cli, student: Path) -> None:
    assert not (student / "eval").exists()
    done = cli("eval", student, "--save-logits", student / "eval/logits.npz")
    assert done.code == 0, done.err
    assert (student / "eval/logits.npz").exists()


@pytest.mark.parametrize(("path", "code"), [("l.txt", 2), ("none/l.npz", 3)])
def test_a_place_for_logits_is_checked_first(cli: Cli, path: str, code: int) -> None:
    assert cli("eval", "nowhere", "--save-logits", path).code == code


def test_a_file_of_something_else_is_not_overwritten(cli: Cli, student: Path) -> None:
    random_npz("x.npz", 10)
    before = Path("x.npz").read_bytes()
    refused = cli("eval", student, "--save-logits", "x.npz")
    assert refused.code == 2
    assert Path("x.npz").read_bytes() == before


def test_a_damaged_run_of_a_folder_is_left_out(cli: Cli, student: Path) -> None:
    assert cli("distill", *SMALL, "--T", 1, "--loss", "none").code == 0
    (student / "model.safetensors").write_bytes(b"")
    done = cli("eval", "--all", "--T", 3, "--json")
    assert done.code == 4, done.err
    assert len(done.json["results"]) == 1
    assert "skipped" in done.err
    assert f"--all: 1 run left out: {student}; the reasons are above" in done.complaint


def test_runs_without_validation_images_do_not_stop_the_others(cli: Cli) -> None:
    words = ["teach", *SMALL, "--epochs", 1]
    without = [cli(*words, "--seed", seed).folder for seed in (0, 1)]
    held_out = cli(*words, "--set", "data.val_fraction=0.2").folder
    done = cli("eval", "--all", "--split", "val", "--json")
    assert [result["run"] for result in done.json["results"]] == [str(held_out)]
    assert done.code == 4
    for run in without:
        assert f"skipped: {run}: --split val: glyphs has no validation images" in done.err
    assert f"2 runs left out: {without[0]}, {without[1]}" in done.complaint
    assert (held_out / "eval" / "val-T1.json").is_file()
    assert cli("eval", without[0], "--split", "val").code == 2


def test_held_out_images_are_those_of_the_training(cli: Cli, student: Path) -> None:
    refused = cli("eval", student, "--split", "val", "--set", "data.val_fraction=0.5")
    assert refused.code == 2
    assert "the validation split is fixed by training" in refused.complaint
    refused = cli("eval", student, "--set", "data.augment=[flip]")
    assert (refused.code, "only training augments images" in refused.complaint) == (2, True)


def test_one_file_for_two_runs_is_refused(cli: Cli, student: Path) -> None:
    refused = cli("eval", student, student, "--save-logits", "l.npz")
    assert refused.code == 2
    assert "give one run" in refused.complaint


def test_another_test_set(cli: Cli, student: Path) -> None:
    own = cli("eval", student, "--json").json
    noisy = cli("eval", student, "--set", "data.noise=0.4", "--json")
    assert noisy.code == 0, noisy.err
    assert noisy.json["data_sha256"] != own["data_sha256"]
    assert noisy.json["weights_sha256"] == own["weights_sha256"]
    (written,) = (student / "eval").iterdir()
    assert written.name == f"test-T2-glyphs-{noisy.json['data_sha256'][:8]}.json"
    assert json.loads(written.read_text())["curve"] == noisy.json["curve"]
    other = cli("eval", student, "--data", random_npz("x.npz", 10), "--json")
    assert other.code == 0, other.err
    assert other.json["data"] == "npz:x.npz"
    assert other.json["images"] == 50


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--data", "glyps"], 2, "did you mean"),
        (["--set", "train.lr=1"], 2, "data.KEY=VALUE"),
        (["--data", "glyphs", "--set", "data.noise=7"], 2, "data.noise"),
        (["--data", "glyphs"], 3, "100 classes"),
        (["--set", "data.size=32"], 3, "images [1, 32, 32]"),
    ],
)
def test_images_that_do_not_fit(cli: Cli, student: Path, words: list[str], code: int, said: str) -> None:
    refused = cli("eval", student, *words)
    assert refused.code == code, refused.err
    assert said in refused.complaint


def test_recalibrated_norms_are_said_and_kept_apart(cli: Cli, student: Path) -> None:
    plain = cli("eval", student, "--T", 4, "--json").json
    anew = cli("eval", student, "--T", 4, "--recalibrate-bn", "--batch-size", 100, "--json")
    assert anew.code == 0, anew.err
    assert anew.json["recalibrated_on"] == 300
    assert anew.json["curve"] != plain["curve"]
    assert {path.name for path in (student / "eval").iterdir()} == {
        "test-T4.json",
        "test-T4-recalibrated.json",
    }
    assert cli("eval", student, "--T", 4, "--json").json["curve"] == plain["curve"], (
        "the weights on disk stay"
    )


def test_a_whole_folder_measures_what_is_not_yet_measured(cli: Cli, student: Path) -> None:
    assert cli("distill", *SMALL, "--T", 1, "--loss", "none").code == 0
    longer = cli("eval", "--all", "--T", 3, "--plot", "all.png", "--json")
    assert longer.code == 0, longer.err
    assert [len(result["curve"]) for result in longer.json["results"]] == [3, 3], "a teacher has no timesteps"
    Path("all.png").unlink()
    again = cli("eval", "--all", "--T", 3, "--plot", "all.png", "--json")
    assert again.json["results"] == []
    assert Path("all.png").exists(), "what was measured before is drawn"
    assert cli("eval", "--all", "--save-logits", "x.npz").code == 2
    everything = cli("eval", "--all", "--json")
    assert everything.code == 0, everything.err
    assert everything.json == {"schema": 1, "results": []}, "all have their result.json"
    assert everything.err.count("already measured (result.json)") == 3
    mine = cli("eval", "--all", "runs", "--set", "data.noise=0.3", "--json")
    assert len(mine.json["results"]) == 3
    again = cli("eval", "--all", "--set", "data.noise=0.3", "--json")
    assert again.json["results"] == []
    assert cli("eval", "--all", "elsewhere").code == 3


def test_the_energy_beside_teacher_and_ann_is_said(cli: Cli, student: Path) -> None:
    found = cli("eval", student, "--json").json
    text = " ".join(cli("eval", student).out.split())
    assert found["energy_note"] in text
    assert "its teacher" in found["energy_note"]
    assert found["ann"]["energy_mj"] == pytest.approx(found["ann"]["macs"] * 4.6e-9)
    assert found["ann"]["macs"] == round(found["teacher"]["energy_mj"] / 4.6e-9), "the same topology here"
    for row in found["dynamic"]:
        assert f"{row['threshold']:.2f} {row['timesteps']:.2f} {row['top1']:.2f}" in text


def test_a_picture_of_one_run(cli: Cli, student: Path) -> None:
    done = cli("eval", student, "--plot", "c.svg")
    assert done.code == 0, done.err
    drawn = Path("c.svg").read_text()
    for label in ("top-1 accuracy", "energy", "neuron layer", "teacher"):
        assert label in drawn


def test_logits_do_not_depend_on_the_batch_size(cli: Cli, student: Path) -> None:
    for size in (7, 100):
        assert cli("eval", student, "--batch-size", size, "--save-logits", f"{size}.npz").code == 0
    with np.load("7.npz") as some, np.load("100.npz") as others:
        torch.testing.assert_close(
            torch.from_numpy(some["logits"]), torch.from_numpy(others["logits"]), rtol=1e-3, atol=1e-3
        )


def test_data_that_cannot_fit_are_not_drawn(cli: Cli, student: Path) -> None:
    config = json.loads((student / "config.json").read_text())
    config["data"] |= {"size": 64, "channels": 3, "train_images": 1_000_000}
    (student / "config.json").write_text(json.dumps(config))
    refused = cli("eval", student)
    assert refused.code == 3
    assert "glyphs has images [3, 64, 64]" in refused.complaint
    assert "drawing" not in refused.err
