"""Training that starts from the weights of a run or file, with layers frozen."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import SMALL, Cli, run_in

from snnkd.console import Console
from snnkd.evaluation import data_of
from snnkd.models.files import load_network

ONE = [*SMALL, "--epochs", 1]


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> Path:
    """A finished teacher."""
    root = tmp_path_factory.mktemp("taught")
    done = run_in(root, data_folder, "teach", *ONE)
    assert done.code == 0, done.err
    return root / done.folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_network(folder).network.body.state_dict()


def test_a_network_normalises_by_its_training_images(taught: Path) -> None:
    loaded = load_network(taught)
    pixels = data_of(loaded, Console(quiet=True)).train.images.double() / 255
    assert loaded.network.mean.tolist() == pytest.approx(pixels.mean((0, 2, 3)).tolist())
    assert loaded.network.std.tolist() == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist())


def test_a_student_starts_from_a_run_and_frozen_layers_stay(cli: Cli, taught: Path) -> None:
    words = ["distill", *ONE, "--loss", "none", "--T", 2, "--init", taught, "--neuron", "plif"]
    frozen = ["conv", "norm", "stages.0"]
    done = cli(*words, "--set", f"train.freeze={frozen}")
    assert done.code == 0, done.err
    assert f"initial weights: {taught}" in done.err
    before, after = weights(taught), weights(done.folder)
    fixed = {name for name in before if torch.equal(before[name], after[name])}
    assert fixed >= {name for name in before if name.startswith(("conv.", "norm.", "stages.0."))}
    moved = {name for name in before if name.startswith(("stages.1.", "head.")) and before[name].ndim}
    assert not fixed & moved, "weights and norm statistics"
    assert cli(*words).folder != done.folder


def test_a_teacher_learns_other_classes_under_a_new_head(cli: Cli, taught: Path) -> None:
    state = {f"module.{name}": tensor for name, tensor in weights(taught).items()}
    torch.save({"state_dict": state}, "t.pt")
    words = ["teach", *ONE, "--set", "data.classes=12", "--lr", 1e-9]
    done = cli(*words, "--init", "t.pt")
    assert done.code == 0, done.err
    assert "initial weights: t.pt, without head.weight, head.bias" in done.err
    before, after = weights(taught), weights(done.folder)
    torch.testing.assert_close(after["stages.2.0.conv2.weight"], before["stages.2.0.conv2.weight"])
    assert after["head.weight"].shape == (12, 16)
    assert "already done" in cli(*words, "--init", "t.pt").err
    Path("renamed.pt").write_bytes(Path("t.pt").read_bytes())
    assert cli(*words, "--init", "renamed.pt").folder == done.folder, "identified by content"
    torch.save({"state_dict": {name: 2 * tensor for name, tensor in state.items()}}, "t.pt")
    assert cli(*words, "--init", "t.pt").folder != done.folder


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--init", "none.pt"], 3, "none.pt: no such run or file (train.init)"),
        (["--init", "teacher"], 2, "train.init: teacher, but a teacher has none"),
        (
            ["--set", "train.freeze=[stage.0]"],
            2,
            "no layer 'stage.0' in the network; did you mean 'stages.0'",
        ),
        (["--set", "train.freeze=[conv, norm, stages, head]"], 2, "leave one to train"),
        (["--init", "wide.pt"], 3, "wide.pt: not resnet8; nearest in names of snnkd"),
    ],
)
def test_what_cannot_be_a_start_is_refused(
    cli: Cli, taught: Path, words: list[str], code: int, message: str
) -> None:
    torch.save({name: torch.zeros(1, *tensor.shape) for name, tensor in weights(taught).items()}, "wide.pt")
    refused = cli("teach", *ONE, *words)
    assert refused.code == code, refused.err
    assert message in refused.complaint
    assert not Path("runs").exists()
