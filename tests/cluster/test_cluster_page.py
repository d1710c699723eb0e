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
    PATIENCE,
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


class Shells:
    """Runs in plain shells, started together; `shells[name]` waits for one and returns the weights."""

    def __init__(self, folder: Path, commands: dict[str, str], **variables: str) -> None:
        self.folder = folder
        self._shells = {}
        for name, command in commands.items():
            (folder / name).mkdir()
            write_recipes(folder / name)
            self._shells[name] = start_in_shell(command, folder / name, **variables)

    def __getitem__(self, name: str) -> bytes:
        shell = self._shells[name]
        assert shell.wait() == 0, shell.stderr and shell.stderr.read()
        return weights(only_run(self.folder / name / "runs"))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> dict[str, str]:
    """Variables that the fixture of each test sets, for what outlives a test."""
    folder = tmp_path_factory.mktemp("environment") / "bin"
    install_commands(folder)
    return {"PATH": f"{folder}:{os.environ['PATH']}", "SNNKD_DATA": str(data_folder)}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Shells:
    """The weights of the recipes' runs, left alone; `two` by two processes, `until` by the page's loop."""
    (loop,) = re.findall(r"`(until snnkd run glyphs .*)`", page("cluster"))
    launcher = "python -m snnkd.torchrun --standalone --nproc-per-node 2 -m snnkd"
    commands = {
        "small": f"snnkd run ./small.yaml {CODE}",
        "long": f"snnkd run ./long.yaml {CODE}",
        "two": f"{launcher} run ./small.yaml {CODE}",
        "until": small(loop, "long.yaml").replace("30m", "90s"),
    }
    return Shells(tmp_path_factory.mktemp("undisturbed"), commands, **environment)


@pytest.fixture(scope="module")
def limited(
    tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str], expected: Shells
) -> dict[str, Job]:
    """Four jobs that reach their limit, which takes minutes, therefore at once. All have ended."""
    guide, readme = small(RUN, "long.yaml"), small(README, "long.yaml")
    without = guide.replace(" --max-time auto", "")
    scripts = {
        "guide": (guide, SHORT),
        "readme": (readme, SHORT, "--open-mode=append"),  # otherwise the second start empties the log
        "warned": (without, SHORT, "--signal=USR1@30"),  # Slurm may be up to a minute early
        "unwarned": (without, "--time=00:01:00"),  # ended up to half a minute late
    }
    jobs = {}
    for name, (script, *options) in scripts.items():
        folder = tmp_path_factory.mktemp(name)
        write_recipes(folder)
        jobs[name] = submit(script, *options, folder=folder, **environment)
    wait_until(
        lambda: not [job for job in jobs.values() if not job.has_ended()],
        1200,
        lambda: "\n".join(job.log() for job in jobs.values()),
    )
    return jobs


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


@pytest.mark.parametrize("name", ["guide", "readme"])
def test_a_job_requeues_itself_until_it_is_done(limited: dict[str, Job], expected: Shells, name: str) -> None:
    job = limited[name]
    assert job.field("JobState") == "COMPLETED", job.log()
    assert job.restarts >= 1, "the limit was never reached"
    assert weights(only_run(job.folder / "runs")) == expected["long"]
    assert "stopped by --max-time (" in job.log()
    check_quiet(job, 75)


def test_a_warning_signal_instead(limited: dict[str, Job], expected: Shells) -> None:
    job = limited["warned"]
    assert job.field("JobState") == "COMPLETED", job.log()
    assert job.restarts >= 1
    assert "stopped by SIGUSR1" in job.log()
    assert weights(only_run(job.folder / "runs")) == expected["long"]


def test_a_limit_without_a_warning(limited: dict[str, Job], expected: Shells) -> None:
    """Slurm ends the job by SIGTERM; the script ends with it, so that nothing requeues: the user does."""
    job = limited["unwarned"]
    assert job.field("JobState") in ("TIMEOUT", "FAILED"), job.log()
    status = run_in_shell("snnkd status", job.folder)
    assert status.returncode == 75
    assert re.search(rf"\(job {job.number} on n[12]\)", status.stdout), status.stdout
    again = submit(small(RUN, "long.yaml"), name="again", folder=job.folder)
    assert again.wait() == "COMPLETED", again.log()
    assert weights(only_run(job.folder / "runs")) == expected["long"]


def test_a_loop_without_slurm(expected: Shells) -> None:
    assert expected["until"] == expected["long"]


@pytest.mark.parametrize("partition", ["main", "grace"])
def test_a_preempted_job_continues(expected: Shells, partition: str) -> None:
    job = submit(small(RUN), f"--partition={partition}", "--nodelist=n1", "--exclusive")
    wait_for_training(job)
    urgent = submit(
        "#!/bin/sh\nsleep 2\n", "--partition=urgent", "--nodelist=n1", "--exclusive", name="urgent"
    )
    assert urgent.wait() == "COMPLETED", job.log()
    assert job.wait() == "COMPLETED", job.log()
    assert job.restarts >= 1, "it was not preempted"
    assert partition == "main" or "stopped by SIGTERM" in job.log()
    assert weights(only_run(Path("runs"))) == expected["small"]


