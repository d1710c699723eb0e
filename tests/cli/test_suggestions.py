"""What people type by habit: each refusal says what to type next."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Cli


@pytest.fixture(autouse=True)
def _files() -> None:
    for folder in ("pics", "out1"):
        Path(folder).mkdir()
    for name in ("x.npz", "mine.yaml", "out1/recipe.yaml"):
        Path(name).touch()


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("distill --loss HTA-KL", "did you mean 'hta-kl'?"),
        ("distill --loss hta_kl", "did you mean 'hta-kl'?"),
        ("distill --neuron LIF", "did you mean 'lif'?"),
        ("distill --neuron Cuba_LIF", "did you mean 'cuba-lif'?"),
        ("teach --data CIFAR10", "did you mean 'cifar10'?"),
        ("teach --model ResNet8", "did you mean 'resnet8'?"),
        ("run Glyphs", "did you mean 'glyphs'?"),
        ("list LOSSES", "did you mean 'losses'?"),
        ("teach --set lr=0.01", "did you mean 'train.lr'?"),
        ("run glyphs --set weight-decay=0.1", "did you mean 'train.weight_decay'?"),
        ("distill --set Temperature=2", "did you mean 'loss.temperature'?"),
        ("distill --set size=3", "did you mean 'data.size' or 'teacher.size'?"),
        ("teach --set epoch=3", "did you mean 'train.epochs'?"),
        ("teach --set learning_rate=1", "did you mean 'train.lr'?"),
        ("teach --set train.bs=10", "did you mean 'train.batch_size'?"),
        ("distill --set timesteps=2", "did you mean 'model.T'?"),
        ("teach --set train.optimizer=Adam", "is not one of sgd, adam, adamw; did you mean 'adam'?"),
        ("teach --device CUDA:1", "did you mean 'cuda:1'?"),
        ("teach --set eval.T=4", "eval: `snnkd teach` has no such section, only `snnkd run` takes it"),
        ("distill --loss kl --T 2 4", "for a run each: snnkd run RECIPE --sweep KEY=VALUE,4"),
        ("run glyphs --set sweep.lr=[1,2]", "did you mean 'train.lr'?"),
        ("teach --data pics", "did you mean 'imagefolder:pics'?"),
        ("teach --data x.npz", "did you mean 'npz:x.npz'?"),
        ("data pics", "did you mean 'imagefolder:pics'?"),
        ("eval --data x.npz", "did you mean 'npz:x.npz'?"),
        ("run mine", "did you mean 'mine.yaml'?"),
        ("distill out1", "did you mean 'out1/recipe.yaml'?"),
        ("distill --loss kl --T 2,4", "for a run each: snnkd run RECIPE --sweep model.T=2,4"),
        ("teach --seed 0,1,2", "for a run each: snnkd run RECIPE --sweep seed=0,1,2"),
        ("distill --loss kl --seed 0-2", "for a run each: snnkd run RECIPE --sweep seed=0-2"),
        ("teach train.lr=0.1", "did you mean '--set train.lr=0.1'?"),
        ("teach --lr 0.1,1e-2", "for a run each: snnkd run RECIPE --sweep train.lr=0.1,1e-2"),
        ("distill --loss kl,hta-kl", "for a run each: snnkd run RECIPE --sweep loss=kl,hta-kl"),
        ("teach --data mnist,svhn", "for a run each: snnkd run RECIPE --sweep data=mnist,svhn"),
        ("train --epochs 3", "`snnkd teach` trains a teacher, `snnkd distill` a student"),
        ("infer", "`snnkd predict RUN PICTURE`"),
        ("help", "`snnkd --help`"),
        ("version", "`snnkd --version`"),
        ("config", "`snnkd check RECIPE > mine.yaml`"),
        ("resume runs/x", "the command that began a run continues it"),
        ("tech", "Did you mean 'teach'"),
        ("fit", "no command 'fit'; `snnkd --help` lists them"),
        ("predict", "Missing argument 'RUN'; see `snnkd predict --help`"),
    ],
)
def test_what_to_type_instead_is_said(cli: Cli, command: str, hint: str) -> None:
    ended = cli(*command.split())
    assert (ended.code, hint in ended.complaint) == (2, True), ended.err


@pytest.mark.parametrize("place", ["./out1", "./pics"])
def test_a_folder_is_no_recipe(cli: Cli, place: str) -> None:
    ended = cli("run", place)
    remedy = "write out1/recipe.yaml" if place == "./out1" else "give a .yaml file"
    assert (ended.code, f"is a directory, not a recipe; {remedy}" in ended.complaint) == (3, True), ended.err


@pytest.mark.parametrize("name", ["mine.yml", "./myne.yaml"])
def test_a_recipe_of_almost_this_name_is_named(cli: Cli, name: str) -> None:
    ended = cli("run", name)
    assert (ended.code, "no such file; did you mean 'mine.yaml'?" in ended.complaint) == (3, True), ended.err
    assert "did you mean" not in cli("run", "other/far.yaml").complaint


def test_keys_of_another_stage_are_not_suggested(cli: Cli) -> None:
    assert "known: data, execution" in cli("teach", "--set", "temperature=2").complaint


def test_an_argument_is_not_suggested_for_an_option(cli: Cli) -> None:
    assert cli("keys", "--set").complaint == "snnkd: No such option: --set"
