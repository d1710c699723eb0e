"""The cluster page's scripts on a real Slurm: limits that hit, preemption, lost nodes, mistakes.

`.ci/cluster` starts the Slurm and these tests; without it they are skipped.
"""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from cluster.slurm import (
    CODE,
    Job,
    call,
    install_commands,
    only_run,
    processes,
    run_in_shell,
    start_in_shell,
    submit,
    wait_until,
    weights,
    write_recipes,
)
from pages import blocks, page

BASE = os.environ.get("SNNKD_SLURM")
pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(BASE is None, reason="SNNKD_SLURM is not set; run .ci/cluster, which starts a Slurm"),
]
SCRIPTS = [text for text in blocks("cluster", "bash") if text.startswith("#!")]
RUN, ARRAY, NODES = SCRIPTS
(README,) = [text for text in blocks("README", "bash") if text.startswith("#!")]
SHORT = "--time=00:02:00"


def small(script: str, recipe: str = "small.yaml") -> str:
    return script.replace("snnkd run glyphs", f"snnkd run ./{recipe} {CODE}")


@pytest.fixture(autouse=True)
def _commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_commands(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    write_recipes(Path())


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> dict[str, bytes]:
    """The weights of the recipes' runs, left alone in a plain shell; `two` by two processes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    install_commands(folder / "bin")
    write_recipes(folder)
    launcher = "python -m snnkd.torchrun --standalone --nproc-per-node 2 -m snnkd"
    commands = {
        "small": f"snnkd run ./small.yaml {CODE}",
        "long": f"snnkd run ./long.yaml {CODE}",
        "two": f"{launcher} run ./small.yaml {CODE}",
    }
    shells = [
        start_in_shell(
            f"cd {folder} && PATH={folder}/bin:$PATH && {command}",
            SNNKD_RUNS=str(folder / name),
            SNNKD_DATA=str(data_folder),
        )
        for name, command in commands.items()
    ]
    for shell in shells:
        _, err = shell.communicate()
        assert shell.returncode == 0, err
    return {name: weights(only_run(str(folder / name))) for name in commands}


def wait_for_training(job: Job, folder: str = "runs", checkpoint: str = "previous.pt") -> None:
    """Wait until a run of this job has two checkpoints."""
    wait_until(lambda: list(Path(folder).glob(f"*/{checkpoint}")), 240, job.log)


def check_quiet(job: Job, epochs: int) -> None:
    """The log has a line per epoch, and nothing of Python or torchrun."""
    log = job.log()
    lines = re.findall(r"^epoch (\d+)/\d+ ", log, re.MULTILINE)
    assert sorted({int(number) for number in lines}) == list(range(1, epochs + 1))
    assert "Traceback" not in log
    assert len(log.splitlines()) < epochs + 15 * (1 + job.restarts), log


@pytest.mark.parametrize("script", [RUN, README], ids=["guide", "readme"])
def test_a_job_that_its_limit_ends_requeues_itself_until_it_is_done(
    expected: dict[str, bytes], script: str
) -> None:
    job = submit(small(script, "long.yaml"), SHORT)
    assert job.wait(600) == "COMPLETED", job.log()
    assert job.restarts >= 1, "the limit was never reached"
    assert weights(only_run("runs")) == expected["long"]
    assert "stopped by --max-time (" in job.log()
    check_quiet(job, 75)


def test_a_warning_signal_instead(expected: dict[str, bytes]) -> None:
    script = small(RUN).replace(" --max-time auto", "")
    job = submit(script, "--signal=USR1@90", SHORT, name="warned")
    assert job.wait(420) == "COMPLETED", job.log()
    assert job.restarts >= 1
    assert "stopped by SIGUSR1" in job.log()
    assert weights(only_run("runs")) == expected["small"]


def test_a_limit_without_a_warning(expected: dict[str, bytes]) -> None:
    """Slurm ends the job by SIGTERM; the script ends with it, so that nothing requeues: the user does."""
    script = small(RUN, "long.yaml").replace(" --max-time auto", "")
    job = submit(script, SHORT, name="unwarned")
    assert job.wait(300) in ("TIMEOUT", "FAILED"), job.log()
    status = run_in_shell("snnkd status")
    assert status.returncode == 75
    assert re.search(rf"\(job {job.number} on n[12]\)", status.stdout), status.stdout
    again = submit(small(RUN, "long.yaml"), name="again")
    assert again.wait() == "COMPLETED", again.log()
    assert weights(only_run("runs")) == expected["long"]


@pytest.mark.parametrize("partition", ["main", "grace"])
def test_a_preempted_job_continues(expected: dict[str, bytes], partition: str) -> None:
    job = submit(small(RUN), f"--partition={partition}", "--nodelist=n1", "--exclusive")
    wait_for_training(job)
    urgent = submit(
        "#!/bin/sh\nsleep 2\n", "--partition=urgent", "--nodelist=n1", "--exclusive", name="urgent"
    )
    assert urgent.wait() == "COMPLETED", job.log()
    assert job.wait() == "COMPLETED", job.log()
    assert job.restarts >= 1, "it was not preempted"
    assert partition == "main" or "stopped by SIGTERM" in job.log()
    assert weights(only_run("runs")) == expected["small"]


def test_scancel_and_the_same_job_again(expected: dict[str, bytes]) -> None:
    job = submit(small(RUN), name="first")
    wait_for_training(job)
    call("scancel", job.number)
    assert job.wait() == "CANCELLED"
    status = run_in_shell("snnkd status")
    assert (status.returncode, "stopped by SIGTERM" in status.stdout) == (75, True), status.stdout
    assert f"(job {job.number} on n" in status.stdout
    again = submit(small(RUN), name="second")
    assert again.wait() == "COMPLETED", again.log()
    assert "continuing in epoch" in again.log()
    assert weights(only_run("runs")) == expected["small"]


def _start_slurmd(node: str) -> None:
    """As slurm_up.sh does, in the node's network and with its name."""
    inner = f"hostname {node} && exec /usr/sbin/slurmd -N {node}"
    call("nsenter", f"--net=/run/netns/{node}", *("unshare", "--uts", "sh", "-c", inner))


def test_a_lost_node(expected: dict[str, bytes]) -> None:
    """Slurm takes the node for dead and starts the job on the other; its process still trains, and is waited for."""
    call("scontrol", "update", "nodename=n1", "state=drain", "reason=test")
    job = submit(small(RUN, "long.yaml"))
    try:
        wait_for_training(job)
    finally:
        call("scontrol", "update", "nodename=n1", "state=resume")
    os.kill(int(Path(f"{BASE}/slurmd.n2.pid").read_text()), signal.SIGKILL)
    try:
        wait_until(lambda: job.restarts, 150, job.log)
        assert job.wait(300) == "COMPLETED", job.log()
    finally:
        _start_slurmd("n2")
    assert weights(only_run("runs")) == expected["long"]
    wait_until(lambda: "idle" in call("sinfo", "-h", "-p", "main", "-n", "n2", "-o", "%T"), 90, job.log)


def test_two_tasks_by_mistake(expected: dict[str, bytes]) -> None:
    """`srun -n 2`: one process works, `run` waits for it, `teach` refuses."""
    job = submit(small(RUN).replace("srun ", "srun -n 2 "), "--ntasks=2", name="waits")
    assert job.wait() == "COMPLETED", job.log()
    assert "already done" in job.log()
    assert weights(only_run("runs")) == expected["small"]
    script = RUN.replace("srun snnkd run glyphs", "srun -n 2 snnkd teach ./small.yaml --out two " + CODE)
    job = submit(script, "--ntasks=2", name="refuses")
    assert job.wait() == "FAILED", job.log()
    assert re.search(r"snnkd: two: held by process \d+ of job \d+ on n\d since .*; wait for it", job.log())
    assert weights(Path("two")) == expected["small"]
    assert job.restarts == 0


def test_what_fails_is_not_requeued(expected: dict[str, bytes]) -> None:
    job = submit(small(RUN), name="killed")
    wait_for_training(job)
    os.kill(processes(job, SLURM_PROCID="0")[0], signal.SIGKILL)
    assert (job.wait(), job.restarts, job.field("ExitCode")) == ("FAILED", 0, "137:0"), job.log()
    assert "killed while running" in run_in_shell("snnkd status").stdout
    again = submit(small(RUN), name="again")
    assert again.wait() == "COMPLETED", again.log()
    assert weights(only_run("runs")) == expected["small"]
    nan = submit(small(RUN).replace("--max-time", "--set train.lr=1e30 --max-time"), name="nan")
    assert (nan.wait(), nan.restarts, nan.field("ExitCode")) == ("FAILED", 0, "4:0"), nan.log()


def write_table(sweep: str) -> None:
    """The page's sweep as table.yaml, at small size."""
    (recipe,) = blocks("cluster", "yaml")
    recipe = re.sub(r"width: \d+", "width: 4", re.sub(r"epochs: \d+", "epochs: 5", recipe))
    size = "data: {name: glyphs, classes: 10, train_images: 300, test_images: 100}"
    recipe = recipe.partition("sweep:")[0].replace("data: glyphs", size)
    Path("table.yaml").write_text(f"{recipe}execution: {{allow_weak_teacher: true}}\nsweep: {sweep}\n")


def wait_for_tasks(number: str) -> list[str]:
    """Wait until no task of an array is left; return their states."""
    wait_until(lambda: not call("squeue", "-h", "-j", number).strip(), 900, lambda: call("squeue"))
    return re.findall(r"\bJobState=(\S+)", call("scontrol", "--oneliner", "show", "job", number))


def students(folder: str) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in Path(folder).glob("distill-*/model.safetensors")}


