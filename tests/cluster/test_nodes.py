"""Nodes that are taken away or lost, and torchrun on one and two of them.

`.ci/cluster` starts the Slurm and these tests; without it they are skipped.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.slurm import (
    BASE,
    CODE,
    NODES,
    ON_SLURM,
    PATIENCE,
    RUN,
    Shells,
    call,
    check_quiet,
    only_run,
    processes,
    run_in_shell,
    small,
    submit,
    variables,
    wait_for_training,
    wait_until,
    weights,
    write_recipes,
)
from pages import page

pytestmark = ON_SLURM


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> dict[str, str]:
    return variables(tmp_path_factory.mktemp("environment"), "nodes", data_folder)


@pytest.fixture(autouse=True)
def _environment(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    write_recipes(Path())


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[Shells]:
    """The weights of the recipes' runs, left alone; `two` by two processes."""
    launcher = "python -m snnkd.torchrun --standalone --nproc-per-node 2 -m snnkd"
    commands = {
        "small": f"snnkd run ./small.yaml {CODE}",
        "long": f"snnkd run ./long.yaml {CODE}",
        "two": f"{launcher} run ./small.yaml {CODE}",
    }
    shells = Shells(tmp_path_factory.mktemp("undisturbed"), commands, **environment)
    yield shells
    shells.end()


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
    wait_until(
        lambda: call("sinfo", "-h", "-p", "main", "-n", "n2", "-o", "%T").strip() in ("idle", "reserved"),
        PATIENCE,
        job.log,
    )


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


def test_a_job_that_fails_the_same_way_each_time() -> None:
    """One process does not answer, before there is a checkpoint: the job requeues itself four times, no more."""
    command = (
        "python -m snnkd.torchrun --standalone --nproc-per-node 2 --shutdown-timeout 1 -m snnkd run glyphs"
    )
    script = small(RUN.replace("snnkd run glyphs", f"{command} --set execution.timeout=5"))
    job = submit(script, "--ntasks=1", "--cpus-per-task=2", name="stuck", STUCK="1")
    assert job.wait() == "FAILED", job.log()
    assert (job.restarts, job.field("ExitCode")) == (4, "4:0"), job.log()
    assert re.search(
        r"^snnkd: \S+: 5 starts in a row without a new checkpoint, the last: process 1 on n\d ",
        job.log(),
        re.MULTILINE,
    )
    status = run_in_shell("snnkd status")
    assert (status.returncode, "failed" in status.stdout) == (4, True), status.stdout
