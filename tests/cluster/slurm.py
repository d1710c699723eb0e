"""Jobs on the Slurm that `.ci/cluster` started, and the scripts of the pages at small sizes."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from pages import blocks

BASE = os.environ.get("SNNKD_SLURM")
ON_SLURM = [
    pytest.mark.nightly,
    pytest.mark.skipif(BASE is None, reason="SNNKD_SLURM is not set; run .ci/cluster, which starts a Slurm"),
]
"""The marks of these tests."""
RUN, ARRAY, NODES = (text for text in blocks("cluster", "bash") if text.startswith("#!"))
"""The scripts of the cluster page."""
(README,) = (text for text in blocks("README", "bash") if text.startswith("#!"))
MINE = """
import os
import time

from torch import nn


class Net(nn.Module):
    def __init__(self, classes, shape):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes))

    def forward(self, images, T):
        if self.training:
            batch = len(images) > 10  # not one of the few that a network is tried with
            stuck = batch and os.environ.get("RANK") == os.environ.get("STUCK", "none")
            time.sleep(3600 if stuck else 0.2)
        return self.body(images).unsqueeze(0).repeat(T, 1, 1)


def slow(*, classes, shape, activation):
    return Net(classes, shape)
"""
"""A network whose step takes time, but no processor: how long a run lasts hardly depends on the machine.

The process whose rank the variable STUCK names never ends its first step.
"""
CODE = "--code mine:slow"
TEACH = """
stage: teach
data: {name: glyphs, classes: 10, train_images: 300, test_images: 100}
model: mine:slow
"""
SMALL = f"{TEACH}train: {{epochs: 15, batch_size: 50}}\n"
"""Never less than 18 seconds of training."""
MIDDLE = f"{TEACH}train: {{epochs: 40, batch_size: 50}}\n"
LONG = f"{TEACH}train: {{epochs: 150, batch_size: 50}}\n"
"""Never less than 180 seconds of training, which is what a job of four minutes has under `--max-time auto`."""
PATIENCE = 1200
"""Seconds to wait for what comes within a minute on an idle machine, where a process starts in 5 seconds, not 100."""
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")


def small(script: str, recipe: str = "small.yaml") -> str:
    """A script of a page with one of these recipes."""
    return script.replace("snnkd run glyphs", f"snnkd run ./{recipe} {CODE}")


@dataclass
class Job:
    """A batch job by its number, with the output that all its starts append to."""

    number: str
    output: Path

    def field(self, name: str) -> str:
        """A field of `scontrol show job`, such as JobState."""
        shown = call("scontrol", "--oneliner", "show", "job", self.number)
        match = re.search(rf"\b{name}=(\S*)", shown)
        assert match, shown
        return match[1]

    @property
    def folder(self) -> Path:
        return self.output.parent

    @property
    def restarts(self) -> int:
        return int(self.field("Restarts"))

    def wait(self, seconds: float = PATIENCE) -> str:
        """Wait until the job has ended; return its state."""
        wait_until(self.has_ended, seconds, self.log)
        return self.field("JobState")

    def has_ended(self) -> bool:
        """Whether the job has ended for good; one that requeued itself is pending, and is hurried."""
        self._hurry()
        return self.field("JobState") in ENDED

    def _hurry(self) -> None:
        """Start a requeued job soon: Slurm delays it by two minutes.

        Not within a second of its end: slurmd would take the new start for the job that it has just ended.
        """
        if self.field("JobState") != "PENDING" or self.field("Reason") != "BeginTime":
            return
        requeued = time.mktime(time.strptime(self.field("SubmitTime"), "%Y-%m-%dT%H:%M:%S"))
        if time.time() > requeued + 3:
            update = ("scontrol", "update", f"JobId={self.number}", "StartTime=now")
            subprocess.run(update, capture_output=True, check=False)  # it may have started meanwhile

    def log(self) -> str:
        return self.output.read_text() if self.output.exists() else ""


def submit(
    script: str, *options: str, name: str = "job", folder: Path | None = None, **variables: str
) -> Job:
    """Submit a script of a page, in `folder`; options win over its `#SBATCH` lines."""
    folder = folder or Path.cwd()
    path = folder / f"{name}.sh"
    path.write_text(script)
    output = folder / f"{name}.out"
    words = ["sbatch", "--parsable", f"--chdir={folder}", f"--output={output}", *options, str(path)]
    done = subprocess.run(words, env=os.environ | variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Job(done.stdout.strip(), output)


def processes(job: Job, **variables: str) -> list[int]:
    """The pids of a job's Python processes that have these variables in their environment."""
    wanted = {f"{name}={value}" for name, value in ({"SLURM_JOB_ID": job.number} | variables).items()}
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            environment = set((folder / "environ").read_text().split("\0"))
            if wanted <= environment and "python" in (folder / "exe").resolve().name:
                pids.append(int(folder.name))
    return pids


