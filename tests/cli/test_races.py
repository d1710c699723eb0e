"""Two requests for one folder: what was seen before the lock is looked at again inside it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from conftest import DATA, SMALL, Cli

from snnkd import pipeline
from snnkd.console import Console
from snnkd.errors import Preempted
from snnkd.recipe import resolve_stage
from snnkd.runs.find import Finished
from snnkd.schema.run import TeachRecipe
from snnkd.stopping import Stop


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
    recipe = resolve_stage("glyphs", "teach", epochs=2, batch_size=50, seed=seed, settings=settings)
    assert isinstance(recipe, TeachRecipe)
    return pipeline.teach(
        recipe, pipeline.RunContext(out=Path("run"), console=Console(quiet=True), stop=stop or Stop())
    )


def test_a_run_that_another_process_finished_meanwhile_is_not_trained_again(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
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
def test_another_run_that_began_in_the_folder_meanwhile_is_left_alone(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, unfinished: bool
) -> None:
    def begin_it() -> None:
        with pytest.raises(Preempted) if unfinished else nullcontext():
            _other(seed=7, stop=Stop(0) if unfinished else None)

    _meanwhile(monkeypatch, begin_it)
    ended = cli("teach", *SMALL, "--out", "run")
    assert ended.code == 2
    assert "seed = 7, this command 0" in ended.complaint
    assert json.loads(Path("run/run.json").read_text())["identity"]["seed"] == 7
    assert Path("run/result.json").exists() != unfinished
    assert _other(seed=7).folder == Path("run"), "the other one continues"


def test_a_student_finished_while_its_teacher_was_judged(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from snnkd import stage

    assert cli("teach", *SMALL).code == 0
    words = ["distill", *SMALL, "--T", 1, "--allow-weak-teacher", "--out", "run"]
    made = {
        path.name: path.read_bytes() for path in _copy_of(cli, words).iterdir() if path.name != "run.lock"
    }
    honest = stage.evaluate_teacher

    def slow(*given: Any) -> Any:
        shutil.copytree("done", "run")
        return honest(*given)

    monkeypatch.setattr(stage, "evaluate_teacher", slow)
    ended = cli(*words)
    assert ended.code == 0, ended.err
    assert "already done" in ended.err
    assert {path.name: path.read_bytes() for path in Path("run").iterdir() if path.name != "run.lock"} == made


def _copy_of(cli: Cli, words: list[Any]) -> Path:
    """The run that `words` make, moved to done/."""
    assert cli(*words).code == 0
    return Path("run").rename("done")


def test_what_killed_processes_left_in_a_run_is_removed(cli: Cli) -> None:
    words = ["teach", *SMALL, "--epochs", 1, "--out", "run"]
    assert cli(*words, "--max-time", "0s").code == 75
    left = [Path("run", f".{name}.abcd1234.tmp") for name in ("last.pt", "result.json", "config.json")]
    for place in ("eval", "export"):
        Path("run", place).mkdir()
        left.append(Path("run", place, ".val-T1.json.abcd1234.tmp"))
    for _ in ("taken up", "finished"):
        for path in left:
            path.write_bytes(b"part of a file")
        Path("run/export/.onnx.abcd1234.tmp/new").mkdir(parents=True)
        Path("run/export/.onnx.abcd1234.tmp/lock").touch()
        Path("run/run.lock").write_text('{"state": "running", "pid": 1}')
        assert cli(*words).code == 0
        assert not list(Path("run").rglob("*.tmp"))
        assert json.loads(Path("run/run.lock").read_text())["state"] == "done"
