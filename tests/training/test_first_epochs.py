"""The first epochs of a run: fewer timesteps, smaller images."""

import pytest
import torch
from conftest import SMALL, Cli

from snnkd.models import Network
from snnkd.recipe import resolve_stage


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """Of each forward pass in training, the run's T (1 in a teacher), the pass's T and the image size."""
    seen, forward = [], Network.forward

    def recording(
        self: Network, images: torch.Tensor, T: int | None = None, features: object = None
    ) -> object:
        if torch.is_grad_enabled():
            trained = self.specification.T
            seen.append((trained, trained if T is None else T, images.shape[-1]))
        return forward(self, images, T, features)

    monkeypatch.setattr(Network, "forward", recording)
    return seen


def test_the_first_epochs_have_fewer_timesteps_and_smaller_images(cli: Cli, batches: list[tuple[int, ...]]):
    sizes = ["--epochs", 3, "--set", "train.first_sizes=[8, 12]"]
    assert cli("teach", *SMALL, *sizes).code == 0
    assert batches == [(1, 1, 8)] * 6 + [(1, 1, 12)] * 6 + [(1, 1, 16)] * 6
    batches.clear()
    student = [*SMALL, *sizes, "--set", "train.first_T=[1]", "--T", 2, "--loss", "kl", "--allow-weak-teacher"]
    done = cli("distill", *student)
    assert done.code == 0, done.err
    assert batches == [(2, 1, 8)] * 6 + [(2, 2, 12)] * 6 + [(2, 2, 16)] * 6


def refused(cli: Cli, stage: str, *settings: str) -> str:
    words = [word for setting in settings for word in ("--set", setting)]
    if stage == "distill":
        words += ["--T", "3", "--allow-weak-teacher"]
    done = cli(stage, *SMALL, "--epochs", "3", *words)
    assert done.code == 2, done.err
    return done.complaint


@pytest.mark.parametrize(
    ("stage", "settings", "message"),
    [
        ("teach", ["train.first_T=[1]"], "train.first_T: a teacher has no timesteps; remove the key"),
        (
            "teach",
            ["train.first_sizes=[8, 8, 8]"],
            "train.first_sizes: 3 values for train.epochs 3; give fewer than there are epochs",
        ),
        ("teach", ["train.first_sizes=[3]"], "train.first_sizes: 3 must be at least 4"),
        (
            "teach",
            ["train.first_sizes=[16]"],
            "train.first_sizes: 16 must be below the images' 16x16; remove or lower it",
        ),
        (
            "teach",
            ["train.first_sizes=[4]", "model.name=cnn7"],
            "train.first_sizes: the network does not accept 4x4 images",
        ),
        ("distill", ["loss=kl", "train.first_T=[0]"], "train.first_T: 0 must be at least 1"),
        ("distill", ["loss=kl", "train.first_T=[4]"], "train.first_T: 4 exceeds model.T, 3; give at most 3"),
        (
            "distill",
            ["loss=kl", "train.first_T=[1]", "neuron=psn"],
            "train.first_T: psn is not causal; trained at T = 3, it runs for 3 only",
        ),
        (
            "distill",
            ["loss=seal", "train.first_T=[1]"],
            "train.first_T: loss.terms.1.against: other-steps compares timesteps; give at least 2",
        ),
        (
            "distill",
            ["loss=bkdsnn", "train.first_sizes=[8]"],
            "train.first_sizes: blurred compares features with a teacher that sees full images; remove the key",
        ),
    ],
)
def test_values_that_cannot_be(cli: Cli, stage: str, settings: list[str], message: str):
    assert message in refused(cli, stage, *settings)


def test_without_them_a_run_keeps_its_name():
    recipe = resolve_stage("glyphs", "distill", T=2)
    assert recipe.train.first_T == recipe.train.first_sizes == ()