def test_twelve_tasks_and_their_teacher() -> None:
    """All at once: one trains the teacher, the others wait for it."""
    write_table("{distill.loss: [none, kl, rkl, hta-kl], distill.model.T: [2], seed: [0, 1, 2]}")
    job = submit(ARRAY, "--array=0-11", "--output=task-%a.out", name="array")
    assert wait_for_tasks(job.number) == ["COMPLETED"] * 12
    assert len(students("runs")) == 12
    one_by_one, _ = next(text for text in blocks("cluster", "bash") if "for k in" in text).splitlines()
    done = run_in_shell(one_by_one.replace("seq 0 29", "seq 3 4"), SNNKD_RUNS="plain")
    assert done.returncode == 0, done.stderr
    assert len(students("plain")) == 2
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
    wait_until(lambda: list(Path("runs").glob("teach-*/last.pt")), 240, teacher.log)
    call("scancel", "--signal=USR1", teacher.number)
    assert teacher.wait() == "COMPLETED", teacher.log()
    assert teacher.restarts <= 1
    assert wait_for_tasks(match[2]) == ["COMPLETED"] * 9
    table = run_in_shell(f"snnkd status{end}", SNNKD_RUNS="runs")
    assert table.returncode == 0, table.stdout + table.stderr
    assert "hta-kl" in table.stdout