def call(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


def wait_until(condition: Callable[[], object], seconds: float, explain: Callable[[], str]) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"nothing came within {seconds:g} s: {explain()}"
        time.sleep(0.3)


def install_commands(folder: Path) -> None:
    """Put this checkout's `snnkd` and `python` into `folder`, for the PATH of the scripts."""
    folder.mkdir()
    for name, words in (("snnkd", "-m snnkd "), ("python", "")):
        (folder / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words}"$@"\n')
        (folder / name).chmod(0o755)


def variables(folder: Path, reservation: str, data: Path) -> dict[str, str]:
    """The environment of jobs: this checkout's commands, and the two nodes of a reservation of `.ci/cluster`."""
    install_commands(folder / "bin")
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    return {"PATH": path, "SBATCH_RESERVATION": reservation, "SNNKD_DATA": str(data)}


def write_recipes(folder: Path) -> None:
    for name, text in (
        ("small.yaml", SMALL),
        ("middle.yaml", MIDDLE),
        ("long.yaml", LONG),
        ("mine.py", MINE),
    ):
        (folder / name).write_text(text)


def start_in_shell(script: str, folder: Path | None = None, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["bash", "-uc", script],
        cwd=folder,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that it ends with what it started
    )


def run_in_shell(
    script: str, folder: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    shell = start_in_shell(script, folder, **variables)
    out, err = shell.communicate()
    return subprocess.CompletedProcess(script, shell.returncode, out, err)


def only_run(folder: Path) -> Path:
    (run,) = (path for path in folder.iterdir() if path.name != ".aside")
    return run


def weights(run: Path) -> bytes:
    return (run / "model.safetensors").read_bytes()


class Shells:
    """Runs in plain shells, started together; `shells[name]` waits for one and returns the weights."""

    def __init__(self, folder: Path, commands: dict[str, str], **environment: str) -> None:
        self.folder = folder
        self._shells = {}
        for name, command in commands.items():
            (folder / name).mkdir()
            write_recipes(folder / name)
            self._shells[name] = start_in_shell(command, folder / name, **environment)

    def __getitem__(self, name: str) -> bytes:
        shell = self._shells[name]
        _, err = shell.communicate()
        assert shell.returncode == 0, err
        return weights(only_run(self.folder / name / "runs"))

    def end(self) -> None:
        """Kill what still runs."""
        for shell in self._shells.values():
            if shell.poll() is None:
                os.killpg(shell.pid, signal.SIGKILL)
            shell.communicate()  # closes its pipes


def wait_for_training(job: Job) -> None:
    """Wait until the run of this job has two checkpoints."""
    wait_until(lambda: list((job.folder / "runs").glob("*/previous.pt")), PATIENCE, job.log)


def check_quiet(job: Job, epochs: int) -> None:
    """The log has a line per epoch, and nothing of Python or torchrun."""
    log = job.log()
    lines = re.findall(r"^epoch (\d+)/\d+ ", log, re.MULTILINE)
    assert sorted({int(number) for number in lines}) == list(range(1, epochs + 1))
    assert "Traceback" not in log
    assert len(log.splitlines()) < epochs + 15 * (1 + job.restarts), log
