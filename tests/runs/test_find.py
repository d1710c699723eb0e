"""The states of runs, and choosing one of several."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import forbid
from safetensors.numpy import save_file

from snnkd.console import Console
from snnkd.errors import FileError, Preempted, RunError, UsageError
from snnkd.runs.find import choose, finished_runs
from snnkd.runs.lock import Lock
from snnkd.runs.status import all_status, exit_code, run_status

QUIET = Console(quiet=True)


def begun(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    return folder


def ended(folder: Path, error: Exception | None) -> Path:
    begun(folder)
    if error is None:
        with Lock(folder):
            pass
    else:
        with pytest.raises(type(error)), Lock(folder):
            raise error
    return folder


def finished(folder: Path, stage: str = "teach", when: int = 0, **more: object) -> Path:
    ended(folder, None)
    save_file({"weight": np.zeros(3, np.float32)}, folder / "model.safetensors")
    result = folder / "result.json"
    result.write_text(json.dumps({"stage": stage, "curve": [{"t": 1, "top1": 12.345}], **more}))
    os.utime(result, ns=(when, when))
    return folder


def test_the_states_of_runs(tmp_path):
    done, stopped = finished(tmp_path / "a"), ended(tmp_path / "b", Preempted("by SIGTERM"))
    failed, stale, running = (
        ended(tmp_path / "c", RunError("nan")),
        begun(tmp_path / "d"),
        begun(tmp_path / "e"),
    )
    killed = begun(tmp_path / "f")
    (killed / "run.lock").write_text('{"state": "running", "pid": 1}')
    with Lock(running):
        found = {status.folder: status for status in all_status(tmp_path, QUIET)}
    assert {path.name: status.state for path, status in found.items()} == {
        "a": "done", "b": "stopped", "c": "failed", "d": "stale", "e": "running", "f": "stale",
    }  # fmt: skip
    assert found[done].note == "top-1 12.35 %", "an ANN has no timesteps"
    student = finished(tmp_path / "g", "distill", trained_T=1)
    assert run_status(student).note == "top-1 12.35 % at t = 1"
    assert found[stopped].note == "by SIGTERM"
    assert found[failed].note == "RunError: nan"
    assert "same command continues" in found[stale].note
    assert str(os.getpid()) in found[running].note


def test_weights_that_are_cut_or_gone_are_a_failure(tmp_path):
    """As `snnkd eval` would say; only the header is read."""
    weights = finished(tmp_path / "a") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    assert run_status(weights.parent).state == "failed"
    weights.unlink()
    status = run_status(weights.parent)
    assert status.state == "failed"
    assert "model.safetensors" in status.note
    assert "\n" not in status.note


@pytest.mark.parametrize(
    "result",
    [
        "",
        "{}",
        "[]",
        '{"curve": []}',
        '{"curve": [{"t": 1, "top1": null}]}',
        '{"curve": [{"t": 1, "top1": "x"}]}',
    ],
)
def test_a_damaged_result_is_a_failure(tmp_path, result):
    folder = finished(tmp_path / "a")
    (folder / "result.json").write_text(result)
    assert run_status(folder).state == "failed"
    assert "result.json" in run_status(folder).note


def test_exit_codes(tmp_path):
    def code() -> int:
        return exit_code(all_status(tmp_path, QUIET))

    with pytest.raises(FileError, match="contains no runs"):
        code()
    finished(tmp_path / "a")
    assert code() == 0
    ended(tmp_path / "b", Preempted("by SIGTERM"))
    assert code() == 75
    ended(tmp_path / "c", RunError("nan"))
    assert code() == 4


def test_status_of_one_run_and_of_other_folders(tmp_path):
    run = finished(tmp_path / "a")
    (tmp_path / "notes").mkdir()
    finished(tmp_path / ".aside" / "a-1")
    (tmp_path / "file").write_text("")
    assert [status.folder for status in all_status(run, QUIET)] == [run]
    assert [status.folder for status in all_status(tmp_path, QUIET)] == [run]
    with pytest.raises(FileError, match="absent: no such folder"):
        all_status(tmp_path / "absent", QUIET)


def test_finished_runs_by_stage_and_age(tmp_path):
    old, new = finished(tmp_path / "z", when=1000), finished(tmp_path / "a", when=2000)
    finished(tmp_path / "s", "distill")
    begun(tmp_path / "unfinished")
    (finished(tmp_path / "damaged") / "result.json").write_text("{")
    (tmp_path / "file").write_text("")
    assert [run.folder for run in finished_runs("teach", tmp_path, QUIET)] == [old, new]
    assert [run.folder for run in finished_runs("distill", tmp_path, QUIET)] == [tmp_path / "s"]
    assert finished_runs("teach", tmp_path / "absent", QUIET) == []


def test_choosing_one_of_several(tmp_path):
    def chosen(latest: bool) -> Path:
        return choose(
            finished_runs("teach", tmp_path, QUIET),
            "teacher",
            latest,
            "--teacher latest",
            "run `snnkd teach` first",
        ).folder

    for latest in (False, True):
        with pytest.raises(FileError, match=r"^run `snnkd teach` first$"):
            chosen(latest)
    first = finished(tmp_path / "b", when=1000)
    assert chosen(False) == chosen(True) == first
    second = finished(tmp_path / "a", when=2000)
    assert chosen(True) == second
    with pytest.raises(
        UsageError, match=f"2 finished teacher runs: {first} .12.3 %., {second} .12.3 %.; .*--teacher latest"
    ):
        chosen(False)
    for name, when in (("a", 2000), ("b", 1000)):
        shutil.rmtree(tmp_path / name)
        finished(tmp_path / name, when=when, weights_sha256="same weights")
    assert chosen(False) == second


@pytest.mark.parametrize("name", ["run.lock", "result.json", "model.safetensors"])
def test_a_run_whose_files_cannot_be_read_is_left_out_of_the_states(tmp_path, monkeypatch, capfd, name):
    mine, theirs = finished(tmp_path / "mine"), finished(tmp_path / "theirs")
    forbid(monkeypatch, theirs / name)
    assert [status.folder for status in all_status(tmp_path, Console())] == [mine]
    assert capfd.readouterr().err == f"left out: {theirs / name}: permission denied\n"
    with pytest.raises(FileError, match=f"{name}: permission denied"):
        all_status(theirs, QUIET)


def test_what_is_left_out_is_logged_once(tmp_path, monkeypatch, capfd):
    finished(tmp_path / "mine")
    forbid(monkeypatch, finished(tmp_path / "theirs"))
    (finished(tmp_path / "damaged") / "result.json").write_text("{}")
    console = Console()
    for stage in ("teach", "distill", "teach"):
        finished_runs(stage, tmp_path, console)
    lines = [line.split(": ", 1)[1] for line in capfd.readouterr().err.splitlines()]
    assert lines == [
        f"{tmp_path / 'theirs'}: permission denied",
        f"{tmp_path / 'damaged' / 'result.json'}: not a result of snnkd",
    ]
