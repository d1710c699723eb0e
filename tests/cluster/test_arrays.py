"""Sweeps: an array by hand, in a plain shell, and by `snnkd submit`.

`.ci/cluster` starts the Slurm and these tests; without it they are skipped.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cluster.slurm import (
    ARRAY,
    ON_SLURM,
    PATIENCE,
    Job,
    call,
    run_in_shell,
    submit,
    variables,
    wait_until,
    write_recipes,
)
from pages import blocks

pytestmark = ON_SLURM


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> dict[str, str]:
    return variables(tmp_path_factory.mktemp("environment"), "arrays", data_folder)


@pytest.fixture(autouse=True)
def _environment(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    write_recipes(Path())


def write_table(sweep: str) -> None:
    """The page's sweep as table.yaml, at small size."""
    (recipe,) = blocks("cluster", "yaml")
    recipe = re.sub(r"width: \d+", "width: 4", re.sub(r"epochs: \d+", "epochs: 5", recipe))
    size = "data: {name: glyphs, classes: 10, train_images: 300, test_images: 100}"
    recipe = recipe.partition("sweep:")[0].replace("data: glyphs", size)
    Path("table.yaml").write_text(f"{recipe}execution: {{allow_weak_teacher: true}}\nsweep: {sweep}\n")


def wait_for_tasks(number: str) -> list[str]:
    """Wait until no task of an array is left; return their states."""
    wait_until(lambda: not call("squeue", "-h", "-j", number).strip(), 2 * PATIENCE, lambda: call("squeue"))
    return re.findall(r"\bJobState=(\S+)", call("scontrol", "--oneliner", "show", "job", number))


def students(folder: str) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in Path(folder).glob("distill-*/model.safetensors")}


def test_twelve_tasks_and_their_teacher() -> None:
    """All at once: one trains the teacher, the others wait for it."""
    write_table("{distill.loss: [none, kl, rkl, hta-kl], distill.model.T: [2], seed: [0, 1, 2]}")
    job = submit(ARRAY, "--array=0-11", "--output=task-%a.out", name="array")
    assert wait_for_tasks(job.number) == ["COMPLETED"] * 12
    assert len(students("runs")) == 12
    lines = next(text for text in blocks("cluster", "bash") if "for k in" in text).splitlines()
    for line, tasks in zip(lines, ("seq 3 3", "seq 4 5"), strict=True):
        done = run_in_shell(line.replace("seq 0 29", tasks), SNNKD_RUNS="plain")
        assert done.returncode == 0, done.stderr
    assert len(students("plain")) == 3
    assert students("plain").items() <= students("runs").items()


def test_from_nothing_to_a_table() -> None:
    """The teacher's job requeues itself; the tasks still wait for it."""
    write_table("{distill.loss: [none], distill.model.T: [2], seed: [0, 1, 2]}")
    (block,) = [text for text in blocks("cluster", "bash") if "snnkd submit" in text]
    block = block.replace("cifar100-resnet19-short", "./table.yaml").replace(
        "snnkd data cifar100", "snnkd data glyphs"
    )
    block = block.replace("--gres=gpu:1 --cpus-per-task=4 --mem=24G", "--cpus-per-task=1 --mem=1G")
    submission, _, end = block.partition("snnkd status")
    done = run_in_shell(f"set -e; {submission}", SCRATCH=str(Path.cwd()))
    assert done.returncode == 0, done.stderr
    match = re.search(r"^jobs (\d+) (\d+); watch: ", done.stdout, re.MULTILINE)
    assert match, done.stdout
    teacher = Job(match[1], Path(f"slurm-{match[1]}.out"))
    wait_until(lambda: list(Path("runs").glob("teach-*/last.pt")), PATIENCE, teacher.log)
    call("scancel", "--signal=USR1", teacher.number)
    assert teacher.wait() == "COMPLETED", teacher.log()
    assert teacher.restarts <= 1
    assert wait_for_tasks(match[2]) == ["COMPLETED"] * 9
    table = run_in_shell(f"snnkd status{end}", SNNKD_RUNS="runs")
    assert table.returncode == 0, table.stdout + table.stderr
    assert "hta-kl" in table.stdout
