"""The README keeps its word: generated parts, commands, examples and the batch script."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import SMALL, Cli, script_of_ci

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL_OPTIONS = {"--system-site-packages", "--time", "--requeue", "--signal", "--open-mode", "--array", "--standalone", "--nproc-per-node",
                 "--signals-to-handle", "--nnodes", "--rdzv-id", "--rdzv-backend", "--rdzv-endpoint", "--dist", "--constraint",
                 "--gres", "--cpus-per-task", "--mem", "--parsable", "--wrap", "--dependency"}  # fmt: skip
"""Of pip, Slurm, torchrun and others, in the README's scripts."""


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    return script_of_ci("readme")


def test_numbers_are_those_of_the_stored_results(maker: ModuleType) -> None:
    only = set(maker.PARTS) - {"reference"}
    assert maker.render(TEXT, only) == TEXT, "run .ci/readme.py"
    assert set(re.findall(r"<!-- (\w+) -->", TEXT)) - {"end"} == set(maker.PARTS)


def test_command_reference_is_what_help_says(maker: ModuleType) -> None:
    made_by = re.search(r"Formatted by Typer (\S+)\.\n", TEXT)
    assert made_by is not None
    if made_by[1] != version("typer"):
        pytest.skip(f"the reference was formatted by Typer {made_by[1]}, this is {version('typer')}")
    assert maker.render(TEXT, {"reference"}) == TEXT, "run .ci/readme.py"


def test_distillation_beats_direct_training_by_ten_points(maker: ModuleType) -> None:
    """The claim of the default recipe, on the stored results of three seeds each."""
    groups = maker.groups()
    ours = {r["seed"]: r["curve"][-1]["top1"] for r in groups[("hta-kl", 16)]}
    direct = {r["seed"]: r["curve"][-1]["top1"] for r in groups[("none", 16)]}
    assert sorted(ours) == sorted(direct) == [0, 1, 2]
    assert all(ours[seed] - direct[seed] >= 10 for seed in ours)
    assert min(ours.values()) > 60
    (teacher,) = maker.stored("teach-*.json")
    assert teacher["curve"][0]["top1"] > 75
    assert {r["teacher"]["sha256"] for results in groups.values() for r in results if r["teacher"]} == {
        teacher["weights_sha256"]
    }


def test_own_loss_network_and_data(cli: Cli) -> None:
    """The README's module and its three commands, as they stand."""
    section = TEXT[TEXT.index("## Your own loss, network or data set") :]
    module, commands = (
        re.search(r"```python\n(.*?)```", section, re.DOTALL),
        re.search(r"```bash\n(.*?)```", section, re.DOTALL),
    )
    assert module is not None
    assert commands is not None
    Path("mine.py").write_text(module[1])
    outcomes = [cli(*shlex.split(line)[1:]) for line in commands[1].splitlines()]
    assert [ended.code for ended in outcomes] == [0, 0, 0], [ended.err for ended in outcomes]
    assert "t  top-1 %" in outcomes[-1].out
    results = [json.loads(Path(run, "result.json").read_text()) for run in Path("runs").iterdir()]
    assert min(result["curve"][-1]["top1"] for result in results) > 80, "three classes; it learns"


