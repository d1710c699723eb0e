"""Trackers show what a run's own files say: TensorBoard, and in their offline modes wandb and MLflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest.mock import Mock

import pytest
from conftest import SMALL, Cli
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from snnkd.runs.metrics import read_metrics
from snnkd.training.trackers import MLflow, TrackedRun, WandB


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    held = EventAccumulator(str(run / "tensorboard"))
    held.Reload()
    tags = [tag for tag in held.Tags()["scalars"] if not tag.startswith("result/")]
    return {tag: [(event.step, event.value) for event in held.Scalars(tag)] for tag in tags}


def wanted(run: Path) -> dict[str, list[tuple[int, float]]]:
    rows = read_metrics(run)
    keys = {
        key
        for row in rows
        for key, value in row.items()
        if key != "epoch" and isinstance(value, (int, float))
    }
    return {
        key: [(row["epoch"], pytest.approx(row[key], rel=1e-4)) for row in rows if key in row] for key in keys
    }


def test_every_epoch_once(cli: Cli) -> None:
    done = cli("teach", *SMALL, "--track", "tensorboard")
    assert done.code == 0, done.err
    assert {"loss", "train_top1", "lr"} <= scalars(done.folder).keys()
    assert scalars(done.folder) == wanted(done.folder)
    assert len(read_metrics(done.folder)) == 2


def test_also_after_an_interruption_and_when_asked_for_later(cli: Cli) -> None:
    words = ["teach", *SMALL, "--epochs", 3]
    for _ in range(8):
        assert cli(*words, "--max-time", "0s").code == 75  # one step each, into the second epoch
    done = cli(*words, "--track", "tensorboard", "--max-time", "0s")
    assert done.code == 75
    done = cli(*words, "--track", "tensorboard")
    assert done.code == 0, done.err
    assert [step for step, _ in scalars(done.folder)["loss"]] == [1, 2, 3]
    assert scalars(done.folder) == wanted(done.folder)


def test_it_is_not_part_of_what_a_run_is(cli: Cli) -> None:
    plain = cli("teach", *SMALL).folder
    assert not (plain / "tensorboard").exists()
    assert cli("teach", *SMALL, "--track", "tensorboard").folder == plain
    for words, message in (
        (
            ["--track", "tensorbord"],
            "execution.track.0: 'tensorbord' is not one of tensorboard, wandb, mlflow",
        ),
        (["--track", "wandb", "--track", "wandb"], "execution.track.1: wandb is given twice"),
    ):
        refused = cli("teach", *SMALL, *words)
        assert (refused.code, message in refused.complaint) == (2, True), refused.err


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_without_its_package_it_is_refused_before_any_run(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("snnkd.training.tracking.find_spec", lambda name: None)
    refused = cli("teach", *SMALL, "--track", name)
    assert refused.code == 2
    assert f"pip install {name}" in refused.complaint
    assert not Path("runs").exists()


class Recorder:
    """A tracker that keeps what it is given; `fails` names the call that raises."""

    fails = ""

    def __init__(self, run: TrackedRun) -> None:
        self.calls: list[tuple[object, ...]] = [("start", run.config["model.name"])]
        self.logged, self.id = 0, run.id
        RECORDERS.append(self)
        self._call("start")

    def _call(self, *call: object) -> None:
        self.calls.append(call)
        if call[0] == self.fails:
            raise ConnectionError("the server is away")

    def log(self, epoch: int, values: dict[str, float]) -> None:
        self._call("log", epoch, sorted(values)[0])

    def finish(self, epoch: int, values: dict[str, float], picture: Path) -> None:
        self._call("finish", epoch, values, picture.read_bytes()[:4])

    def close(self, done: bool) -> None:
        self._call("close", done)


RECORDERS: list[Recorder] = []


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    RECORDERS.clear()
    monkeypatch.setattr(Recorder, "fails", "")
    monkeypatch.setattr("snnkd.training.trackers.WandB", Recorder)
    monkeypatch.setattr("snnkd.training.tracking.find_spec", lambda name: True)
    return Recorder


def test_recipe_epochs_result_and_plot(cli: Cli, recorder: type[Recorder]) -> None:
    words = ["distill", "--loss", "none", "--T", 2, *SMALL]
    assert cli(*words, "--track", "wandb", "--max-time", "0s").code == 75
    done = cli(*words, "--track", "wandb", "--json")
    assert done.code == 0, done.err
    stopped, finished = RECORDERS
    assert stopped.id == finished.id
    assert [call[0] for call in stopped.calls] == ["start", "start", "close"]
    assert stopped.calls[-1] == ("close", False)
    assert [call[:2] for call in finished.calls[2:4]] == [("log", 1), ("log", 2)]
    _, epoch, values, picture = finished.calls[4]
    end = done.json["curve"][-1]
    assert (epoch, values["top1"], values["top1_at_2"], picture) == (2, end["top1"], end["top1"], b"\x89PNG")
    assert values["rate"] == done.json["rate"]
    assert finished.calls[5:] == [("close", True)]


@pytest.mark.parametrize("call", ["start", "log", "finish", "close"])
def test_one_that_fails_never_stops_a_run(cli: Cli, recorder: type[Recorder], call: str) -> None:
    recorder.fails = call
    done = cli("teach", *SMALL, "--track", "wandb", "--track", "tensorboard")
    assert done.code == 0, done.err
    warning = "warning: wandb no longer tracks this run (ConnectionError: the server is away)"
    assert done.err.count(warning) == 1
    assert scalars(done.folder) == wanted(done.folder), "the other tracker goes on"
    assert warning in (done.folder / "log.txt").read_text()


def test_tensorboard_has_recipe_result_and_plot(cli: Cli) -> None:
    done = cli("distill", "--loss", "none", "--T", 2, *SMALL, "--track", "tensorboard")
    held = EventAccumulator(str(done.folder / "tensorboard"))
    held.Reload()
    assert "recipe/text_summary" in held.Tags()["tensors"]
    assert held.Tags()["images"] == ["result"]
    result = json.loads((done.folder / "result.json").read_text())
    (top1,) = held.Scalars("result/top1")
    assert (top1.step, top1.value) == (2, pytest.approx(result["curve"][-1]["top1"], rel=1e-5))


class MLflowClient:
    """MLflow's client as far as it is used, with one run."""

    run: Any = None
    metrics: ClassVar[list[tuple[str, float, int]]] = []
    status = ""

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id="1")

    def search_runs(self, places: list[str], query: str) -> list[Any]:
        return [self.run] if self.run and self.run.tags["snnkd.id"] in query else []

    def create_run(self, place: str, run_name: str, tags: dict[str, str]) -> Any:
        type(self).run = SimpleNamespace(info=SimpleNamespace(run_id="7"), tags=tags)
        return self.run

    def update_run(self, run: str, status: str) -> None:
        type(self).status = status

    def get_metric_history(self, run: str, key: str) -> list[Any]:
        return [SimpleNamespace(step=step) for name, _, step in self.metrics if name == key]

    def log_param(self, run: str, key: str, value: str) -> None: ...

    def log_artifact(self, run: str, path: str) -> None: ...

    def log_metric(self, run: str, key: str, value: float, step: int) -> None:
        self.metrics.append((key, value, step))

    def set_terminated(self, run: str, status: str) -> None:
        type(self).status = status


