"""A loss, a network and data of the user's own: run when the command line names them, refused otherwise, and
explained."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import DATA, SMALL, Cli

QUICK = ["--epochs", 1, "--batch-size", 50, "--allow-weak-teacher"]
TEACH = QUICK[:-1]
MODULE = """
import numpy as np
import torch
from torch import nn


def good_loss(student, teacher, *, temperature, labels, power=2.0):
    q, p = ((z / temperature).softmax(-1) for z in (student, teacher))
    value = temperature**2 * ((p - q).abs() ** power).sum(-1).mean()
    return value, {"largest": q.amax()}


class Net(nn.Module):
    def __init__(self, classes, shape, activation, width):
        super().__init__()
        self.conv, self.act = nn.Conv2d(shape[0], width, 3, padding=1), activation()
        self.norm, self.head = nn.BatchNorm2d(width), nn.Linear(width, classes)

    def forward(self, images, T):
        x = self.norm(self.conv(images)).repeat(T, 1, 1, 1)
        return self.head(self.act(x, T).mean((2, 3))).unflatten(0, (T, -1))


def good_model(*, classes, shape, activation, width=4):
    return Net(classes, shape, activation, width)


def good_data(images=200):
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (images, 16, 16), dtype=np.uint8), np.arange(images) % 5
    test = {"test_images": pixels[:50], "test_labels": labels[:50]}
    return {"train_images": pixels, "train_labels": labels, **test}
"""


@pytest.fixture(autouse=True)
def _fresh_modules() -> Iterator[None]:
    """Each test has its own mine.py; in one process Python would keep the first."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("mine"):
            del sys.modules[name]


@pytest.fixture
def mine() -> None:
    Path("mine.py").write_text(MODULE)


@pytest.mark.usefixtures("mine")
def test_all_three_from_teacher_to_evaluation(cli: Cli) -> None:
    common = ["--data", "mine:good_data", "--model", "mine:good_model"]
    teacher = cli("teach", *common, *TEACH)
    assert teacher.code == 0, teacher.err
    assert teacher.out.startswith("runs/teach-mine_good_data-mine_good_model-")
    words = [*common, "--loss", "mine:good_loss", "--T", 2, *QUICK, "--set", "loss.options.power=1.5"]
    student = cli("distill", *words)
    assert student.code == 0, student.err
    assert student.out.startswith("runs/distill-mine_good_data-mine_good_model-mine_good_loss-T2-")
    row = json.loads((student.folder / "metrics.jsonl").read_text())
    assert row["mine:good_loss"] > 0
    assert 0 < row["good_loss.largest"] <= 1
    refused = cli("eval", student.folder)
    assert refused.code == 2
    assert "add --code mine:good_model" in refused.complaint
    half = cli("eval", student.folder, "--code", "mine:good_model")
    assert half.code == 2
    assert "add --code mine:good_data" in half.complaint
    allowed = ["--code", "mine:good_model", "--code", "mine:good_data"]
    measured = cli("eval", student.folder, *allowed, "--json")
    assert measured.code == 0, measured.err
    assert measured.json["curve"] == json.loads((student.folder / "result.json").read_text())["curve"]
    assert cli("export", student.folder, *allowed, "--out", "exported").code == 0
    assert cli("distill", *words).err.count("already done") == 1


@pytest.mark.usefixtures("mine")
def test_the_source_is_part_of_the_run(cli: Cli) -> None:
    words = [*DATA, "--loss", "mine:good_loss", "--T", 2, *QUICK, "--out", "run", "--set", "model.width=4"]
    assert cli("teach", *DATA, *TEACH, "--set", "model.width=4").code == 0
    assert cli("distill", *words).code == 0
    Path("mine.py").write_text(MODULE.replace("temperature**2 *", "0.5 *"))
    for name in [name for name in sys.modules if name == "mine"]:
        del sys.modules[name]
    changed = cli("distill", *words)
    assert changed.code == 2
    assert "code" in changed.complaint


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(
    ("section", "name"),
    [
        ("loss: mine:good_loss", "mine:good_loss"),
        ("loss: none\nmodel: {name: mine:good_model, T: 2}", "mine:good_model"),
        ("loss: none\ndata: {name: mine:good_data}", "mine:good_data"),
    ],
)
def test_a_recipe_that_names_code_is_refused(cli: Cli, section: str, name: str) -> None:
    Path("r.yaml").write_text(f"schema: 1\nstage: distill\n{section}\n")
    for words in (["check", "r.yaml"], ["run", "r.yaml"], ["distill", "./r.yaml"]):
        refused = cli(*words)
        assert refused.code == 2
        assert (
            f"{name!r} is code; it runs only when the command line names it: add --code {name}"
            in refused.complaint
        )
    named = cli("check", "r.yaml", "--code", name)
    assert named.code == 0, named.err


