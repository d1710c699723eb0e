"""A run that was interrupted, however and wherever, ends with the bytes of a run that never was."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL, Cli, finish, run_in, start, teach_and_distill

from snnkd import pipeline
from snnkd.console import Console
from snnkd.errors import Preempted
from snnkd.recipe import resolve_stage
from snnkd.runs.metrics import read_metrics
from snnkd.schema.run import TeachRecipe
from snnkd.stopping import Stop
from snnkd.training.checkpoint import save_state

STEPS = 6  # per epoch: 300 images in batches of 50
FLAGS: Any = {
    "epochs": 2,
    "batch_size": 50,
    "settings": [
        "data.classes=10",
        "data.train_images=300",
        "data.test_images=100",
        "model.width=4",
        "data.augment=[crop, flip]",
    ],
}


class StopAfter(Stop):
    """Asks to stop after `steps` steps, as a signal would."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = steps

    @property
    def reason(self) -> str | None:
        self._left -= 1
        if self._left < 0:
            self._signal = signal.SIGTERM
        return super().reason


def _teach(out: str, stop: Stop | None = None, seed: int = 0) -> bytes:
    recipe = resolve_stage("glyphs", "teach", **{**FLAGS, "seed": seed})
    assert isinstance(recipe, TeachRecipe)
    done = pipeline.teach(
        recipe, pipeline.RunContext(out=Path(out), console=Console(quiet=True), stop=stop or Stop())
    )
    return (done.folder / "model.safetensors").read_bytes()


def test_same_recipe_and_seed_same_bytes() -> None:
    assert _teach("one") == _teach("two")
    assert _teach("three", seed=1) != _teach("one")


@pytest.mark.parametrize(
    "stops",
    [
        (0, 1, STEPS - 1, STEPS, STEPS + 1, 2 * STEPS),
        pytest.param(range(2 * STEPS + 1), marks=pytest.mark.nightly),
    ],
    ids=["edges", "all"],
)
def test_interrupted_at_every_step(stops: Iterable[int]) -> None:
    """Augmentation on; one stop after each number of steps, the epoch's ends included."""
    whole = _teach("whole")
    for steps in stops:
        out = f"stopped-{steps}"
        if steps < 2 * STEPS:
            with pytest.raises(Preempted, match="the same command continues"):
                _teach(out, StopAfter(steps))
            assert not (Path(out) / "result.json").exists()
        assert _teach(out) == whole, f"stopped after {steps} steps"
        assert [
            json.loads(line)["epoch"] for line in Path(out, "metrics.jsonl").read_text().splitlines()
        ] == [1, 2]


def test_interrupted_again_and_again() -> None:
    """Three steps at a time."""
    whole = _teach("whole")
    for _attempt in range(10):
        try:
            assert _teach("often", StopAfter(3)) == whole
            break
        except Preempted:
            continue
    else:
        pytest.fail("never finished")


class Killed(BaseException):
    """What no code of snnkd catches to save something."""


class KillAfter(StopAfter):
    """Ends the work after `steps` steps, without a warning."""

    @property
    def reason(self) -> str | None:
        if super().reason:
            raise Killed
        return None


@pytest.mark.parametrize(("minutes", "step"), [(1e-9, 2), (0, 0)])
def test_a_kill_loses_at_most_the_time_between_checkpoints(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, minutes: float, step: int
) -> None:
    """Before the fourth step of the second epoch is saved; checkpoints within it change no bytes."""
    whole = _teach("whole")
    monkeypatch.setitem(FLAGS, "settings", [*FLAGS["settings"], f"execution.save_every={minutes}"])
    with pytest.raises(Killed):
        _teach("killed", KillAfter(STEPS + 3))
    assert _teach("killed") == whole
    assert f"continuing in epoch 2 of 2, after step {step} of {STEPS}" in Path("killed/log.txt").read_text()


def test_a_kill_after_a_checkpoint_loses_no_line_of_the_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line of the epoch comes before its checkpoint: no later command could add it."""

    def save_and_die(folder: Path, state: dict[str, Any]) -> None:
        save_state(folder, state)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("snnkd.training.train_state.save_state", save_and_die)
        with pytest.raises(Killed):
            _teach("killed")
    _teach("killed")
    assert [row["epoch"] for row in read_metrics(Path("killed"))] == [1, 2]


OPTIMIZERS = {
    "sgd": [
        "train.nesterov=true",
        "train.schedule=triangular",
        "train.norm_lr_factor=8",
        "train.first_sizes=[12]",
        "data.augment=[crop, {name: flip, alternate: true}]",
    ],
    "adam": [
        "train.clip_grad_norm=0.5",
        "train.lr=0.002",
        "train.schedule=multistep",
        "train.milestones=[1]",
    ],
    "adamw": ["train.norm_weight_decay=0.1", "train.lr=0.002", "train.schedule=one-cycle", "train.ema=0.9"],
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_continues(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in the first epoch, at its end, and in the second."""
    settings = [*FLAGS["settings"], f"train.optimizer={optimizer}", *OPTIMIZERS[optimizer]]
    monkeypatch.setitem(FLAGS, "settings", settings)
    whole = _teach("whole")
    for steps in (STEPS - 2, STEPS - 2, 2):
        with pytest.raises(Preempted):
            _teach("stopped", StopAfter(steps))
    assert _teach("stopped") == whole


