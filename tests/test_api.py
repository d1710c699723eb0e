"""snnkd from Python: the same runs as from the command line, as typed results."""

from __future__ import annotations

import inspect
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL, Cli
from pages import blocks

import snnkd
from snnkd import stage
from snnkd.distributed import SIGNALS
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
    assert torch.equal(snnkd.load(run)(images), run.network()(images))
    with pytest.raises(
        UsageError, match=r"images of dtype torch.float64; this network expects torch.float32"
    ):
        snnkd.load(run)(images.double())
    with pytest.raises(UsageError, match=r"images are a ndarray; give a tensor"):
        snnkd.load(run)(images.numpy())
    assert torch.equal(snnkd.load(run).double()(images.double()).argmax(-1), run.network()(images).argmax(-1))


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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: snnkd.teach(settings=["train.lr=0.1"]),
            "settings: a list; give a mapping of keys to values",
        ),
        (lambda: snnkd.distill(settings="train.lr=0.1"), "settings: a str; give a mapping"),
        (lambda: snnkd.evaluate("x", settings=[1]), "settings: a list; give a mapping"),
        (lambda: snnkd.teach(settings={"train.lr": object()}), "train.lr: a object; give a number, text"),
        (lambda: snnkd.teach(settings={"train.betas": np.zeros((2, 2))}), "train.betas.0: "),
        (lambda: snnkd.teach(settings={3: 4}), "unknown key '3'"),
        (lambda: snnkd.teach(epochs=[1, 2]), r"epochs: \[1, 2\] is a list; give one value"),
        (lambda: snnkd.distill(loss="kl", teacher={"run": "x"}), "teacher: .* is a dict; give one value"),
        (lambda: snnkd.teach(3), "recipe: a int is not a path"),
        (lambda: snnkd.teach(out=3), "out: a int is not a path"),
        (lambda: snnkd.teach(model={"name": "resnet8", "width": 2}, lr=-1), "train.lr: -1"),
        (lambda: snnkd.teach(seed=np.int64(3), lr=np.float32(-1)), "train.lr: -1.0"),
        (lambda: snnkd.load(["x"]), "run: a list is not a path"),
        (lambda: snnkd.evaluate(None), "run: a NoneType is not a path"),
        (lambda: snnkd.evaluate("x", data=["glyphs"]), r"data: \['glyphs'\] is not text"),
        (lambda: snnkd.export("x", format=["nir"]), r"format: \['nir'\] is not text"),
        (lambda: snnkd.predict("x", 3), "pictures: a int is not a path"),
    ],
)
def test_values_of_the_wrong_type(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()


def test_recipes_runs_and_arrays_as_values(cli: Cli) -> None:
    Path("mine.yaml").write_text("extends: glyphs\n")
    first = snnkd.teach(Path("mine.yaml"), **SHORT)
    again = snnkd.teach(init=first, **{**SHORT, "settings": KEYS | {"seed": np.int64(2)}})
    assert again.result.details["seed"] == 2


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


def test_a_thread_that_is_not_the_main_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signals reach only the main thread; a second training at the same time would share its random numbers."""
    handlers = [signal.getsignal(number) for number in SIGNALS]
    with ThreadPoolExecutor(1) as pool:
        there = pool.submit(snnkd.teach, out="there", **SHORT).result()
    here = snnkd.teach(out="here", **SHORT)
    weights = [(run.folder / "model.safetensors").read_bytes() for run in (there, here)]
    assert weights[0] == weights[1]
    assert [signal.getsignal(number) for number in SIGNALS] == handlers

    def refused(*args: object) -> None:
        with ThreadPoolExecutor(1) as pool, pytest.raises(UsageError, match="another thread of this process"):
            pool.submit(snnkd.teach, out="second", **SHORT).result()

    monkeypatch.setattr(stage, "check_fit", refused)
    snnkd.teach(out="here", **SHORT)
    assert not Path("second").exists()


@pytest.mark.nightly  # processes that import torch
@pytest.mark.parametrize("scheduler", ["ProcessPoolExecutor", "submitit"])
def test_other_schedulers_as_the_guide_shows(scheduler: str) -> None:
    if scheduler == "submitit":
        pytest.importorskip("submitit")
    (block,) = [text for text in blocks("python", "python") if scheduler in text]
    small = {**SHORT, "teacher": "teacher", "T": 1, "allow_weak_teacher": True}
    snnkd.teach(out="teacher", **SHORT)
    block = block.replace('AutoExecutor("logs"', 'AutoExecutor("logs", cluster="local"')
    Path("sweep.py").write_text(block.replace('teacher="runs/my-teacher", T=4', f"**{small!r}"))
    done = subprocess.run([sys.executable, "sweep.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(list(Path("runs").iterdir())) == 3