def test_scancel_and_the_same_job_again(expected: Shells) -> None:
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
    assert weights(only_run(Path("runs"))) == expected["small"]


def _start_slurmd(node: str) -> None:
    """As slurm_up.sh does, in the node's network and with its name."""
    inner = f"hostname {node} && exec /usr/sbin/slurmd -N {node}"
    call("nsenter", f"--net=/run/netns/{node}", *("unshare", "--uts", "sh", "-c", inner))


def test_a_lost_node(expected: Shells) -> None:
    """Slurm takes the node for dead and starts the job on the other; its process still trains, and is waited for."""
    call("scontrol", "update", "nodename=n1", "state=drain", "reason=test")
    job = submit(small(RUN, "long.yaml"))
    try:
        wait_for_training(job)
    finally:
        call("scontrol", "update", "nodename=n1", "state=resume")
    os.kill(int(Path(f"{BASE}/slurmd.n2.pid").read_text()), signal.SIGKILL)
    try:
        wait_until(lambda: job.restarts, PATIENCE, job.log)
        assert job.wait() == "COMPLETED", job.log()
    finally:
        _start_slurmd("n2")
    assert weights(only_run(Path("runs"))) == expected["long"]
    wait_until(lambda: "idle" in call("sinfo", "-h", "-p", "main", "-n", "n2", "-o", "%T"), PATIENCE, job.log)


def test_two_tasks_by_mistake(expected: Shells) -> None:
    """`srun -n 2`: one process works, `run` waits for it, `teach` refuses."""
    job = submit(small(RUN).replace("srun ", "srun -n 2 "), "--ntasks=2", name="waits")
    assert job.wait() == "COMPLETED", job.log()
    assert "already done" in job.log()
    assert weights(only_run(Path("runs"))) == expected["small"]
    script = RUN.replace("srun snnkd run glyphs", "srun -n 2 snnkd teach ./small.yaml --out two " + CODE)
    job = submit(script, "--ntasks=2", name="refuses")
    assert job.wait() == "FAILED", job.log()
    assert re.search(r"snnkd: two: held by process \d+ of job \d+ on n\d since .*; wait for it", job.log())
    assert weights(Path("two")) == expected["small"]
    assert job.restarts == 0


def test_what_fails_is_not_requeued(expected: Shells) -> None:
    job = submit(small(RUN), name="killed")
    wait_for_training(job)
    os.kill(processes(job, SLURM_PROCID="0")[0], signal.SIGKILL)
    assert (job.wait(), job.restarts, job.field("ExitCode")) == ("FAILED", 0, "137:0"), job.log()
    assert "killed while running" in run_in_shell("snnkd status").stdout
    again = submit(small(RUN), name="again")
    assert again.wait() == "COMPLETED", again.log()
    assert weights(only_run(Path("runs"))) == expected["small"]
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
    wait_until(lambda: not call("squeue", "-h", "-j", number).strip(), 1200, lambda: call("squeue"))
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
    for line, tasks in zip(lines, ("seq 3 4", "seq 5 8"), strict=True):
        done = run_in_shell(line.replace("seq 0 29", tasks), SNNKD_RUNS="plain")
        assert done.returncode == 0, done.stderr
    assert len(students("plain")) == 6
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


def test_several_processes_on_one_node(expected: Shells) -> None:
    (line,) = re.findall(r"^python .* --standalone .*$", page("cluster"), re.MULTILINE)
    script = RUN.replace("snnkd run glyphs --max-time auto", line)
    job = submit(
        small(script), "--ntasks=1", "--cpus-per-task=2", "--partition=main", "--exclusive", name="two"
    )
    wait_for_training(job)
    urgent = submit("#!/bin/sh\nsleep 2\n", "--partition=urgent", "--nodes=2", "--exclusive", name="urgent")
    assert urgent.wait() == "COMPLETED"
    assert job.wait() == "COMPLETED", job.log()
    assert weights(only_run(Path("runs"))) == expected["two"]
    check_quiet(job, 15)


def small_nodes() -> str:
    return NODES.replace("distill --loss hta-kl", f"run ./small.yaml {CODE}").replace(
        "--nproc-per-node 4", "--nproc-per-node 1"
    )


def test_two_nodes(expected: Shells) -> None:
    job = submit(small_nodes())
    assert job.wait() == "COMPLETED", job.log()
    assert weights(only_run(Path("runs"))) == expected["two"]
    check_quiet(job, 15)


def test_two_nodes_that_are_warned(expected: Shells) -> None:
    job = submit(small_nodes(), name="warned")
    wait_for_training(job)
    call("scancel", "--signal=USR1", job.number)
    assert job.wait() == "COMPLETED", job.log()
    assert job.restarts == 1
    assert "stopped by SIGUSR1" in job.log()
    assert weights(only_run(Path("runs"))) == expected["two"]


def test_a_killed_process_of_another_node(expected: Shells) -> None:
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
    assert weights(only_run(Path("runs"))) == expected["two"]