def test_metrics_of_a_continued_epoch_are_those_of_a_whole_one() -> None:
    """Sums over the epoch survive the stop."""
    _teach("whole")
    with pytest.raises(Preempted):
        _teach("stopped", StopAfter(STEPS + 2))
    _teach("stopped")
    for whole, stopped in itertools.zip_longest(
        *(Path(run, "metrics.jsonl").read_text().splitlines() for run in ("whole", "stopped"))
    ):
        a, b = json.loads(whole), json.loads(stopped)
        for key in a.keys() - {"seconds", "cpu_seconds", "images_per_s"}:
            assert a[key] == b[key], key


def test_a_checkpoint_of_another_format_version_is_refused_by_name(cli: Cli) -> None:
    words = ["teach", *SMALL, "--out", "run"]
    assert cli(*words, "--max-time", "0s").code == 75
    later = Path("run/last.pt").read_bytes().replace(b"snnkd checkpoint 1", b"snnkd checkpoint 7", 1)
    Path("run/last.pt").write_bytes(later)
    Path("run/previous.pt").unlink(missing_ok=True)
    ended = cli(*words)
    assert ended.code == 3
    assert "snnkd checkpoint 7" in ended.complaint
    assert Path("run/last.pt").read_bytes() == later


def test_student_continues_with_its_teacher(cli: Cli) -> None:
    student = teach_and_distill(cli)
    whole = (student / "model.safetensors").read_bytes()
    words = [*SMALL, "--T", 2, "--allow-weak-teacher", "--out", "again"]
    stopped = cli("distill", *words, "--max-time", "0s")
    assert stopped.code == 75
    assert "the same command continues" in stopped.complaint
    assert cli("status", "again").code == 75
    assert cli("distill", *words).code == 0
    assert Path("again/model.safetensors").read_bytes() == whole


LONG = [*SMALL, "--set", "train.epochs=20", "--out", "run"]


def _wait_for(path: Path) -> None:
    for _ in range(1200):
        if path.exists():
            return
        time.sleep(0.05)
    pytest.fail(f"{path} never appeared")


@pytest.fixture(scope="module")
def long_bytes(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> bytes:
    """The weights of the LONG run, never interrupted."""
    root = tmp_path_factory.mktemp("long")
    assert run_in(root, data_folder, "teach", *LONG).code == 0
    return (root / "run/model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 75),
        (signal.SIGUSR1, 75),
        (signal.SIGINT, -signal.SIGINT),
    ],
)
@pytest.mark.nightly  # forked: faults/test_signals_by_phase
def test_signals_save_and_end_with_their_code(
    number: signal.Signals, code: int, long_bytes: bytes, cli: Cli
) -> None:
    """The first checkpoint is waited for, then the signal is sent while training goes on."""
    process = start("teach", *LONG)
    _wait_for(Path("run/last.pt"))
    process.send_signal(number)
    ended = finish(process)
    assert ended.code == code, ended.err
    assert f"stopped by {number.name}" in ended.complaint
    assert ended.out == ""
    shown = cli("status", "run")
    assert shown.code == 75
    assert shown.out.splitlines()[1].startswith("stopped")
    assert cli("teach", *LONG).code == 0
    assert Path("run/model.safetensors").read_bytes() == long_bytes


@pytest.mark.nightly  # forked: faults/test_at_every_operation
def test_a_killed_run_continues_from_its_last_checkpoint(long_bytes: bytes, cli: Cli) -> None:
    process = start("teach", *LONG)
    _wait_for(Path("run/previous.pt"))
    process.kill()
    assert finish(process).code == -signal.SIGKILL
    shown = cli("status", "run")
    assert shown.code == 75
    assert shown.out.splitlines()[1].startswith("stale")
    again = cli("teach", *LONG)
    assert again.code == 0
    assert "continuing in epoch" in again.err
    assert Path("run/model.safetensors").read_bytes() == long_bytes


@pytest.mark.nightly  # forked: faults/test_signals_by_phase
def test_a_second_signal_ends_at_once() -> None:
    """Stopped (SIGSTOP) while the two arrive, so that both are pending before the loop can act on the
    first."""
    process = start("teach", *LONG)
    _wait_for(Path("run/last.pt"))
    process.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    assert finish(process).code in (-signal.SIGTERM, -signal.SIGINT)


@pytest.mark.nightly
def test_a_signal_while_torch_is_imported_is_kept_for_the_first_step() -> None:
    """The handlers stand before the slow imports; the run then saves and ends as ever."""
    process = start("teach", *LONG)
    time.sleep(1.5)  # Python is up, torch is still on its way (or, on a fast machine, the run has begun)
    process.send_signal(signal.SIGTERM)
    ended = finish(process)
    assert ended.code == 75, ended.err
    assert Path("run/last.pt").exists()


@pytest.mark.nightly  # while waiting: cli/test_sweep_cli; in training: faults/test_signals_by_phase
def test_a_shell_loop_ends_on_ctrl_c() -> None:
    """Dying of SIGINT, not exiting with 130, is what makes bash give up its loop."""
    import subprocess
    import sys

    words = " ".join(map(str, LONG))
    script = f"for i in 1 2 3; do {sys.executable} -m snnkd teach {words} --seed $i; echo next; done"
    shell = subprocess.Popen(
        ["bash", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    _wait_for(Path("run/last.pt"))
    os.killpg(shell.pid, signal.SIGINT)
    out, _ = shell.communicate(timeout=60)
    assert "next" not in out
