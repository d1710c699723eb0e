"""What several processes refuse, each once, and what they write, each thing once; and the real torchrun from
end to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faults.forks import alive
from processes.jobs import SMALL, Jobs, none_left

TEACH = ["teach", *SMALL, "--epochs", "2", "--out", "run"]
REFUSED = {
    "uneven batch": (
        2,
        [*TEACH, "--batch-size", "23"],
        "train.batch_size: 23 must be a multiple of 2 (2 processes x execution.accumulate 1), at least 4",
    ),
    "batch of one each": (
        2,
        [*TEACH, "--batch-size", "2"],
        "train.batch_size: 2 must be a multiple of 2",
    ),
    "sync_norm": (
        2,
        [*TEACH, "--set", "execution.sync_norm=true"],
        "execution.sync_norm: true works on GPUs only",
    ),
    "one GPU": (
        2,
        [*TEACH, "--device", "cuda:1"],
        "device 'cuda:1' given for 2 processes; use --device cuda, each process picks its own GPU",
    ),
    "export": (2, ["export"], "export runs in one process, torchrun started 2; start it without torchrun"),
    "bench": (2, ["bench"], "bench runs in one process, torchrun started 2; start it without torchrun"),
    "unknown key": (2, [*TEACH, "--set", "train.epoch=3"], "train.epoch"),
    "no teacher": (3, ["distill", *SMALL, "--loss", "kl"], "no finished teacher of this data"),
    "no data": (3, ["teach", "--data", "npz:absent.npz", "--out", "run"], "absent.npz"),
    "no run": (3, ["eval", "absent"], "absent"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_refusal_is_one_line(torchrun: Jobs, tmp_path: Path, what: str) -> None:
    code, words, said = REFUSED[what]
    ended = torchrun.run(tmp_path, words)
    (line,) = ended.said
    assert said in line
    assert f"exitcode  : {code} " in ended.err
    assert ended.code == 1, "torchrun turns every code into 1"
    assert ended.out == ""
    assert not (tmp_path / "run").exists()


def test_a_held_run_is_refused(torchrun: Jobs, tmp_path: Path) -> None:
    from snnkd.runs.lock import Lock

    with Lock(tmp_path / "run"):
        ended = torchrun.run(tmp_path, TEACH)
    (line,) = ended.said
    assert f"run: held by process {os.getpid()} on" in line
    assert "exitcode  : 3 " in ended.err


def test_what_one_process_alone_meets_is_said_with_its_number(torchrun: Jobs, tmp_path: Path) -> None:
    code = """
from snnkd import distributed, pipeline
from snnkd.errors import FileError
honest = pipeline.pick_device
def pick(name):
    if distributed.rank() == 1:
        raise FileError("no such device here")
    return honest(name)
pipeline.pick_device = pick
"""
    ended = torchrun.run(tmp_path, TEACH, code=code)
    assert ended.said == ["snnkd: process 1 of 2: no such device here"]


def test_processes_with_different_data_do_not_mix(torchrun: Jobs, tmp_path: Path) -> None:
    """As on two machines, each with its own folder and another file of the same name."""
    code = """
from snnkd import distributed, pipeline
import dataclasses
honest = pipeline.load_data
pipeline.load_data = lambda *w, **k: dataclasses.replace(honest(*w, **k), sha256="0" * 64) if distributed.rank() else honest(*w, **k)
"""
    ended = torchrun.run(tmp_path, TEACH, code=code)
    assert ended.said == [
        "snnkd: the processes of this job have different data, teachers or requests; give all machines the "
        "same files and command"
    ]


RECIPE = """
data: {name: glyphs, classes: 4, train_images: 24, test_images: 18, size: 8}
teach: {model: {name: resnet8, width: 2}, train: {epochs: 2, batch_size: 24}, seed: 100}
distill: {model: {name: resnet8, width: 2, T: 2}, loss: kl, train: {epochs: 2, batch_size: 24}}
execution: {allow_weak_teacher: true}
eval: {T: 4}
export: {formats: [safetensors]}
"""


ONE_WRITER = """
import os, sys
def check(event, args):
    writes = event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR) or event in ("os.rename", "os.remove")
    if writes and "runs/" in str(args[0]):
        raise AssertionError(f"process {os.environ['RANK']} writes {args[0]}")
if os.environ.get("RANK", "0") != "0":
    sys.addaudithook(check)
"""
"""In all processes but the first, an error for every write into a run."""


def test_a_recipe_writes_everything_once(torchrun: Jobs, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE)
    ended = torchrun.done(tmp_path, ["run", "./r.yaml"], code=ONE_WRITER)
    teacher, student = (tmp_path / line for line in ended.out.splitlines())
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == sorted([teacher.name, student.name])
    for run in (teacher, student):
        assert len((run / "metrics.jsonl").read_text().splitlines()) == 2
        assert not list(run.glob("*.pt"))
    assert [path.name for path in (student / "eval").iterdir()] == ["test-T4.json"]
    assert (student / "export/safetensors/model.safetensors").read_bytes() == (
        student / "model.safetensors"
    ).read_bytes()
    for said in ("epoch 2/2", "exported to"):
        assert ended.err.count(said) == (2 if said.startswith("epoch") else 1), ended.err
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.json")}
    again = torchrun.done(tmp_path, ["run", "./r.yaml"])
    assert again.out == ended.out
    assert again.err.count("already done") == 2
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.nightly  # a recipe's stages: the test above
def test_a_sweep(torchrun: Jobs, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE + "sweep: {distill.loss: [kl, none]}\n")
    ended = torchrun.done(tmp_path, ["run", "./r.yaml"])
    assert len(ended.out.splitlines()) == len(set(ended.out.splitlines())) == 3
    assert len(list((tmp_path / "runs").glob("*/result.json"))) == 3


@pytest.mark.nightly
def test_the_command_itself_killed_and_continued(tmp_path: Path) -> None:
    """`python -m torch.distributed.run`, no forked stand-in: as the README says it."""
    words = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "snnkd",
        *TEACH,
    ]
    words += ["--epochs", "400"]
    with (
        (tmp_path / "err").open("w") as err,
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=err, text=True) as job,
    ):
        while not (tmp_path / "run/last.pt").exists() and job.poll() is None:
            time.sleep(0.01)
        pids = [int(pid) for pid in Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()]
        assert len(pids) == 2
        os.kill(pids[1], signal.SIGKILL)
        assert job.wait(timeout=300) == 1
    (tmp_path / "workers").write_text(" ".join(map(str, pids)))
    assert none_left(tmp_path)
    assert not any(map(alive, pids))
    again = subprocess.run([*words, "--max-time", "0s"], capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "continuing in epoch" in again.stderr
    assert again.stderr.count("snnkd: stopped by --max-time") == 1