@pytest.mark.usefixtures("mine")
def test_code_named_once_is_not_named_for_ever(cli: Cli) -> None:
    Path("r.yaml").write_text("schema: 1\nstage: distill\nloss: mine:good_loss\n")
    assert cli("check", "r.yaml", "--code", "mine:good_loss").code == 0
    assert cli("check", "r.yaml").code == 2


SIGNATURE = "def f(student, teacher, *, temperature, labels): "
LOSSES = {
    "def f(student, teacher): return student.sum()": "raised TypeError",
    SIGNATURE + "return student": "returned shape [4, 10], not a scalar",
    SIGNATURE + "return 1.0": "returned float; it must return a scalar tensor",
    SIGNATURE + "return (student.detach() - teacher).sum()": "has no gradient",
    SIGNATURE + "return student.log().mean()": "returned nan for ordinary logits",
    SIGNATURE + "return (student - student).abs().sqrt().sum()": "its gradient is not finite",
    SIGNATURE + "teacher.zero_(); return student.sum()": "changes its arguments in place",
    SIGNATURE + "raise KeyError('x')": "raised KeyError: 'x'",
    "f = 3": "is int, not a function",
    "def g(): pass": "has no 'f'",
    "import nowhere_at_all\ndef f(): pass": "import failed: No module named 'nowhere_at_all'",
    "1/0": "import failed: ZeroDivisionError",
}


@pytest.mark.parametrize(("source", "said"), LOSSES.items(), ids=range(len(LOSSES)))
def test_a_loss_that_does_not_conform(cli: Cli, source: str, said: str) -> None:
    assert cli("teach", *DATA, *TEACH, "--set", "model.width=4").code == 0
    Path("mine.py").write_text(source)
    ended = cli("distill", *DATA, "--loss", "mine:f", "--T", 2, *QUICK, "--set", "model.width=4")
    assert ended.code == 2, ended.err
    assert "mine:f: " in ended.complaint
    assert said in ended.complaint
    assert not list(Path("runs").glob("distill-*")), "nothing was begun"


MODELS = {
    "return Net(classes + 1)": "forward(images, T=1) returned [1, 3, 11], not [T, B, classes] = [1, 3, 10]",
    "return 3": "returned int; it must return a torch.nn.Module",
    "return Net(classes, timeless=True)": "forward(images, T=1) returned [3, 10]",
    "return Net(classes, extra=True)": "no gradient reaches extra",
    "return Net(classes, remembers=True)": "two calls with the same images differ",
    "return Net(classes, mixes=True)": "logits depend on the others in its batch",
    "return Net(classes, breaks=True)": "raised RuntimeError",
    "raise ValueError('no such shape')": "raised ValueError: no such shape",
}
NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes, **faults):
        super().__init__()
        self.head, self.faults, self.seen = nn.Linear(256, classes), faults, 0
        if faults.get("extra"):
            self.extra = nn.Parameter(torch.zeros(1))

    def forward(self, images, T):
        x = images.flatten(1)
        if self.faults.get("breaks"):
            x = x @ x
        if self.faults.get("mixes"):
            x = x - x.mean(0)
        if self.faults.get("remembers"):
            self.seen += 1
            x = x + self.seen
        logits = self.head(x)
        return logits if self.faults.get("timeless") else logits.expand(T, *logits.shape)

def f(*, classes, shape, activation):
    """


@pytest.mark.parametrize(("ending", "said"), MODELS.items(), ids=range(len(MODELS)))
def test_a_model_that_does_not_conform(cli: Cli, ending: str, said: str) -> None:
    Path("mine.py").write_text(NET + ending)
    ended = cli("teach", *DATA, "--model", "mine:f", *TEACH)
    assert ended.code == 2, ended.err
    assert said in ended.complaint


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        ("return 3", "returned int, not a mapping with"),
        ("return {}", "lacks the key 'train_images'"),
        (
            "a = good(); a['train_images'] = a['train_images'] / 255; return a",
            "train_images are float64; they must be uint8",
        ),
        ("a = good(); a['train_labels'] = list(range(20)); return a", "train_labels is list, not an array"),
        ("a = good(); a['test_labels'] = a['test_labels'] + 7; return a", "test_labels contain"),
        ("raise OSError('no disk')", "raised OSError: no disk"),
    ],
)
def test_data_that_do_not_conform(cli: Cli, ending: str, said: str) -> None:
    good = MODULE.replace("def good_data", "def good")
    Path("mine.py").write_text(f"{good}\n\ndef f():\n    {ending}\n")
    ended = cli("teach", "--data", "mine:f", *TEACH)
    assert ended.code == 2, ended.err
    assert ended.complaint.startswith(("snnkd: mine:f: ", "snnkd: mine:f() raised"))
    assert said in ended.complaint


def test_an_error_of_theirs_while_training_is_not_called_a_bug_of_ours(cli: Cli) -> None:
    source = """
