"""Jobs of one process: limits that hit, scancel, mistakes, what fails.

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
    CODE,
    ON_SLURM,
    PATIENCE,
    README,
    RUN,
    Job,
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
SHORT = "--time=00:04:00"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> dict[str, str]:
    return variables(tmp_path_factory.mktemp("environment"), "jobs", data_folder)


@pytest.fixture(autouse=True)
def _environment(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    write_recipes(Path())


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[Shells]:
    """The weights of the recipes' runs, left alone; `until` by the page's loop."""
    (loop,) = re.findall(r"`(until snnkd run glyphs .*)`", page("cluster"))
    commands = {
        "small": f"snnkd run ./small.yaml {CODE}",
        "long": f"snnkd run ./long.yaml {CODE}",
        "until": small(loop, "long.yaml").replace("30m", "150s"),
    }
    shells = Shells(tmp_path_factory.mktemp("undisturbed"), commands, **environment)
    yield shells
    shells.end()


@pytest.fixture(scope="module")
def limited(
    tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str], expected: Shells
) -> dict[str, Job]:
    """Four jobs that reach their limit, which takes minutes, therefore at once. All have ended."""
    guide, readme = small(RUN, "long.yaml"), small(README, "long.yaml")
    without = guide.replace(" --max-time auto", "")
    scripts = {
        "guide": (guide, SHORT),
        "readme": (readme, SHORT),
        "warned": (without, SHORT, "--signal=USR1@90"),  # Slurm may be up to a minute early
        "unwarned": (without, "--time=00:02:00"),  # ended up to half a minute late
    }
    jobs = {}
    for name, (script, *options) in scripts.items():
        folder = tmp_path_factory.mktemp(name)
        write_recipes(folder)
        jobs[name] = submit(script, *options, folder=folder, **environment)
    wait_until(
        lambda: not [job for job in jobs.values() if not job.has_ended()],
        2 * PATIENCE,
        lambda: "\n".join(job.log() for job in jobs.values()),
    )
    return jobs


@pytest.mark.parametrize("name", ["guide", "readme"])
def test_a_job_requeues_itself_until_it_is_done(limited: dict[str, Job], expected: Shells, name: str) -> None:
    job = limited[name]
    assert job.field("JobState") == "COMPLETED", job.log()
    assert job.restarts >= 1, "the limit was never reached"
    assert weights(only_run(job.folder / "runs")) == expected["long"]
    assert "stopped by --max-time (" in job.log()
    check_quiet(job, 150)


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
    assert re.search(rf"\(job {job.number} on n\d\)", status.stdout), status.stdout
    again = submit(small(RUN, "long.yaml"), name="again", folder=job.folder)
    assert again.wait() == "COMPLETED", again.log()
    assert weights(only_run(job.folder / "runs")) == expected["long"]


def test_a_loop_without_slurm(expected: Shells) -> None:
    assert expected["until"] == expected["long"]


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
