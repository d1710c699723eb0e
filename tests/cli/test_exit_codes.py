"""Every row of the exit-code table: the code, and one line that names the offending value."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import DATA, SMALL, TRAIN, Cli, finish, start, teach_and_distill

from snnkd import pipeline
from snnkd.data.loader import TrainBatches
from snnkd.errors import Stopped
from snnkd.recipe import Flags, TeachRecipe, resolve_stage
from snnkd.report import Reporter
from snnkd.runs.find import Finished
from snnkd.training import loop
from snnkd.training.state import load_state
from snnkd.training.stopping import Stop

# ---- 0: done, or already done


def test_done_then_already_done(cli: Cli) -> None:
    first = cli("teach", *SMALL)
    assert first.code == 0
    weights = (first.folder / "model.safetensors").stat().st_mtime_ns
    again = cli("teach", *SMALL)
    assert again.code == 0
    assert again.out == first.out
    assert "already done" in again.err
    assert (first.folder / "model.safetensors").stat().st_mtime_ns == weights
    assert not (first.folder / "last.pt").exists(), "checkpoints of a finished run are removed"


# ---- 1: a bug


def test_a_bug_is_one_line_and_a_traceback_with_debug(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr("snnkd.pipeline.teach", broken)
    plain = cli("teach", *SMALL)
    assert plain.code == 1
    assert "bug: ZeroDivisionError: of all things" in plain.complaint
    debug = cli("teach", "--debug", *SMALL)
    assert debug.code == 1
    assert "Traceback" in debug.err


# ---- 2: the request is wrong


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["distil"], "distill"),
        (["teach", "--epoch", "3"], "--epochs"),
        (["distill", "--lss", "kl"], "--loss"),
        (["distill", "--loss", "hta-kk"], "'hta-kk'; did you mean 'hta-kl'"),
        (["teach", "--data", "glyps"], "'glyps'; did you mean 'glyphs'"),
        (["teach", "--model", "resnet81"], "'resnet81'; did you mean 'resnet8'"),
        (["teach", "glyph"], "'glyph'; did you mean 'glyphs'"),
        (["teach", "--set", "train.epoch=3"], "'train.epoch'; did you mean 'train.epochs'"),
        (["teach", "--set", "train.epochs"], "'train.epochs' is not KEY=VALUE"),
        (["teach", "--epochs", "0"], "train.epochs: 0"),
        (["teach", "--epochs", "many"], "train.epochs: 'many'"),
        (["teach", "--lr", "-1"], "train.lr: -1"),
        (["teach", "--lr", "nan"], "train.lr: 'nan'"),
        (["distill", "--T", "0"], "model.T: 0"),
        (["distill", "--set", "neuron.tau=1"], "neuron.tau: 1"),
        (["distill", "--set", "loss.terms.0.delta=1.5"], "loss.terms.0.delta: 1.5"),
        (["distill", "--set", "loss.terms.0.head=top2"], "'top2' is not one of top1, strict, cover"),
        (["distill", "--loss", "none", "--temperature", "3"], "--temperature 3"),
        (["teach", "--device", "cuda:99"], "'cuda:99'"),
        (["teach", "--device", "tpu"], "'tpu'"),
        (["teach", "--max-time", "soon"], "'soon'"),
        (["teach", "--set", "train.select=best"], "val_fraction"),
        (["teach", "--data", "npz"], "npz:PATH"),
        (["eval", "--split", "tset"], "'tset'"),
        (["eval", "--T", "0"], "eval.T: 0"),
        (["distill", "--T", "4.5"], "model.T: '4.5' is not a whole number"),
        (["eval", "--plot", "curve.gif"], "curve.gif"),
        (["export", "--format", "safetensor"], "did you mean 'safetensors'"),
        (["list", "loses"], "did you mean 'losses'"),
        (["run"], "RECIPE"),
        (["check", "glyphs", "--set", "teach.train.lr=x"], "teach: train.lr: 'x'"),
    ],
)
def test_a_wrong_request(cli: Cli, words: list[str], said: str) -> None:
    """Refused before a file is opened: nothing is left in the empty directory."""
    ended = cli(*words)
    assert ended.code == 2, ended.err
    assert said in ended.complaint
    assert ended.out == ""
    assert list(Path().iterdir()) == []


def test_a_changed_identity_key_is_named(cli: Cli) -> None:
    assert cli("teach", *SMALL, "--out", "run").code == 0
    before = Path("run/model.safetensors").read_bytes()
    for change, key in ((["--lr", "0.05"], "train.lr = 0.1"), (["--seed", "7"], "seed = 0"), (["--set", "data.noise=0.2"], "data.sha256")):
        ended = cli("teach", *SMALL, "--out", "run", *change)
        assert ended.code == 2
        assert key in ended.complaint
    assert Path("run/model.safetensors").read_bytes() == before
    assert cli("teach", *SMALL, "--out", "run", "--set", "execution.eval_batch_size=50").code == 0, "execution keys may change"


def test_fresh_sets_the_old_run_aside(cli: Cli) -> None:
    assert cli("teach", *SMALL, "--out", "run").code == 0
    before = Path("run/model.safetensors").read_bytes()
    assert cli("teach", *SMALL, "--seed", "7", "--out", "run", "--fresh").code == 0
    assert Path(".aside/run-1/model.safetensors").read_bytes() == before
    assert Path("run/model.safetensors").read_bytes() != before


def test_several_teachers_are_listed(cli: Cli) -> None:
    folders = [str(cli("teach", *SMALL, "--seed", seed).folder) for seed in (0, 1)]
    ended = cli("distill", *SMALL, "--T", 1)
    assert ended.code == 2
    for name in (*folders, "--teacher latest"):
        assert name in ended.complaint
    done = cli("distill", *SMALL, "--T", 1, "--teacher", "latest", "--allow-weak-teacher", "--json")
    assert done.code == 0
    assert done.json["teacher"]["run"] == folders[1]


def test_several_students_are_listed(cli: Cli) -> None:
    first = teach_and_distill(cli)
    second = cli("distill", *SMALL, "--T", 2, "--loss", "none").folder
    for command in ("eval", "export"):
        ended = cli(command)
        assert ended.code == 2
        assert str(first) in ended.complaint
        assert str(second) in ended.complaint
        assert cli(command, "--latest").code == 0
    assert (second / "export/safetensors/config.json").exists()


def test_an_export_that_exists_is_refused(cli: Cli) -> None:
    folder = cli("teach", *SMALL).folder
    assert cli("export", folder, "--out", "here").code == 0
    assert "--out here: exists" in cli("export", folder, "--out", "here").complaint
    assert cli("export", folder, "--out", "here", "--force").code == 0
    Path("here/notes.txt").write_text("mine")
    ended = cli("export", folder, "--out", "here", "--force")
    assert ended.code == 2
    assert Path("here/notes.txt").read_text() == "mine"


def test_another_version_is_refused_when_continuing(cli: Cli) -> None:
    assert cli("teach", *SMALL, "--out", "run", "--max-time", "0s").code == 75
    about = Path("run/run.json")
    about.write_text(about.read_text().replace(f'"torch": "{torch.__version__.partition("+")[0]}', '"torch": "1.0.0'))
    ended = cli("teach", *SMALL, "--out", "run")
    assert ended.code == 2
    assert "versions.torch = '1.0.0" in ended.complaint
    assert cli("status", "run").out.startswith("stopped"), "a refused request is no failure of the run"


# ---- 3: a file or place is bad


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["teach", "./missing.yaml"], "missing.yaml"),
        (["teach", "--data", "npz:missing.npz"], "missing.npz"),
        (["distill", "--teacher", "missing"], "missing"),
        (["distill"], "snnkd teach"),
        (["eval"], "snnkd distill"),
        (["eval", "missing"], "missing"),
        (["export"], "snnkd distill"),
        (["status", "missing"], "missing"),
        (["eval", "--plot", "nowhere/curve.png"], "nowhere"),
    ],
)
def test_a_missing_file(cli: Cli, words: list[str], said: str) -> None:
    ended = cli(*words)
    assert ended.code == 3, ended.err
    assert said in ended.complaint


@pytest.mark.parametrize(
    ("text", "said"),
    [("a: [", "line"), ("- 1", "list"), ("!!python/object/apply:os.system ['touch x']", "tag"), ("schema: 1\nschema: 1", "twice")],
)
def test_a_recipe_that_is_not_plain_yaml(cli: Cli, text: str, said: str) -> None:
    Path("r.yaml").write_text(text)
    ended = cli("teach", "r.yaml")
    assert ended.code == 3
    assert "r.yaml" in ended.complaint
    assert said in ended.complaint
    assert not Path("x").exists()


def test_a_truncated_network(cli: Cli) -> None:
    folder = cli("teach", *SMALL).folder
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    for words in (["eval", folder], ["export", folder], ["distill", *SMALL, "--teacher", folder]):
        ended = cli(*words)
        assert ended.code == 3
        assert str(weights) in ended.complaint


def test_damaged_checkpoints(cli: Cli) -> None:
    """One damaged: the previous one is used, and said. Both: refused, nothing overwritten."""
    assert cli("teach", *SMALL, "--out", "whole").code == 0
    words = [*SMALL, "--out", "run", "--set", "execution.keep_state=true"]
    assert cli("teach", *words).code == 0
    Path("run/result.json").unlink()
    last, previous = Path("run/last.pt"), Path("run/previous.pt")
    last.write_bytes(last.read_bytes()[:-100])
    again = cli("teach", *words)
    assert again.code == 0
    assert "last.pt" in again.err
    assert "continuing from previous.pt" in again.err
    assert Path("run/model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()
    Path("run/result.json").unlink()
    for path in (last, previous):
        path.write_bytes(b"not a checkpoint")
    ended = cli("teach", *words)
    assert ended.code == 3
    assert "last.pt" in ended.complaint
    assert last.read_bytes() == b"not a checkpoint"


def _npz(path: str, classes: int, size: int = 16, channels: tuple[int, ...] = ()) -> str:
    rng = np.random.default_rng(0)
    labels = np.arange(200) % classes
    images = rng.integers(0, 256, (200, size, size, *channels), dtype=np.uint8)
    np.savez(path, train_images=images, train_labels=labels, test_images=images[:50], test_labels=labels[:50])
    return f"npz:{path}"


def test_a_teacher_that_does_not_fit(cli: Cli) -> None:
    teacher = cli("teach", *SMALL).folder
    for name, said in (
        (_npz("a.npz", 7), "10 classes"),
        (_npz("b.npz", 10, 32), "[1, 16, 16]"),
        (_npz("c.npz", 10, 16, (3,)), "[3, 16, 16]"),
    ):
        ended = cli("distill", "--data", name, "--teacher", teacher, "--T", 1)
        assert ended.code == 3
        assert said in ended.complaint


def test_a_student_is_no_teacher(cli: Cli) -> None:
    student = teach_and_distill(cli)
    ended = cli("distill", *SMALL, "--teacher", student)
    assert ended.code == 3
    assert "spiking student" in ended.complaint


def test_a_weak_teacher(cli: Cli) -> None:
    """Random labels cannot be learned; the refusal leaves no run behind."""
    name = _npz("random.npz", 10)
    assert cli("teach", "--data", name, *SMALL[6:], "--epochs", 1).code == 0
    ended = cli("distill", "--data", name, *SMALL[6:], "--T", 1)
    assert ended.code == 3
    assert "below twice chance (20.00 %)" in ended.complaint
    assert [path.name[:5] for path in Path("runs").iterdir()] == ["teach"]
    assert cli("distill", "--data", name, *SMALL[6:], "--T", 1, "--allow-weak-teacher").code == 0


def test_a_run_held_by_another_process(cli: Cli) -> None:
    import fcntl

    assert cli("teach", *SMALL, "--out", "run", "--max-time", "0s").code == 75
    with Path("run/run.lock").open("r") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        ended = cli("teach", *SMALL, "--out", "run")
        assert ended.code == 3
        assert f"held by process {os.getpid()}" in ended.complaint
        assert cli("status", "run").out.startswith("running")
    assert cli("teach", *SMALL, "--out", "run").code == 0


@pytest.mark.skipif(not Path("/proc/self/mounts").exists(), reason="needs a place that even root cannot write to")
def test_a_read_only_place(cli: Cli) -> None:
    ended = cli("teach", *SMALL, "--out", "/proc/snnkd/run")
    assert ended.code == 3
    assert "/proc/snnkd" in ended.complaint


# ---- 4: the work failed


def test_a_loss_that_is_not_finite(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the second epoch, so that there is a good checkpoint to stay intact; continuing without the fault finishes."""
    assert cli("teach", *SMALL, "--out", "whole").code == 0
    honest = TrainBatches.batch

    def poisoned(self: TrainBatches, epoch: int, step: int) -> Any:
        images, labels = honest(self, epoch, step)
        return (images * float("nan") if (epoch, step) == (1, 3) else images), labels

    with monkeypatch.context() as patch:
        patch.setattr(TrainBatches, "batch", poisoned)
        ended = cli("teach", *SMALL, "--out", "run")
    assert ended.code == 4
    assert "the loss became nan in epoch 2" in ended.complaint
    assert cli("status", "run").code == 4
    again = cli("teach", *SMALL, "--out", "run")
    assert again.code == 0
    assert "continuing in epoch 2" in again.err
    assert Path("run/model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()


@pytest.mark.parametrize(("lr", "codes"), [("1e30", {4}), ("1e300", {2, 4})])
def test_a_learning_rate_that_explodes(cli: Cli, lr: str, codes: set[int]) -> None:
    """1e300 is not even a float32."""
    ended = cli("teach", *SMALL, "--lr", lr)
    assert ended.code in codes, ended.err
    assert "train.lr" in ended.complaint


def test_a_full_disk(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    saves = iter(range(10))
    honest = loop.save_state

    def full(*words: Any) -> None:
        if next(saves) == 1:
            raise OSError(errno.ENOSPC, "No space left on device", "run/last.pt")
        honest(*words)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_state", full)
        ended = cli("teach", *SMALL, "--out", "run")
    assert ended.code == 4
    assert "run/last.pt" in ended.complaint
    assert cli("teach", *SMALL, "--out", "run").code == 0


def test_out_of_memory(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def hungry(*_: Any, **__: Any) -> Any:
        return torch.empty(2**60)

    monkeypatch.setattr(TrainBatches, "batch", hungry)
    ended = cli("teach", *SMALL)
    assert ended.code == 4
    assert "out of memory" in ended.complaint


def test_an_export_that_disagrees_is_removed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from snnkd.export import safetensors

    folder = cli("teach", *SMALL).folder
    honest = safetensors.read_back

    def flipped(place: Path) -> Any:
        network = honest(place)
        with torch.no_grad():
            next(network.body.parameters()).flatten()[0] += 1.0
        return network

    monkeypatch.setattr(safetensors, "read_back", flipped)
    ended = cli("export", folder, "--out", "here")
    assert ended.code == 4
    assert "differs" in ended.complaint
    assert not Path("here").exists()
    assert not list(Path().glob(".here*"))


# ---- 75: stopped (signals: tests/training/test_resume.py)


def test_a_time_limit_that_is_over_lets_one_step_pass(cli: Cli) -> None:
    ended = cli("teach", *SMALL, "--out", "run", "--max-time", "0s")
    assert ended.code == 75
    assert "--max-time" in ended.complaint
    assert "after step 1 of 6" in ended.complaint
    assert cli("status", "run").code == 75
    assert cli("teach", *SMALL, "--out", "run").code == 0
    assert cli("status", "run").code == 0


def test_stopped_while_measuring(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training is over and saved; the same command only measures."""
    from snnkd.training.stopping import Stop

    def check(self: Stop, where: str) -> None:
        self._signal = __import__("signal").SIGTERM
        raise self.error(where)

    with monkeypatch.context() as patch:
        patch.setattr(Stop, "check", check)
        ended = cli("teach", *SMALL, "--out", "run")
    assert ended.code == 75
    assert not Path("run/result.json").exists()
    again = cli("teach", *SMALL, "--out", "run")
    assert again.code == 0
    assert "epoch 2/2" not in again.err


def test_a_closed_pipe_is_no_error() -> None:
    process = start("list", "losses")
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    assert finish(process).code == 0


def test_nothing_of_a_run_is_left_of_a_refused_teacher(cli: Cli) -> None:
    teacher = cli("teach", *SMALL).folder
    shutil.rmtree(teacher)
    assert cli("distill", *SMALL).code == 3


# ---- somebody else's files


def test_a_recipe_of_ones_own_is_not_overwritten(cli: Cli) -> None:
    Path("mine").mkdir()
    text = "# my notes\nstage: teach\ndata: {classes: 10, train_images: 300, test_images: 100}\n"
    Path("mine/recipe.yaml").write_text(text)
    ended = cli("teach", "mine/recipe.yaml", *TRAIN, "--out", "mine")
    assert ended.code == 2
    assert "holds files but no run" in ended.complaint
    assert {path.name: path.read_text() for path in Path("mine").iterdir()} == {"recipe.yaml": text}


def test_fresh_moves_nobody_elses_files(cli: Cli) -> None:
    Path("mine").mkdir()
    for name in ("recipe.yaml", "thesis.tex"):
        Path("mine", name).write_text("mine")
    ended = cli("teach", *SMALL, "--out", "mine", "--fresh")
    assert ended.code == 2
    assert {path.name for path in Path("mine").iterdir()} == {"recipe.yaml", "thesis.tex"}
    assert {path.name for path in Path().iterdir()} == {"mine"}


def test_export_replaces_no_other_projects_network(cli: Cli) -> None:
    folder = cli("teach", *SMALL).folder
    Path("bert").mkdir()
    Path("bert/config.json").write_text('{"model_type": "bert"}')
    Path("bert/model.safetensors").write_bytes(b"weights")
    before = {path.name: path.read_bytes() for path in Path("bert").iterdir()}
    ended = cli("export", folder, "--out", "bert", "--force")
    assert ended.code == 2
    assert "bert" in ended.complaint
    assert {path.name: path.read_bytes() for path in Path("bert").iterdir()} == before
    assert {path.name for path in Path().iterdir()} == {"runs", "bert"}


@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize("out", [".", "./", "/", ".."])
def test_export_to_a_place_without_a_name(cli: Cli, out: str, force: list[str]) -> None:
    folder = cli("teach", *SMALL).folder
    ended = cli("export", folder, "--out", out, *force)
    assert ended.code == 2
    assert "--out" in ended.complaint
    assert {path.name for path in Path().iterdir()} == {"runs"}


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_what_comes_to_the_target_while_exporting_is_kept(cli: Cli, monkeypatch: pytest.MonkeyPatch, force: list[str]) -> None:
    from snnkd.export import safetensors

    folder = cli("teach", *SMALL).folder
    honest = safetensors.write

    def slow(draft: Path, loaded: Any) -> None:
        Path("here").mkdir()
        Path("here/thesis.tex").write_text("mine")
        honest(draft, loaded)

    monkeypatch.setattr(safetensors, "write", slow)
    ended = cli("export", folder, "--out", "here", *force)
    assert ended.code in (2, 3)
    assert "here" in ended.complaint
    assert {path.name: path.read_text() for path in Path("here").iterdir()} == {"thesis.tex": "mine"}
    assert {path.name for path in Path().iterdir()} == {"runs", "here"}


# ---- two requests for one folder: what was seen before the lock is looked at again inside it


def _meanwhile(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do `act` once, just before the next run takes its lock."""
    from snnkd import stage

    honest = stage.Lock

    class Late(honest):  # type: ignore[misc, valid-type]
        def __enter__(self) -> Any:
            monkeypatch.setattr(stage, "Lock", honest)
            act()
            return super().__enter__()

    monkeypatch.setattr(stage, "Lock", Late)


def _other(seed: int = 0, stop: Stop | None = None) -> Finished:
    settings = [*DATA[1::2], "model.width=4"]
    recipe = resolve_stage("glyphs", "teach", Flags(epochs=2, batch_size=50, seed=seed, settings=settings))
    assert isinstance(recipe, TeachRecipe)
    return pipeline.teach(recipe, pipeline.Options(out=Path("run"), report=Reporter(quiet=True), stop=stop or Stop()))


def test_a_run_that_another_process_finished_meanwhile_is_not_trained_again(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    times = []

    def finish_it() -> None:
        _other()
        times.append(Path("run/model.safetensors").stat().st_mtime_ns)

    _meanwhile(monkeypatch, finish_it)
    ended = cli("teach", *SMALL, "--out", "run")
    assert ended.code == 0, ended.err
    assert "already done" in ended.err
    assert "epoch" not in ended.err
    assert [Path("run/model.safetensors").stat().st_mtime_ns] == times
    assert cli("status", "run").code == 0


@pytest.mark.parametrize("unfinished", [False, True])
def test_another_run_that_began_in_the_folder_meanwhile_is_left_alone(cli: Cli, monkeypatch: pytest.MonkeyPatch, unfinished: bool) -> None:
    def begin_it() -> None:
        with pytest.raises(Stopped) if unfinished else nullcontext():
            _other(seed=7, stop=Stop(0) if unfinished else None)

    _meanwhile(monkeypatch, begin_it)
    ended = cli("teach", *SMALL, "--out", "run")
    assert ended.code == 2
    assert "seed = 7, this request 0" in ended.complaint
    assert json.loads(Path("run/run.json").read_text())["identity"]["seed"] == 7
    assert Path("run/result.json").exists() != unfinished
    assert _other(seed=7).folder == Path("run"), "the other one continues"


def test_a_student_finished_while_its_teacher_was_judged(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from snnkd import stage

    assert cli("teach", *SMALL).code == 0
    words = ["distill", *SMALL, "--T", 1, "--allow-weak-teacher", "--out", "run"]
    made = {path.name: path.read_bytes() for path in _copy_of(cli, words).iterdir() if path.name != "run.lock"}
    honest = stage.judge_teacher

    def slow(*given: Any) -> Any:
        shutil.copytree("done", "run")
        return honest(*given)

    monkeypatch.setattr(stage, "judge_teacher", slow)
    ended = cli(*words)
    assert ended.code == 0, ended.err
    assert "already done" in ended.err
    assert {path.name: path.read_bytes() for path in Path("run").iterdir() if path.name != "run.lock"} == made


def _copy_of(cli: Cli, words: list[Any]) -> Path:
    """The run that `words` make, moved to done/."""
    assert cli(*words).code == 0
    return Path("run").rename("done")


# ---- weights that are not finite after a loss that was


def test_weights_spoilt_by_the_last_step(cli: Cli) -> None:
    ended = cli("teach", *SMALL, "--lr", "1e38", "--epochs", 1, "--batch-size", 300, "--out", "run")
    assert ended.code == 4, ended.err
    assert "lower train.lr" in ended.complaint
    assert not Path("run/result.json").exists()
    state = load_state(Path("run"), Reporter(quiet=True))
    assert state is None or all(value.isfinite().all() for value in state["network"].values())
    assert cli("status", "run").code == 4


@pytest.mark.parametrize("steps", [6, 7])
def test_no_checkpoint_holds_spoilt_weights(cli: Cli, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Spoilt by the last step of an epoch, or by the step before a stop: the checkpoint before stays."""
    honest = torch.optim.SGD.step
    left, asked = iter(range(steps)), []

    def step(self: Any, *given: Any) -> Any:
        made = honest(self, *given)
        next(left)
        if left.__length_hint__() == 0:
            with torch.no_grad():
                self.param_groups[0]["params"][0][0] = float("inf")
            asked.append(True)
        return made

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", step)
        patch.setattr(Stop, "asked", property(lambda self: "SIGTERM" if asked else None))
        ended = cli("teach", *SMALL, "--out", "run")
    assert ended.code == 4, ended.err
    assert "is no longer finite" in ended.complaint
    assert Path("run/last.pt").exists() == (steps > 6)
    assert cli("teach", *SMALL, "--out", "run").code == 0
    assert cli("teach", *SMALL, "--out", "whole").code == 0
    assert Path("run/model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()


# ---- `run` and `check` refuse at once what a later stage would refuse


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "distill.train.batch_size=20000"], "train.batch_size: 20000"),
        (["--set", "eval.split=val"], "val"),
        (["--set", "distill.train.select=best"], "val_fraction"),
        (["--set", "distill.execution.device=cuda:99"], "cuda:99"),
        (["--set", "los=kl"], "unknown key 'los'"),
    ],
)
def test_run_refuses_before_it_trains(cli: Cli, words: list[str], said: str) -> None:
    ended = cli("run", "glyphs", *DATA, *words)
    assert ended.code == 2, ended.err
    assert said in ended.complaint
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schema: 1\nteach: {}\ntrian: {epochs: 1}\n", "unknown key 'trian'"),
        ("schema: 7\nteach: {}\n", "schema: 7"),
        ("schema: 7\nstage: teach\n", "schema: 7"),
        ("schema: 1\nseed: 0\n", "names no stage"),
    ],
)
def test_recipes_that_check_and_run_refuse(cli: Cli, text: str, said: str) -> None:
    Path("r.yaml").write_text(text)
    for command in ("check", "run"):
        ended = cli(command, "r.yaml")
        assert ended.code == 2
        assert said in ended.complaint
        assert ended.out == ""
    assert [path.name for path in Path().iterdir()] == ["r.yaml"]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("data.train_images=5", "data.train_images: 5 is fewer than the 10 classes"),
        ("train.batch_size=20000", "train.batch_size: 20000"),
        ("data.classes=1", "data.classes: 1"),
        ("los=kl", "did you mean 'loss'"),
        ("execution.device=cuda:99", "cuda:99"),
    ],
)
def test_check_refuses_what_the_stages_refuse(cli: Cli, setting: str, said: str) -> None:
    ended = cli("check", "glyphs", *DATA, "--set", setting)
    assert ended.code == 2, ended.err
    assert said in ended.complaint
    assert "not here" not in ended.err


def test_one_suggestion(cli: Cli) -> None:
    said = cli("teach", "--epoch", 3).complaint
    assert said.endswith("did you mean '--epochs'?")
    assert said.count("--epochs") == 1
    assert said.lower().count("did you mean") == 1


# ---- data that changed


def test_a_run_begun_on_other_images_is_named(cli: Cli) -> None:
    """A new file under the old name must not start a second run silently."""
    words = ["teach", "--data", _npz("mine.npz", 10), *TRAIN]
    ended = cli(*words, "--max-time", "0s")
    assert ended.code == 75
    (folder,) = Path("runs").iterdir()
    assert cli(*words, "--max-time", "0s", "--out", "own").code == 75
    _npz("mine.npz", 9)
    other = cli(*words)
    assert other.code == 2, other.err
    assert str(folder) in other.complaint
    own = cli(*words, "--out", "own")
    assert own.code == 2
    assert "own: its run has data.sha256" in own.complaint
    assert [path.name for path in Path("runs").iterdir()] == [folder.name]
    _npz("mine.npz", 10)
    assert cli(*words).code == 0
    _npz("mine.npz", 9)
    after = cli(*words)
    assert after.code == 0, "a finished run is not in the way"
    assert after.folder != folder


def test_a_run_begun_on_another_data_section_is_not_in_the_way(cli: Cli) -> None:
    assert cli("teach", *SMALL, "--max-time", "0s").code == 75
    assert cli("teach", *SMALL, "--set", "data.noise=0.2").code == 0
    assert cli("teach", *SMALL, "--set", "data.noise=1e-2").code == 0
    assert cli("teach", *SMALL).code == 0


# ---- full disks


FULL = OSError(errno.ENOSPC, "No space left on device")
OTHER = OSError(errno.EROFS, "Read-only file system")


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> Path:
    root = tmp_path_factory.mktemp("student")
    done = finish(start("distill", *SMALL, "--loss", "none", "--T", 1, cwd=root, env={**os.environ, "SNNKD_DATA": str(data_folder)}))
    assert done.code == 0, done.err
    return root / done.folder


@pytest.mark.parametrize(("error", "code"), [(FULL, 4), (OTHER, 3)])
@pytest.mark.parametrize(
    ("words", "where", "named"),
    [
        (["export", "--out", "here"], "snnkd.models.files.write_atomic", "--out here"),
        (["eval", "--T", "3"], "snnkd.pipeline.write_json", "eval"),
        (["eval", "--plot", "curve.png"], "matplotlib.figure.Figure.savefig", "--plot curve.png"),
        (["teach", *SMALL, "--out", "run"], "snnkd.runs.lock.json.dump", ""),
        (["teach", *SMALL, "--out", "run"], "snnkd.runs.open.write_atomic", ""),
    ],
)
def test_a_place_that_takes_no_more(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, student: Path, words: list[str], where: str, named: str, error: OSError, code: int
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(error.errno, error.strerror)

    before = {path for path in student.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(where, refuse)
        ended = cli(*words[:1], *([student] if words[0] != "teach" else []), *words[1:])
    assert ended.code == code, ended.err
    assert named in ended.complaint
    assert ("the disk is full" if code == 4 else "read-only file system") in ended.complaint
    assert {path for path in student.rglob("*") if path.is_file()} == before
    if words[0] == "export":
        assert list(Path().iterdir()) == []
    if words[0] == "teach":
        assert cli(*words).code == 0


# ---- fresh


def test_fresh_keeps_the_finished_run_when_the_teacher_is_refused(cli: Cli) -> None:
    name = _npz("random.npz", 10)
    assert cli("teach", "--data", name, *TRAIN, "--epochs", 1).code == 0
    words = ["distill", "--data", name, *TRAIN, "--T", 1]
    folder = cli(*words, "--allow-weak-teacher").folder
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    ended = cli(*words, "--fresh")
    assert ended.code == 3
    assert "below twice chance" in ended.complaint
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not Path("runs/.aside").exists()


# ---- SIGINT


INTERRUPTED = """
import os, signal, sys
sys.argv = ["snnkd", *sys.argv[1:]]
from snnkd import inspection
from snnkd.export import safetensors
def interrupted(honest):
    def call(*words):
        os.kill(os.getpid(), signal.SIGINT)
        return honest(*words)
    return call
inspection.facts, safetensors.write = interrupted(inspection.facts), interrupted(safetensors.write)
from snnkd.cli import main
main()
"""


@pytest.mark.parametrize("words", [["check", "glyphs", *DATA], ["export"]])
def test_sigint_ends_commands_that_have_nothing_to_save(student: Path, words: list[str]) -> None:
    """They die of the signal, so that a shell's loop ends, and leave nothing."""
    if words[0] == "export":
        words = ["export", str(student), "--out", "here"]
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, *words], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGINT, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert [line.startswith("snnkd: stopped by SIGINT") for line in lines] == [True], done.stderr
    assert list(Path().iterdir()) == []
