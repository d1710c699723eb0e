"""The Slurm job that a command runs in: its name, its node and the time that it has left."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from conftest import SMALL, Cli

from snnkd import slurm
from snnkd.cli.options import time_limit
from snnkd.errors import UsageError
from snnkd.stopping import Stop


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": ""}, None),
        ({"SLURM_JOB_ID": "17"}, "17"),
        ({"SLURM_JOB_ID": "20", "SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "3"}, "17_3"),
    ],
)
def test_the_job_is_named_as_squeue_does(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], name: str | None
) -> None:
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    assert slurm.job_name() == name


@pytest.mark.parametrize(("left", "usable"), [(14400, 14280), (400, 300), (0, 0), (-50, 0)])
def test_the_limit_of_the_job_less_a_margin(
    monkeypatch: pytest.MonkeyPatch, left: float, usable: float
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time() + left)))
    assert usable - 2 < slurm.usable_seconds() <= usable


def _scontrol(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str) -> None:
    tool = tmp_path / "scontrol"
    tool.write_text(f"#!/bin/sh\n[ \"$*\" = '--oneliner show job 20' ] && echo '{line}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SLURM_JOB_ID", "20")


def test_an_older_slurm_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    end = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() + 7200))
    _scontrol(monkeypatch, tmp_path, f"JobId=20 StartTime=2026-01-01T00:00:00 EndTime={end} Deadline=N/A")
    assert 7077 < slurm.usable_seconds() <= 7080


def test_a_job_without_a_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _scontrol(monkeypatch, tmp_path, "JobId=20 TimeLimit=UNLIMITED EndTime=Unknown")
    assert Stop(time_limit("auto")).reason is None


@pytest.mark.parametrize("line", ["", "JobId=20 EndTime=Unknown"])
def test_a_job_whose_end_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str) -> None:
    _scontrol(monkeypatch, tmp_path, line)
    with pytest.raises(UsageError, match="'auto': `scontrol --oneliner show job 20` shows no EndTime; give"):
        slurm.usable_seconds()


def test_auto_needs_a_job(cli: Cli) -> None:
    ended = cli("teach", *SMALL, "--max-time", "auto")
    assert ended.code == 2
    assert ended.complaint == (
        "snnkd: --max-time 'auto' needs a Slurm job, and SLURM_JOB_ID is not set; give a time, 3:50:00"
    )


def test_a_run_stops_before_its_job_ends_and_status_names_the_job(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time())))
    ended = cli("teach", *SMALL, "--out", "run", "--max-time", "auto")
    assert ended.code == 75
    assert "stopped by --max-time (" in ended.complaint
    host = json.loads(Path("run/run.lock").read_text())["host"]
    (run,) = cli("status", "run", "--json").json["runs"]
    assert (run["job"], run["host"]) == ("17", host)
    assert f"run (job 17 on {host})" in cli("status", "run").out
    lock = Path("run/run.lock")
    lock.write_text(
        json.dumps({**json.loads(lock.read_text()), "state": "running"})
    )  # as a SIGKILL leaves it
    assert cli("status", "run").out.splitlines()[-3:-1] == [
        f"run (job 17 on {host})",
        "  killed while running",
    ]