def test_the_example_of_a_composed_loss_is_a_loss(cli: Cli) -> None:
    example = re.search(r"```yaml\n(loss:.*?)```", TEXT, re.DOTALL)
    assert example is not None
    Path("r.yaml").write_text(f"schema: 1\nstage: distill\n{example[1]}")
    ended = cli("check", "r.yaml", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["recipe"]["loss"]["name"] == "custom"


def test_links_and_pictures_exist() -> None:
    for target in re.findall(r"\]\((?!http|#)([^)]+)\)", TEXT):
        assert (ROOT / target).exists(), target
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```", "", TEXT, flags=re.MULTILINE | re.DOTALL), flags=re.MULTILINE
    )
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors


def test_the_two_commands_stand_alone() -> None:
    for extras, end in (("-e .", "snnkd run glyphs"), ("-e '.[test]'", "pytest -n 2 --dist loadfile")):
        assert f"python3 -m venv .venv && .venv/bin/pip install {extras} && .venv/bin/{end}\n" in TEXT


def test_named_options_exist(cli: Cli) -> None:
    """Every option in the README outside its reference is one of snnkd's."""
    reference = TEXT[TEXT.index("<!-- reference -->") :]
    prose = TEXT[: TEXT.index("<!-- reference -->")]
    known = set(re.findall(r"--[a-zA-Z-]+", reference)) | SHELL_OPTIONS
    assert set(re.findall(r"(?<![-\w])--[a-zA-Z][a-zA-Z-]*", prose)) <= known


def test_bring_your_own_data(cli: Cli) -> None:
    """The README's python makes a file that its commands take (at a smaller size)."""
    (block,) = [b for b in re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL) if "np.savez" in b]
    exec(block, {})
    small = ["--epochs", 1, "--batch-size", 100, "--set", "model.width=4"]
    assert cli("teach", "--data", "npz:mine.npz", "--model", "resnet20", *small).code == 0
    ended = cli(
        "distill",
        "--data",
        "npz:mine.npz",
        "--model",
        "resnet20",
        "--loss",
        "hta-kl",
        "--T",
        2,
        *small,
        "--allow-weak-teacher",
    )
    assert ended.code == 0, ended.err


def test_the_python_example() -> None:
    import torch

    (block,) = [b for b in re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL) if "snnkd.load" in b]
    names: dict[str, Any] = {}
    exec(block, names)
    assert names["network"](torch.rand(3, 1, 16, 16)).shape == (2, 3, 10)


@pytest.mark.parametrize(
    ("step", "status", "restarts", "ends", "requeued"),
    [
        (0, 0, 0, 0, False),
        (75, 75, 0, 75, True),
        (1, 75, 0, 75, True),  # torchrun's word for 75
        (1, 0, 0, 1, False),  # failed before there was a run, or after it was done
        (1, 4, 0, 1, False),
        (1, 3, 0, 1, False),  # no runs at all
        (3, 75, 0, 3, False),  # of one process the code itself counts
        (75, 75, 50, 75, False),  # not for ever
    ],
)
def test_the_batch_script_requeues_what_can_go_on_and_hides_no_failure(
    tmp_path: Path, step: int, status: int, restarts: int, ends: int, requeued: bool
) -> None:
    (script,) = [
        b
        for b in re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL)
        if "#SBATCH" in b and "--array" not in b
    ]
    environment = _with_tools(
        tmp_path, srun=f"exit {step}", snnkd=f"exit {status}", scontrol='echo "$@" >> requeued'
    )
    environment |= {"SLURM_JOB_ID": "17", "SLURM_RESTART_COUNT": str(restarts)}
    assert subprocess.run(["bash", "-c", script], env=environment, check=False).returncode == ends
    assert Path("requeued").exists() == requeued


@pytest.mark.parametrize("several", [False, True])
def test_the_batch_script_requeues_until_done(tmp_path: Path, several: bool) -> None:
    """In a plain shell, with stand-ins for srun and scontrol; the warning signal reaches the step as srun sends it.

    Once as it stands, once with the README's line for torchrun, whose exit code does not tell why it ended.
    """
    (script,) = [
        b
        for b in re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL)
        if "#SBATCH" in b and "--array" not in b
    ]
    one_run = (
        "schema: 1\nstage: teach\ndata: {name: glyphs, classes: 10, train_images: 300, test_images: 100}\n"
    )
    Path("small.yaml").write_text(
        one_run + "model: {name: resnet8, width: 4}\ntrain: {epochs: 40, batch_size: 50}\n"
    )
    if several:
        (line,) = re.findall(r"^torchrun --standalone .*$", TEXT, flags=re.MULTILINE)
        script = script.replace("snnkd run glyphs", line)
    Path("job.sh").write_text(script.replace("run glyphs", "run ./small.yaml"))
    torchrun = f'exec {sys.executable} -m torch.distributed.run "$@"'
    environment = _with_tools(
        tmp_path, srun='echo $$ > step.pid; exec "$@"', scontrol='echo "$@" >> requeued', torchrun=torchrun
    )
    environment["SLURM_JOB_ID"] = "17"
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


def test_a_plain_shell_goes_on_until_done(cli: Cli, tmp_path: Path) -> None:
    """The README's loop around a snnkd that is stopped twice before it may finish."""
    (loop,) = re.findall(r"`(until snnkd [^`]+)`", TEXT)
    words = " ".join(SMALL)
    shim = f"""#!/bin/sh
echo call >> calls
[ $(wc -l < calls) -le 2 ] && limit=0s || limit=1h
exec {sys.executable} -m snnkd teach {words} --out run --max-time $limit
"""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "snnkd").write_text(shim)
    (tools / "snnkd").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", loop], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Path("calls").read_text() == "call\n" * 3
    assert cli("status", "run").code == 0


def _with_tools(tmp_path: Path, **bodies: str) -> dict[str, str]:
    """The environment in which these shell scripts stand first in the PATH, and snnkd among them."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, body in {"snnkd": f'exec {sys.executable} -m snnkd "$@"', **bodies}.items():
        (tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (tools / name).chmod(0o755)
    return {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}


def test_from_nothing_to_a_table_on_a_cluster(cli: Cli, tmp_path: Path) -> None:
    """The README's block asks Slurm for the teacher, then for the tasks that there are, each of which the recipe knows."""
    section = TEXT[TEXT.index("## CIFAR-100 on a cluster") : TEXT.index("## The papers' tables")]
    (block,) = re.findall(r"```bash\n(.*?)```", section, flags=re.DOTALL)
    environment = _with_tools(
        tmp_path,
        sbatch='for word in "$@"; do echo "$word"; done >> asked; echo 71',
        snnkd='echo "$@" >> called',
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
        "run",
        "status",
        "compare",
    ]
    asked = Path("asked").read_text().splitlines()
    assert asked[0] == "--parsable"
    assert {"--dependency=afterok:71", "--array=0-8"} <= set(asked)
    teach, task = (line.removeprefix("snnkd ").split() for line in asked if line.startswith("snnkd "))
    assert teach == ["teach", "cifar100-resnet19-short"]
    assert task[-2:] == ["--task", "$SLURM_ARRAY_TASK_ID"]
    listed = cli(*task[:-2], "--tasks")
    assert listed.code == 0, listed.err
    assert [line.split()[0] for line in listed.out.splitlines()] == [str(k) for k in range(9)]
    assert all("distill.model.T=4" in line for line in listed.out.splitlines())


def test_the_sweep_as_a_loop_and_as_a_job_array(cli: Cli, tmp_path: Path) -> None:
    """The README's recipe has the tasks that its scripts count; at small size the scripts run them."""
    section = TEXT[TEXT.index("### Sweeps") : TEXT.index("### Exit codes")]
    (recipe,) = re.findall(r"```yaml\n(.*?)```", section, flags=re.DOTALL)
    loops, array = re.findall(r"```bash\n(.*?)```", section, flags=re.DOTALL)
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
    assert [len(made) for made in weights] == [2, 3]
    assert weights[0].items() <= weights[1].items()
    slurm = {**environment, "SNNKD_RUNS": "b", "SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "1"}
    done = subprocess.run(["bash", "-c", array], env=slurm, capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2), done.stderr
    assert not Path("requeued").exists()
    stopped = array.replace('TASK_ID"\n', 'TASK_ID" --max-time 0s\n')
    done = subprocess.run(
        ["bash", "-c", stopped], env={**slurm, "SNNKD_RUNS": "c"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 75, done.stderr
    assert Path("requeued").read_text() == "requeue 17_1\n"
