"""Every row of the exit-code table: the code, and one line that names the offending value."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL, Cli, finish, random_npz, start, teach_and_distill

from snnkd.data.loader import TrainBatches
from snnkd.stopping import Stop
from snnkd.training import train_state

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
        (
            ["distill", "--loss", "none", "--teacher", "missing"],
            "--teacher missing: loss none uses no teacher",
        ),
        (
            ["distill", "--loss", "tet", "--set", "teacher.run=x"],
            "teacher.run: x, but loss tet uses no teacher",
        ),
        (["eval", "RUN", "--latest"], "--latest: RUN chooses"),
        (["eval", "--all", "--latest"], "--latest: --all chooses"),
        (["export", "RUN", "--latest"], "--latest: RUN chooses"),
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
    for change, key in (
        (["--lr", "0.05"], "train.lr = 0.1"),
        (["--seed", "7"], "seed = 0"),
        (["--set", "data.noise=0.2"], "data.sha256"),
    ):
        ended = cli("teach", *SMALL, "--out", "run", *change)
        assert ended.code == 2
        assert key in ended.complaint
    assert Path("run/model.safetensors").read_bytes() == before
    assert cli("teach", *SMALL, "--out", "run", "--set", "execution.eval_batch_size=50").code == 0, (
        "execution keys may change"
    )


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
    about.write_text(
        about.read_text().replace(f'"torch": "{torch.__version__.partition("+")[0]}', '"torch": "1.0.0')
    )
    ended = cli("teach", *SMALL, "--out", "run")
    assert ended.code == 2
    assert "versions.torch = '1.0.0" in ended.complaint
    assert cli("status", "run").out.splitlines()[1].startswith("stopped"), (
        "a refused request is no failure of the run"
    )


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
    [
        ("a: [", "line"),
        ("- 1", "list"),
        ("!!python/object/apply:os.system ['touch x']", "tag"),
        ("schema: 1\nschema: 1", "twice"),
    ],
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


def test_a_teacher_that_does_not_fit(cli: Cli) -> None:
    teacher = cli("teach", *SMALL).folder
    ended = cli("distill", "--data", random_npz("a.npz", 7), "--teacher", teacher, "--T", 1)
    assert ended.code == 3
    assert "10 classes" in ended.complaint


def test_a_weak_teacher(cli: Cli) -> None:
    """Random labels cannot be learned; the refusal leaves no run behind."""
    name = random_npz("random.npz", 10)
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
        assert cli("status", "run").out.splitlines()[1].startswith("running")
    assert cli("teach", *SMALL, "--out", "run").code == 0


@pytest.mark.skipif(
    not Path("/proc/self/mounts").exists(), reason="needs a place that even root cannot write to"
)
def test_a_read_only_place(cli: Cli) -> None:
    ended = cli("teach", *SMALL, "--out", "/proc/snnkd/run")
    assert ended.code == 3
    assert "/proc/snnkd" in ended.complaint


# ---- 4: the work failed


def test_a_loss_that_is_not_finite(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the second epoch, so that there is a good checkpoint to stay intact; continuing without the fault
    finishes."""
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
    honest = train_state.save_state

    def full(*words: Any) -> None:
        if next(saves) == 1:
            raise OSError(errno.ENOSPC, "No space left on device", "run/last.pt")
        honest(*words)

    with monkeypatch.context() as patch:
        patch.setattr(train_state, "save_state", full)
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
    assert ended.complaint.startswith(
        "snnkd: out of memory; set execution.activation_checkpointing=true, or lower train.batch_size"
    )


def test_an_export_that_disagrees_is_removed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from snnkd.exports import safetensors

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
    from snnkd.stopping import Stop

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
