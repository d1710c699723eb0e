"""`snnkd status`: one row per run that fits 80 columns, the same as JSON and CSV, and what continues a run."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SMALL, Cli
from pages import blocks
from safetensors.numpy import save_file

from snnkd.recipe.sweep import resolve_tasks
from snnkd.runs.folder import identity
from snnkd.schema.fields import to_plain

MINUTES_AGO = 50


def write_run(
    folder: Path, document: str, epochs: int, *, done: bool, why: str = "", command: str = "", job: str = ""
) -> None:
    """A run as the commands leave it: trained for `epochs`, measured if it is `done`."""
    folder.mkdir(parents=True)
    recipe_path = folder / "recipe.yaml"
    recipe_path.write_text(document)
    pipeline = resolve_tasks(str(recipe_path)).all[0].pipeline
    recipe = pipeline.distill or pipeline.teach
    assert recipe is not None
    run = {
        "identity": identity(recipe, "d" * 64, None if recipe.stage == "teach" else "7" * 64),
        "data": to_plain(recipe.data),
        "command": command,
    }
    (folder / "run.json").write_text(json.dumps(run))
    state = {"state": "done"} if done else {"state": "stopped", "why": f"{why}; the same command continues"}
    state |= {"host": "n1"} | ({"job": job} if job else {})
    (folder / "run.lock").write_text(json.dumps(state))
    rows = [{"epoch": epoch + 1, "loss": 1.0, "val_top1": 50.0 + epoch} for epoch in range(epochs)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if done:
        save_file({"weight": np.zeros(3, np.float32)}, folder / "model.safetensors")
        result = {"stage": recipe.stage, "curve": [{"t": 1, "top1": 61.25}], "selection": {"epoch": 2}}
        (folder / "result.json").write_text(json.dumps(result))
    then = time.time() - 60 * MINUTES_AGO
    for path in folder.iterdir():
        os.utime(path, (then, then))


def student(loss: str, seed: int, extra: str = "") -> str:
    return f"stage: distill\ndata: glyphs\nloss: {loss}\nseed: {seed}\ntrain: {{epochs: 3, {extra}}}\n"


SWEEP = "snnkd run sweep.yaml"


@pytest.fixture
def sweep() -> None:
    """A finished teacher, two finished students, one that was stopped."""
    write_run(Path("runs/teach-glyphs-resnet8-aaaaaa-s0"), "stage: teach\ntrain: {epochs: 3}\n", 3, done=True)
    name = "runs/distill-glyphs-resnet8-kl-T4"
    write_run(Path(f"{name}-bbbbbb-s0"), student("{name: kl, temperature: 2}", 0), 3, done=True)
    write_run(Path(f"{name}-cccccc-s1"), student("{name: kl, temperature: 6}", 1, "lr: 0.05"), 3, done=True)
    write_run(
        Path(f"{name}-dddddd-s2"),
        student("{name: kl, temperature: 2}", 2),
        1,
        done=False,
        why="stopped by SIGTERM in epoch 2 of 3",
        command=f"{SWEEP} --fresh",
        job="17_2",
    )


@pytest.mark.usefixtures("sweep")
def test_rows_fit_80_columns(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ended = cli("status")
    assert ended.code == 75
    assert ended.out.splitlines() == [
        "state    loss                  T  seed  epoch    age  val %  test %  run",
        "done     kl temperature=2 lr…  4     0    3/3  50min  51.00   61.25  …-bbbbbb-s0",
        "done     kl temperature=6 lr…  4     1    3/3  50min  51.00   61.25  …-cccccc-s1",
        "stopped  kl temperature=2 lr…  4     2    1/3  50min  50.00       -  …-dddddd-s2",
        "done     (teacher)             -     0    3/3  50min  51.00   61.25  …-aaaaaa-s0",
        "",
        "runs/distill-glyphs-resnet8-kl-T4-dddddd-s2 (job 17_2 on n1)",
        "  stopped by SIGTERM in epoch 2 of 3",
        f"continue with: {SWEEP}",
    ]


@pytest.mark.usefixtures("sweep")
def test_names_are_whole_where_another_program_reads(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    rows = cli("status").out.splitlines()
    assert rows[1].endswith("  runs/distill-glyphs-resnet8-kl-T4-bbbbbb-s0")
    assert not any("…" in row for row in rows)


@pytest.mark.usefixtures("sweep")
def test_csv_has_a_column_for_each_swept_key(cli: Cli) -> None:
    ended = cli("status", "--csv")
    assert ended.code == 75
    rows = list(csv.DictReader(io.StringIO(ended.out)))
    assert [
        {key: row[key] for key in ("loss.temperature", "train.lr", "T", "seed", "test_top1", "epoch")}
        for row in rows[:3]
    ] == [
        {"loss.temperature": "2.0", "train.lr": "0.1", "T": "4", "seed": "0", "test_top1": "61.25", "epoch": "3"},
        {"loss.temperature": "6.0", "train.lr": "0.05", "T": "4", "seed": "1", "test_top1": "61.25", "epoch": "3"},
        {"loss.temperature": "2.0", "train.lr": "0.1", "T": "4", "seed": "2", "test_top1": "", "epoch": "1"},
    ]  # fmt: skip
    assert (rows[3]["stage"], rows[3]["loss"], rows[3]["loss.temperature"]) == ("teach", "", "")
    assert rows[3]["train.lr"] == "", "no other teacher, so nothing differs"


@pytest.mark.usefixtures("sweep")
def test_pandas_reads_the_table_as_the_guide_shows(cli: Cli) -> None:
    pytest.importorskip("pandas")
    (block,) = [text for text in blocks("measuring", "bash") if "pandas" in text]
    _, *words = shlex.split(block.splitlines()[1])
    Path("runs.csv").write_text(cli("status", "--csv").out)
    shown = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True).stdout
    assert shown.split() == [
        "T",
        "4.0",
        "loss",
        "kl",
        "temperature=2",
        "61.25",
        "kl",
        "temperature=6",
        "61.25",
    ]


@pytest.mark.usefixtures("sweep")
def test_json_has_every_field(cli: Cli) -> None:
    run: dict[str, Any] = cli("status", "--json").json["runs"][2]
    age = run.pop("age_s")
    assert 60 * MINUTES_AGO <= age < 60 * MINUTES_AGO + 60
    assert run == {
        "run": "runs/distill-glyphs-resnet8-kl-T4-dddddd-s2",
        "state": "stopped",
        "note": "stopped by SIGTERM in epoch 2 of 3; the same command continues",
        "stage": "distill",
        "data": "glyphs",
        "model": "resnet8",
        "neuron": "lif",
        "loss": "kl temperature=2",
        "T": 4,
        "seed": 2,
        "epoch": 1,
        "epochs": 3,
        "val_top1": 50.0,
        "test_top1": None,
        "command": SWEEP,
        "tags": [],
        "job": "17_2",
        "host": "n1",
        "settings": {"train.lr": 0.1, "loss.temperature": 2.0},
    }


def test_two_formats_are_refused(cli: Cli) -> None:
    ended = cli("status", "--csv", "--json")
    assert (ended.code, ended.complaint) == (2, "snnkd: --csv and --json are two formats; give one")


@pytest.mark.parametrize("file", ["run.json", "metrics.jsonl", "run.lock"])
@pytest.mark.parametrize(
    "content", ["", "[]", '{"identity": 3, "data": [], "command": "a \'"}', '{"epoch": 1}']
)
def test_damaged_files_do_not_hide_a_run(cli: Cli, file: str, content: str) -> None:
    write_run(Path("runs/a"), student("kl", 0), 1, done=False, why="stopped")
    Path("runs/a", file).write_text(content)
    for words in ([], ["--csv"], ["--json"]):
        ended = cli("status", *words)
        assert ended.code == 75
        assert "runs/a" in ended.out


def test_an_unfinished_run_is_refused_with_what_continues_it(cli: Cli) -> None:
    words = ["teach", *SMALL, "--out", "my runs/teacher", "--max-time", "0s"]
    assert cli(*words).code == 75
    command = shlex.join(["snnkd", *words])
    said = f"my runs/teacher: this run is not finished; continue it with `{command}`"
    for refused in (
        ["eval", "my runs/teacher"],
        ["export", "my runs/teacher"],
        ["distill", *SMALL, "--teacher", "my runs/teacher"],
        ["teach", *SMALL, "--init", "my runs/teacher"],
    ):
        ended = cli(*refused)
        assert (ended.code, ended.complaint) == (3, f"snnkd: {said}"), refused
    assert cli("status", "my runs/teacher").out.splitlines()[-1] == f"continue with: {command}"


def test_without_a_finished_run_the_unfinished_one_is_named(cli: Cli) -> None:
    teach = ["teach", *SMALL, "--max-time", "0s"]
    assert cli(*teach).code == 75
    ended = cli("distill", *SMALL)
    (run,) = Path("runs").iterdir()
    assert ended.complaint == (
        "snnkd: no finished teacher of this data (glyphs) under the runs folder; "
        f"{run} is unfinished: `{shlex.join(['snnkd', *teach])}` continues it"
    )
    distill = ["distill", *SMALL, "--loss", "none", "--T", 1, "--max-time", "0s"]
    assert cli(*distill).code == 75
    for refused in ("eval", "export"):
        assert cli(refused).complaint.endswith(f"`{shlex.join(['snnkd', *map(str, distill)])}` continues it")
    assert cli("compare").complaint.endswith("`snnkd status` shows what continues them")