def test_several_processes_on_one_node(expected: dict[str, bytes]) -> None:
    (line,) = re.findall(r"^python .* --standalone .*$", page("cluster"), re.MULTILINE)
    script = RUN.replace("snnkd run glyphs --max-time auto", line)
    job = submit(
        small(script), "--ntasks=1", "--cpus-per-task=2", "--partition=main", "--exclusive", name="two"
    )
    wait_for_training(job)
    urgent = submit("#!/bin/sh\nsleep 2\n", "--partition=urgent", "--nodes=2", "--exclusive", name="urgent")
    assert urgent.wait() == "COMPLETED"
    assert job.wait() == "COMPLETED", job.log()
    assert weights(only_run("runs")) == expected["two"]
    check_quiet(job, 15)


def small_nodes() -> str:
    return NODES.replace("distill --loss hta-kl", f"run ./small.yaml {CODE}").replace(
        "--nproc-per-node 4", "--nproc-per-node 1"
    )


def test_two_nodes(expected: dict[str, bytes]) -> None:
    job = submit(small_nodes())
    assert job.wait() == "COMPLETED", job.log()
    assert weights(only_run("runs")) == expected["two"]
    check_quiet(job, 15)


def test_two_nodes_that_are_warned(expected: dict[str, bytes]) -> None:
    job = submit(small_nodes(), name="warned")
    wait_for_training(job)
    call("scancel", "--signal=USR1", job.number)
    assert job.wait() == "COMPLETED", job.log()
    assert job.restarts == 1
    assert "stopped by SIGUSR1" in job.log()
    assert weights(only_run("runs")) == expected["two"]


def test_a_killed_process_of_another_node(expected: dict[str, bytes]) -> None:
    job = submit(small_nodes(), name="killed")
    wait_for_training(job)
    (worker,) = processes(job, RANK="1")
    os.kill(worker, signal.SIGKILL)
    assert job.wait() == "FAILED", job.log()
    assert (job.restarts, job.field("ExitCode")) == (0, "137:0")
    assert re.search(
        r"^snnkd: process 1 on n\d was killed by SIGKILL; the last check", job.log(), re.MULTILINE
    )
    again = submit(small_nodes(), name="again")
    assert again.wait() == "COMPLETED", again.log()
    assert weights(only_run("runs")) == expected["two"]