calls = 0
def f(student, teacher, *, temperature, labels):
    global calls
    calls += 1
    if calls > 4:
        raise ValueError("too often")
    return (student - teacher).square().mean()
"""
    Path("mine.py").write_text(source)
    assert cli("teach", *DATA, *TEACH, "--set", "model.width=4").code == 0
    ended = cli("distill", *DATA, "--loss", "mine:f", "--T", 2, *QUICK, "--set", "model.width=4")
    assert ended.code == 4
    assert "mine.py:7: ValueError: too often" in ended.complaint


def test_feature_terms_need_a_network_that_offers_features(cli: Cli) -> None:
    Path("mine.py").write_text(MODULE)
    common = [*DATA, "--model", "mine:good_model"]
    assert cli("teach", *common, *TEACH).code == 0
    ended = cli("distill", *common, "--loss", "lasnn", "--T", 2, *QUICK)
    assert ended.code == 2
    assert "has no feature 'stages'; it has none" in ended.complaint


def test_a_module_that_is_not_there(cli: Cli) -> None:
    ended = cli("teach", "--data", "nowhere:load")
    assert ended.code == 2
    assert "no module 'nowhere' in" in ended.complaint


def test_source_that_is_imported_by_the_module_counts(cli: Cli) -> None:
    from snnkd import usercode

    Path("minepkg").mkdir()
    Path("minepkg/__init__.py").write_text("from minepkg.inner import f\n")
    Path("minepkg/inner.py").write_text("def f(): pass\n")
    first = usercode.source_sha256("minepkg:f")
    Path("minepkg/inner.py").write_text("def f(): return 1\n")
    assert usercode.source_sha256("minepkg:f") == first, "within one command it is what it was"
    usercode.permit(())
    assert usercode.source_sha256("minepkg:f") != first
    assert usercode.source_sha256("math:sin")


def test_the_source_is_that_of_the_module_and_its_neighbours_and_of_no_library_below(cli: Cli) -> None:
    """A virtual environment often lies in the folder of the module; what of it is loaded differs from moment
    to moment."""
    import importlib

    from snnkd import usercode

    Path("mine.py").write_text("import mine_helper\ndef f(): pass\n")
    Path("mine_helper.py").write_text("x = 1\n")
    Path("mine_library").mkdir()
    Path("mine_library/__init__.py").write_text("y = 1\n")
    first = usercode.source_sha256("mine:f")
    importlib.import_module("mine_library")
    usercode.permit(())
    assert usercode.source_sha256("mine:f") == first
    Path("mine_helper.py").write_text("x = 2\n")
    usercode.permit(())
    assert usercode.source_sha256("mine:f") != first


def test_options_given_one_by_one_add_up(cli: Cli) -> None:
    head = "def f(student, teacher, *, temperature, labels, a, b):\n"
    source = head + "    assert (a, b) == (1, 2)\n    return (student - teacher).square().mean()\n"
    Path("mine.py").write_text(source)
    assert cli("teach", *DATA, *TEACH, "--set", "model.width=4").code == 0
    words = [
        *DATA,
        "--loss",
        "mine:f",
        "--T",
        2,
        *QUICK,
        "--set",
        "model.width=4",
        "--set",
        "loss.options.a=1",
    ]
    assert cli("distill", *words, "--set", "loss.options.b=2").code == 0
    infinite = cli("distill", *words, "--set", "loss.options.b=.inf")
    assert infinite.code == 2
    assert "options.b: inf is not a finite number" in infinite.complaint


def test_tied_weights_are_saved_and_loaded(cli: Cli) -> None:
    tied = MODULE.replace(
        "self.norm, self.head", "self.twin = nn.Linear(width, width)\n        self.norm, self.head"
    )
    tied = tied.replace(
        "return self.head(self.act(x, T)", "return self.head(self.again(self.twin(self.act(x, T)"
    ).replace(".mean((2, 3))).unflatten", ".mean((2, 3))))).unflatten")
    tied = tied.replace(
        "    def forward(self, images, T):",
        "        self.again = nn.Linear(width, width)\n"
        "        self.again.weight = self.twin.weight\n\n"
        "    def forward(self, images, T):",
    )
    Path("mine.py").write_text(tied)
    made = cli("teach", *DATA, "--model", "mine:good_model", *TEACH)
    assert made.code == 0, made.err
    assert cli("eval", made.folder, "--code", "mine:good_model").code == 0


def test_an_activation_called_step_by_step_is_refused(cli: Cli) -> None:
    """Its membrane would begin anew at every timestep."""
    Path("mine.py").write_text(MODULE.replace("self.act(x, T)", "self.act(x, 1)"))
    ended = cli("teach", *DATA, "--model", "mine:good_model", *TEACH)
    assert ended.code == 2
    assert "forward(images, T=2) calls an activation with T=1" in ended.complaint


def test_an_activation_used_twice_counts_twice(cli: Cli) -> None:
    Path("mine.py").write_text(MODULE.replace("self.act(x, T).mean", "self.act(self.act(x, T) * 2, T).mean"))
    made = cli("distill", *DATA, "--model", "mine:good_model", "--loss", "none", "--T", 2, *QUICK, "--json")
    assert made.code == 0, made.err
    assert 0 < made.json["rate"] <= 1


def test_the_best_epoch_by_validation_images_of_ones_own(cli: Cli) -> None:
    Path("mine.py").write_text(
        MODULE.replace(
            '"test_images": pixels[:50]',
            '"val_images": pixels[:40], "val_labels": labels[:40], "test_images": pixels[:50]',
        )
    )
    made = cli(
        "teach",
        "--data",
        "mine:good_data",
        *TEACH,
        "--set",
        "train.select=best",
        "--set",
        "model.width=4",
        "--json",
    )
    assert made.code == 0, made.err
    assert made.json["selection"]["rule"] == "best"


def test_nested_options_are_printed_as_they_are_read(cli: Cli) -> None:
    Path("mine.py").write_text(MODULE)
    Path("r.yaml").write_text(
        "schema: 1\nstage: distill\nloss: {name: 'mine:good_loss', options: {a: null, b: {c: [1, {d: 2}]}}}\n"
    )
    first = cli("check", "r.yaml", "--code", "mine:good_loss")
    assert first.code == 0, first.err
    Path("again.yaml").write_text(first.out)
    again = cli("check", "again.yaml", "--code", "mine:good_loss", "--json")
    assert again.code == 0, again.err
    assert again.json["recipe"]["loss"]["terms"][0]["options"] == {"a": None, "b": {"c": [1, {"d": 2}]}}


def test_what_is_asked_to_be_logged_must_be_a_scalar(cli: Cli) -> None:
    Path("mine.py").write_text(MODULE.replace("q.amax()", "q"))
    assert cli("teach", *DATA, *TEACH, "--set", "model.width=4").code == 0
    ended = cli("distill", *DATA, "--loss", "mine:good_loss", "--T", 2, *QUICK, "--set", "model.width=4")
    assert ended.code == 2
    assert "good_loss.largest to log has shape" in ended.complaint


def test_an_npz_without_a_suffix_is_no_code(cli: Cli) -> None:
    from conftest import random_npz

    random_npz("plain.npz", 5)
    Path("plain.npz").rename("plain")
    made = cli("teach", "--data", "npz:plain", *TEACH, "--set", "model.width=4")
    assert made.code == 0, made.err
    assert cli("eval", made.folder).code == 0


def test_a_comparison_names_the_users_loss_without_its_hash(cli: Cli) -> None:
    """Two versions of its source are two rows, with six digits."""
    small = [*SMALL, "--epochs", 1, "--T", 1]
    assert cli("teach", *SMALL, "--epochs", 1).code == 0
    for source in ("0 * student.sum()", "1e-3 * student.square().mean()"):
        Path("mine.py").write_text(
            f"def my_loss(student, teacher, *, temperature, labels):\n    return {source}\n"
        )
        sys.modules.pop("mine", None)
        ended = cli("distill", *small, "--loss", "mine:my_loss", "--allow-weak-teacher")
        assert ended.code == 0, ended.err
    assert cli("distill", *small, "--loss", "none").code == 0
    rows = cli("compare", "--json").json["tables"][0]["columns"][0]["rows"]
    assert [re.sub(r"\([0-9a-f]{6}\)", "(......)", row["label"]) for row in rows] == [
        "none",
        "mine:my_loss (......)",
        "mine:my_loss (......)",
    ]
    for command in ("compare", "status"):
        assert not re.search("[0-9a-f]{64}", cli(command).out)