def test_mlflow_continues_the_record_of_a_stopped_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=MLflowClient))
    run = TrackedRun(Path("run"), "abc", {"model.name": "resnet8"})
    first = MLflow(run)
    first.log(1, {"loss": 2.0})
    first.close(done=False)
    assert MLflowClient.status == "KILLED"
    second = MLflow(run)
    assert (second.logged, MLflowClient.status) == (1, "RUNNING")
    second.log(2, {"loss": 1.0})
    second.finish(2, {"top1": 50.0}, Path("result.png"))
    second.close(done=True)
    assert MLflowClient.metrics == [("loss", 2.0, 1), ("loss", 1.0, 2), ("result/top1", 50.0, 2)]
    assert MLflowClient.status == "FINISHED"
    assert MLflow(TrackedRun(Path("run"), "def", {})).logged == 0, "another run"


def test_wandb_has_epochs_as_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    record = Mock(step=4)
    wandb = Mock(**{"init.return_value": record})
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    tracker = WandB(TrackedRun(Path("run"), "abc", {}))
    assert tracker.logged == 4
    assert (wandb.init.call_args.kwargs["id"], wandb.init.call_args.kwargs["resume"]) == ("abc", "allow")
    tracker.log(5, {"loss": 1.0})
    record.log.assert_called_once_with({"loss": 1.0}, step=5)
    tracker.close(done=False)
    record.finish.assert_called_once_with(exit_code=1)


@pytest.mark.nightly  # imports MLflow, and makes its data base
@pytest.mark.filterwarnings("default")
def test_mlflow_on_sqlite(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///tracked.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "of-the-test")
    words = ["teach", *SMALL, "--track", "mlflow"]
    for _ in range(7):
        assert cli(*words, "--max-time", "0s").code == 75
    done = cli(*words)
    assert (done.code, "warning: mlflow" in done.err) == (0, False), done.err
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("of-the-test")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.info.run_name) == ("FINISHED", done.folder.name)
    assert run.data.params["train.epochs"] == "2"
    rows = read_metrics(done.folder)
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(each.step, each.value) for each in history] == [(row["epoch"], row["loss"]) for row in rows]
    result = json.loads((done.folder / "result.json").read_text())
    assert run.data.metrics["result/top1"] == pytest.approx(result["curve"][-1]["top1"])
    assert [each.path for each in client.list_artifacts(run.info.run_id)] == ["plot.png"]


@pytest.mark.nightly  # starts wandb's service
@pytest.mark.filterwarnings("default")
def test_wandb_offline(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    done = cli("distill", "--loss", "none", "--T", 2, *SMALL, "--track", "wandb")
    assert (done.code, "warning: wandb" in done.err) == (0, False), done.err
    assert done.out == f"{done.folder}\n"
    (stored,) = done.folder.glob("wandb/offline-run-*/run-*.wandb")
    content = stored.read_bytes()
    assert all(word in content for word in (b"train_top1", b"result/top1_at_2", b"loss.name"))
    assert list(done.folder.glob("wandb/offline-run-*/files/media/images/result/plot*.png"))


@pytest.mark.nightly  # a process of its own: wandb keeps the settings of its first use
def test_wandb_without_a_login_is_left_out(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    environment = {key: value for key, value in os.environ.items() if key != "WANDB_API_KEY"}
    done = subprocess.run(
        [sys.executable, "-m", "snnkd", *map(str, ["teach", *SMALL, "--track", "wandb"])],
        cwd=tmp_path,
        env=environment | {"WANDB_MODE": "online", "NETRC": "no-such-file"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "run `wandb login`, or set WANDB_MODE=offline" in done.stderr
