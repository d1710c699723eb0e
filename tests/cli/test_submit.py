"""`snnkd submit`: a script for Slurm or a plain shell, which bash and stand-ins of sbatch and snnkd run here."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from conftest import Cli
from pages import blocks

TABLE = """
data: glyphs
teach: {seed: 100, model: {name: resnet8}, train: {epochs: 1}}
distill: {model: {name: resnet8, T: 2}}
sweep: {distill.loss: [none, kl], seed: [0, 1, 2]}
"""
SBATCH = 'echo "sbatch $*" >> calls; cat > "job$(wc -l < calls)"; echo $((70 + $(wc -l < calls)))'


@pytest.fixture(autouse=True)
def _tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("table.yaml").write_text(TABLE)
    (tmp_path / "bin").mkdir()
    for name, body in (("sbatch", SBATCH), ("snnkd", 'echo "$* GPU ${CUDA_VISIBLE_DEVICES-}" >> calls')):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def _bash(script: str) -> tuple[str, list[str]]:
    """What the script prints, and the commands that it calls."""
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout, Path("calls").read_text().splitlines()


def test_the_tasks_depend_on_their_teacher(cli: Cli) -> None:
    Path("lines").write_text(
        "#!/bin/sh\n#SBATCH --partition=gpu\n#SBATCH --time=01:00:00\nmodule load python\n"
    )
    words = ["table.yaml", "--set", "train.batch_size=50", "--lines", "lines", "--parallel", 4]
    printed, calls = _bash(cli("submit", *words).out)
    assert calls == [
        "sbatch --parsable --job-name=teacher",
        "sbatch --parsable --job-name=tasks --array=0-5%4 --dependency=afterok:71 --kill-on-invalid-dep=yes",
    ]
    assert printed.splitlines() == [
        "jobs 71 72; watch: squeue --me, snnkd status; stop: scancel 71 72",
        "when all are done: snnkd compare",
    ]
    teacher, tasks = (Path(f"job{number}").read_text().splitlines() for number in (1, 2))
    assert teacher[:6] == [
        "#!/bin/bash",
        "#SBATCH --requeue",
        "#SBATCH --open-mode=append",
        "#SBATCH --partition=gpu",
        "#SBATCH --time=01:00:00",
        "module load python",
    ]
    assert teacher[6] == "srun snnkd teach table.yaml --set train.batch_size=50 --max-time auto"
    assert tasks[6] == (
        'srun snnkd run table.yaml --set train.batch_size=50 --task "$SLURM_ARRAY_TASK_ID" --max-time auto'
    )


@pytest.mark.parametrize("number", [1, 2])
def test_jobs_requeue_themselves_as_on_the_page(cli: Cli, number: int) -> None:
    _bash(cli("submit", "table.yaml").out)
    script = [text for text in blocks("cluster", "bash") if text.startswith("#!")][number - 1]
    assert Path(f"job{number}").read_text().splitlines()[4:] == script.splitlines()[-3:]


@pytest.mark.parametrize(
    ("words", "job"),
    [
        (
            ["table.yaml", "--sweep", "teach.seed=0,1"],
            "--array=0-11",
        ),  # several teachers: tasks wait for theirs
        (["glyphs", "--set", "teach=null", "--set", "distill.loss=none"], ""),
    ],
)
def test_without_one_teacher_there_is_one_job(cli: Cli, words: list[str], job: str) -> None:
    _, calls = _bash(cli("submit", *words).out)
    assert calls == [f"sbatch --parsable --job-name=tasks {job}".rstrip()]


def test_a_plain_shell_goes_through_the_tasks(cli: Cli) -> None:
    _, calls = _bash(cli("submit", "table.yaml", "--shell").out)
    tasks = [f"run table.yaml --task {k} GPU " for k in range(6)]
    assert calls == ["teach table.yaml GPU ", *tasks, "status GPU "]


def test_a_plain_shell_with_several_gpus(cli: Cli) -> None:
    _, calls = _bash(cli("submit", "table.yaml", "--shell", "--parallel", 2).out)
    ran = {line.partition(" GPU ")[0] for line in calls}
    assert ran == {"teach table.yaml", *(f"run table.yaml --task {k}" for k in range(6)), "status"}
    assert {line.partition(" GPU ")[2] for line in calls[1:-1]} <= {"0", "1"}


def test_go_submits(cli: Cli) -> None:
    ended = cli("submit", "table.yaml", "--go")
    assert (ended.code, ended.out.splitlines()[0]) == (
        0,
        "jobs 71 72; watch: squeue --me, snnkd status; stop: scancel 71 72",
    )


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--parallel", 0], 2, "--parallel: 0 is too small; it must be at least 1"),
        (["--lines", "gone"], 3, "gone: no such file or directory"),
        (
            ["--lines", "lines", "--shell"],
            2,
            "--lines are the first lines of Slurm jobs; leave it out with --shell",
        ),
        (["--go"], 4, "the script ended with 1; print it without --go"),
    ],
)
def test_refusals(cli: Cli, tmp_path: Path, words: list[object], code: int, message: str) -> None:
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\nexit 1\n")
    ended = cli("submit", "table.yaml", *words)
    assert (ended.code, ended.complaint) == (code, f"snnkd: {message}")


def test_no_slurm_here(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin" / "sbatch").unlink()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    ended = cli("submit", "table.yaml", "--go")
    assert (ended.code, ended.complaint) == (
        3,
        "snnkd: sbatch is not installed; submit where Slurm is, or give --shell",
    )
