"""The teacher stays as it was: frozen, in eval mode, without gradient."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from conftest import SMALL, Cli

from snnkd.console import Console
from snnkd.data import ImageSet, Split
from snnkd.errors import FileError
from snnkd.measure.curve import Curve
from snnkd.models.files import load_network
from snnkd.schema.run import ExecutionConfig
from snnkd.teachers import evaluate_teacher
from snnkd.training.step import Teacher


def test_a_frozen_teacher_does_not_move(cli: Cli) -> None:
    loaded = load_network(cli("teach", *SMALL).folder)
    loaded.network.train()
    before = {name: value.clone() for name, value in loaded.network.state_dict().items()}
    teacher = Teacher(loaded.network)
    images = torch.rand(8, 1, 16, 16, requires_grad=True)
    logits = teacher(images).logits
    assert logits is not None
    assert logits.shape == (8, 10)
    assert not logits.requires_grad
    assert not loaded.network.training
    assert all(torch.equal(before[name], value) for name, value in loaded.network.state_dict().items()), (
        "norm statistics included"
    )


def test_its_accuracy_is_said_before_the_student_starts(cli: Cli) -> None:
    teacher = cli("teach", *SMALL, "--json").json
    ended = cli("distill", *SMALL, "--T", 1, "--allow-weak-teacher")
    said = ended.err.splitlines()
    accuracy = next(
        i for i, line in enumerate(said) if f"teacher accuracy: {teacher['curve'][0]['top1']:.2f} %" in line
    )
    assert accuracy < next(i for i, line in enumerate(said) if line.startswith("epoch 1/"))
    assert f"teacher: {teacher['run']}" in said


def test_a_recipe_may_pin_the_weights(cli: Cli) -> None:
    teacher = cli("teach", *SMALL).folder
    ended = cli(
        "distill",
        *SMALL,
        "--T",
        1,
        "--teacher",
        teacher,
        "--set",
        "teacher.sha256=0123abcd",
        "--allow-weak-teacher",
    )
    assert ended.code == 3
    assert "0123abcd" in ended.complaint


def _two_teachers(cli: Cli) -> tuple[list[object], str, str]:
    """The words of a student that was begun with the first, stopped at once; then both teachers."""
    first = str(cli("teach", *SMALL).folder)
    words = ["distill", *SMALL, "--T", 1, "--allow-weak-teacher"]
    assert cli(*words, "--max-time", "0s").code == 75
    return words, first, str(cli("teach", *SMALL, "--seed", 1).folder)


def test_the_same_command_continues_with_its_teacher_after_another_was_trained(cli: Cli) -> None:
    words, first, _ = _two_teachers(cli)
    ended = cli(*words, "--json")
    assert ended.code == 0, ended.err
    assert ended.json["teacher"]["run"] == first
    again = cli(*words)
    assert again.code == 0
    assert "already done" in again.err
    assert str(again.folder) == ended.json["run"]


def test_the_same_with_a_folder_of_its_own(cli: Cli) -> None:
    first = str(cli("teach", *SMALL).folder)
    words = ["distill", *SMALL, "--T", 1, "--allow-weak-teacher", "--out", "mine"]
    assert cli(*words, "--max-time", "0s").code == 75
    assert cli("teach", *SMALL, "--seed", 1).code == 0
    assert cli(*words, "--json").json["teacher"]["run"] == first
    assert "already done" in cli(*words).err


def test_a_new_request_still_has_to_choose_a_teacher(cli: Cli) -> None:
    words, first, second = _two_teachers(cli)
    assert cli(*words).code == 0
    for more in (["--fresh"], ["--seed", 5]):
        ended = cli(*words, *more)
        assert ended.code == 2
        assert first in ended.complaint
        assert second in ended.complaint
    assert "already done" in cli(*words).err, "nothing was set aside"


def test_a_recipe_of_a_run_finds_its_teacher_again_by_its_weights(cli: Cli) -> None:
    """The runs folder was moved or renamed in between."""
    teacher = cli("teach", *SMALL).folder
    assert cli("teach", *SMALL, "--seed", 1).code == 0
    student = cli("distill", *SMALL, "--T", 1, "--teacher", teacher, "--allow-weak-teacher").folder
    moved = teacher.rename(teacher.parent / "renamed")
    ended = cli("distill", student / "recipe.yaml", "--out", "again", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["teacher"]["run"] == str(moved)
    assert Path("again/model.safetensors").read_bytes() == (student / "model.safetensors").read_bytes()
    shutil.rmtree(moved)
    gone = cli("distill", student / "recipe.yaml", "--out", "third")
    assert gone.code == 3
    assert str(teacher) in gone.complaint


@pytest.mark.parametrize(
    ("classes", "top1", "answers", "refusal"),
    [
        (2, 74.0, 2, "74.00 % is below"),
        (2, 76.0, 2, None),
        (10, 19.0, 2, "19.00 % is below"),
        (10, 21.0, 2, None),
        (10, 84.0, 1, "the teacher answers class 0 for every test image"),
    ],
)
def test_the_least_that_a_teacher_must_know(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, classes: int, top1: float, answers: int, refusal: str | None
) -> None:
    """Twice chance, or halfway to 100 % where nobody can reach that (of two classes, chance is 50 %), and two
    answers: if most images are of one class, it alone is often right."""
    entry = {"t": 1, "top1": top1, "energy_mj": 1.0}
    monkeypatch.setattr(
        "snnkd.teachers.measure_curve",
        lambda *_: Curve([entry], None, None, 100, torch.eye(classes)[None, :answers], torch.zeros(1)),
    )
    loaded = load_network(cli("teach", *SMALL).folder)
    data = ImageSet(
        "some", classes, *[Split(torch.zeros(1, 1, 16, 16, dtype=torch.uint8), torch.zeros(1))] * 2, None, "0"
    )
    expected = pytest.raises(FileError, match=refusal) if refusal else nullcontext()
    with expected:
        evaluate_teacher(loaded, data, ExecutionConfig(), torch.device("cpu"), Console(quiet=True))
    weak = ExecutionConfig(allow_weak_teacher=True)
    evaluate_teacher(loaded, data, weak, torch.device("cpu"), Console(quiet=True))


def test_a_spiking_student_teaches_by_its_mean_over_time(cli: Cli) -> None:
    words = ["distill", *SMALL, "--allow-weak-teacher"]
    first = cli(*words, "--loss", "none", "--T", 3, "--neuron", "plif", "--json").json
    done = cli(*words, "--loss", "lasnn", "--T", 2, "--teacher", first["run"], "--json")
    assert done.code == 0, done.err
    assert done.json["teacher"]["top1"] == first["curve"][-1]["top1"]
    assert done.json["teacher"]["energy_mj"] == first["curve"][-1]["energy_mj"]
    assert "spiking, of the mean over T = 3" in done.err
    network = load_network(Path(first["run"])).network
    images = torch.rand(4, 1, 16, 16)
    outputs = Teacher(network, ("stage3",))(images)
    with torch.no_grad():
        assert torch.equal(outputs.logits, network(images).mean(0))  # type: ignore[arg-type]
    assert outputs.features["stage3"].shape == (4, 16, 4, 4)
    same = cli(
        *words,
        "--loss",
        "kl",
        "--T",
        3,
        "--neuron",
        "plif",
        "--set",
        "train.init=teacher",
        "--teacher",
        first["run"],
    )
    assert same.code == 0, same.err
