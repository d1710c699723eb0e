"""The shell scripts of the guide's page on clusters, run with stand-ins for Slurm."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Cli
from pages import blocks, page

SCRIPTS = [text for name in ("README", "cluster") for text in blocks(name, "bash") if text.startswith("#!")]


def _batch_script() -> str:
    return next(text for text in blocks("cluster", "bash") if text.startswith("#!"))


@pytest.mark.parametrize("script", SCRIPTS, ids=["readme", "run", "array", "nodes"])
@pytest.mark.parametrize(
    ("step", "restarts", "requeued"),
    [(0, 0, False), (75, 0, True), (4, 0, False), (137, 0, False), (75, 50, False)],
)
def test_batch_scripts_requeue_what_was_stopped_and_hide_no_failure(
    tmp_path: Path, script: str, step: int, restarts: int, requeued: bool
) -> None:
    tools = {"scontrol": '[ "$1" = requeue ] && echo "$@" >> requeued; echo n1'}
    environment = _with_tools(tmp_path, srun=f"exit {step}", **tools)
    environment |= {"SLURM_JOB_ID": "17", "SLURM_RESTART_COUNT": str(restarts)}
    assert subprocess.run(["bash", "-c", script], env=environment, check=False).returncode == step
    assert Path("requeued").exists() == requeued


@pytest.mark.nightly  # real runs; what the script does with each exit code: the test above
@pytest.mark.parametrize("several", [False, True])
def test_the_batch_script_requeues_until_done(tmp_path: Path, several: bool) -> None:
    """In a plain shell, with stand-ins for srun and scontrol; the warning signal arrives as from srun.

    Once as it is, once with the page's line for torchrun, whose exit code does not say why it ended.
    """
    script = _batch_script()
    one_run = (
        "schema: 1\nstage: teach\ndata: {name: glyphs, classes: 10, train_images: 300, test_images: 100}\n"
    )
    Path("small.yaml").write_text(
        one_run + "model: {name: resnet8, width: 4}\ntrain: {epochs: 40, batch_size: 50}\n"
    )
    if several:
        (line,) = re.findall(r"^(python .* --standalone .*) --max-time auto$", page("cluster"), re.MULTILINE)
        script = script.replace("snnkd run glyphs", line)
    Path("job.sh").write_text(script.replace("run glyphs", "run ./small.yaml"))
    environment = _with_tools(
        tmp_path,
        srun='echo $$ > step.pid; exec "$@"',
        scontrol='echo "$@" >> requeued',
        python=f'exec {sys.executable} "$@"',
    )
    limit = {"SLURM_JOB_END_TIME": str(int(time.time()) + 3600)}
    environment |= {"SLURM_JOB_ID": "17", "SNNKD_RUNS": "runs-of-this-job", **limit}
    job = subprocess.Popen(
        ["bash", "job.sh"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for _ in range(1200):
        if list(Path("runs-of-this-job").glob("*/last.pt")):
            break
        time.sleep(0.05)
    os.kill(int(Path("step.pid").read_text()), signal.SIGUSR1)
    _, err = job.communicate(timeout=120)
    assert job.returncode == 75, err
    assert Path("requeued").read_text() == "requeue 17\n"
    again = subprocess.run(["bash", "job.sh"], env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert Path("requeued").read_text() == "requeue 17\n"
    (run,) = Path("runs-of-this-job").iterdir()
    result = json.loads((run / "result.json").read_text())
    assert result["selection"]["epoch"] == 40
    assert result["hardware"].get("processes", 1) == (2 if several else 1)


def test_a_plain_shell_goes_on_until_done(tmp_path: Path) -> None:
    """The page's loop around a snnkd that exits with 75, for "stopped, continue", twice before it finishes."""
    (loop,) = re.findall(r"`(until snnkd [^`]+)`", page("cluster"))
    environment = _with_tools(tmp_path, snnkd="echo call >> calls; [ $(wc -l < calls) -gt 2 ] || exit 75")
    done = subprocess.run(["bash", "-c", loop], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Path("calls").read_text() == "call\n" * 3


def _with_tools(tmp_path: Path, **bodies: str) -> dict[str, str]:
    """Return an environment whose PATH starts with these shell scripts and snnkd."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, body in {"snnkd": f'exec {sys.executable} -m snnkd "$@"', **bodies}.items():
        (tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (tools / name).chmod(0o755)
    return {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}


def test_from_nothing_to_a_table_on_a_cluster(cli: Cli, tmp_path: Path) -> None:
    """The block submits the teacher, then an array of exactly the tasks that the recipe has."""
    (block,) = [text for text in blocks("cluster", "bash") if "submit" in text]
    environment = _with_tools(
        tmp_path,
        sbatch='echo "$@" >> submitted; cat >> submitted; echo 71',
        snnkd=f'echo "$@" >> called; [ "$1" != submit ] || exec {sys.executable} -m snnkd "$@"',
    )
    done = subprocess.run(
        ["bash", "-euc", block],
        env={**environment, "SCRATCH": "here"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in Path("called").read_text().splitlines()] == [
        "data",
        "check",
        "submit",
        "submit",
        "status",
        "compare",
    ]
    submitted = Path("submitted").read_text()
    assert "--array=0-8%4 --dependency=afterok:71" in submitted
    assert submitted.count("#SBATCH --mem=24G\n") == 2
    teach, task = (shlex.split(line)[2:] for line in submitted.splitlines() if line.startswith("srun snnkd "))
    assert teach == ["teach", "cifar100-resnet19-short", "--max-time", "auto"]
    assert task[-4:] == ["--task", "$SLURM_ARRAY_TASK_ID", "--max-time", "auto"]
    listed = cli(*task[:-4], "--tasks")
    assert listed.code == 0, listed.err
    assert [line.split()[0] for line in listed.out.splitlines()] == [str(k) for k in range(9)]
    assert all("distill.model.T=4" in line for line in listed.out.splitlines())


@pytest.mark.nightly
def test_the_sweep_as_a_loop_and_as_a_job_array(cli: Cli, tmp_path: Path) -> None:
    """The recipe has the tasks that the scripts count; at small size the scripts run them."""
    (recipe,) = blocks("cluster", "yaml")
    loops, array = [text for text in blocks("cluster", "bash") if "table.yaml" in text]
    Path("table.yaml").write_text(recipe)
    listed = cli("run", "table.yaml", "--tasks").out.splitlines()
    assert len(listed) == 30
    assert listed[-1] == "29  distill.loss=hta-kl head=strict  distill.model.T=4  seed=2"
    assert loops.count("seq 0 29") == array.count("#SBATCH --array=0-29") + 1 == 2

    small = recipe.replace(
        "data: glyphs", "data: {name: glyphs, classes: 10, train_images: 300, test_images: 100}"
    )
    small = re.sub(r"width: \d+", "width: 4", re.sub(r"epochs: \d+", "epochs: 1", small)).partition("sweep:")[
        0
    ]
    Path("table.yaml").write_text(
        f"{small}execution: {{allow_weak_teacher: true}}\nsweep: {{distill.loss: [kl, none], seed: [0]}}\n"
    )
    one_by_one, at_once = loops.splitlines()
    environment = _with_tools(tmp_path, srun='exec "$@"', scontrol='echo "$@" >> requeued')
    weights = []
    for script, folder in (
        (one_by_one.replace("seq 0 29", "seq 0 0"), "a"),
        (at_once.replace("seq 0 29", "seq 0 1"), "b"),
    ):
        done = subprocess.run(
            ["bash", "-c", script],
            env={**environment, "SNNKD_RUNS": folder},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        weights.append(
            {path.name: (path / "model.safetensors").read_bytes() for path in Path(folder).iterdir()}
        )
    assert [len(runs) for runs in weights] == [2, 3]
    assert weights[0].items() <= weights[1].items()
    slurm = {**environment, "SNNKD_RUNS": "b", "SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "1"}
    slurm["SLURM_JOB_END_TIME"] = str(int(time.time()) + 3600)
    done = subprocess.run(["bash", "-c", array], env=slurm, capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2), done.stderr
    assert not Path("requeued").exists()
    stopped = array.replace("--max-time auto", "--max-time 0s")
    done = subprocess.run(
        ["bash", "-c", stopped], env={**slurm, "SNNKD_RUNS": "c"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 75, done.stderr
    assert Path("requeued").read_text() == "requeue 17_1\n"
