"""The teacher stays as it was: frozen, in eval mode, without gradient."""

from __future__ import annotations

import torch
from conftest import SMALL, Cli

from snnkd.models.files import load_network
from snnkd.teachers import frozen


def test_a_frozen_teacher_does_not_move(cli: Cli) -> None:
    loaded = load_network(cli("teach", *SMALL).folder)
    loaded.network.train()
    before = {name: value.clone() for name, value in loaded.network.state_dict().items()}
    teacher = frozen(loaded, torch.device("cpu"))
    images = torch.rand(8, 1, 16, 16, requires_grad=True)
    logits = teacher(images)
    assert logits.shape == (8, 10)
    assert not logits.requires_grad
    assert not loaded.network.training
    assert all(torch.equal(before[name], value) for name, value in loaded.network.state_dict().items()), "norm statistics included"


def test_its_accuracy_is_said_before_the_student_starts(cli: Cli) -> None:
    teacher = cli("teach", *SMALL, "--json").json
    ended = cli("distill", *SMALL, "--T", 1, "--allow-weak-teacher")
    said = ended.err.splitlines()
    accuracy = next(i for i, line in enumerate(said) if f"teacher accuracy: {teacher['curve'][0]['top1']:.2f} %" in line)
    assert accuracy < next(i for i, line in enumerate(said) if line.startswith("epoch 1/"))
    assert f"teacher: {teacher['run']}" in said


def test_a_recipe_may_pin_the_weights(cli: Cli) -> None:
    teacher = cli("teach", *SMALL).folder
    ended = cli("distill", *SMALL, "--T", 1, "--teacher", teacher, "--set", "teacher.sha256=0123abcd", "--allow-weak-teacher")
    assert ended.code == 3
    assert "0123abcd" in ended.complaint
