"""`run --tasks`, `run --task K`, and many tasks at once that share a teacher."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli
from faults.forks import Forks, alive, send

from snnkd.runs import lock
from snnkd.runs.lock import Lock, RunLocked, is_held

TEACHER_EPOCHS = 24
BODY = f"""\
schema: 1
data: {{name: glyphs, classes: 10, train_images: 300, test_images: 100}}
train: {{epochs: 2, batch_size: 50}}
model: {{name: resnet8, width: 4}}
teach: {{seed: 100, train: {{epochs: {TEACHER_EPOCHS}}}}}
distill: {{model: {{T: 2}}}}
export: {{formats: [safetensors]}}
execution: {{allow_weak_teacher: true}}
"""
RECIPE = BODY + "sweep: {distill.loss: [none, {name: hta-kl, head: strict}], seed: [0, 1]}\n"
LINES = [
    "0  distill.loss=none  seed=0",
    "1  distill.loss=none  seed=1",
    "2  distill.loss=hta-kl head=strict  seed=0",
    "3  distill.loss=hta-kl head=strict  seed=1",
]


@pytest.fixture
def recipe() -> str:
    Path("table.yaml").write_text(RECIPE.replace(f"epochs: {TEACHER_EPOCHS}", "epochs: 2"))
    return "table.yaml"


# the list


def test_the_tasks_are_listed(cli: Cli, recipe: str) -> None:
    listed = cli("run", recipe, "--tasks")
    assert (listed.code, listed.out.splitlines(), listed.err) == (0, LINES, "")
    strict = {"name": "hta-kl", "head": "strict"}
    assert cli("run", recipe, "--tasks", "--json").json == {
        "schema": 1,
        "tasks": [
            {"task": i, "settings": {"distill.loss": loss, "seed": seed}}
            for i, (loss, seed) in enumerate([("none", 0), ("none", 1), (strict, 0), (strict, 1)])
        ],
    }
    assert [path.name for path in Path().iterdir()] == ["table.yaml"]


def test_a_recipe_without_a_sweep_has_task_0(cli: Cli) -> None:
    assert cli("run", "glyphs", "--tasks").out == "0\n"
    assert cli("run", "glyphs", "--tasks", "--json").json == {
        "schema": 1,
        "tasks": [{"task": 0, "settings": {}}],
    }
    assert "glyphs has one task, 0" in cli("run", "glyphs", "--task", 1).complaint


def test_listing_does_not_import_torch(recipe: str) -> None:
    code = (
        "import sys; sys.argv[0] = 'snnkd'; from snnkd.cli import main\ntry: main()\nfinally: assert "
        "'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "run", recipe, "--tasks"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, LINES, "")


# refusals


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--task", "4"], "--task 4 is out of range; table.yaml has tasks 0 to 3"),
        (["--task", "-1"], "--task '-1' is not a whole number; table.yaml has tasks 0 to 3"),
        (["--task", "two"], "is not a whole number; table.yaml has tasks 0 to 3"),
        (["--task", ""], "is the shell variable set?"),
        (["--task", "0", "--tasks"], "give one of the two"),
        (["--task", "0", "--set", "seed=3"], "'seed' is swept"),
        (
            ["--task", "0", "--set", "sweep.seed=[0, x]"],
            "task 1 (distill.loss=none, seed=x): distill: seed: 'x' is not a whole number",
        ),
        (
            ["--task", "0", "--set", "sweep.distill.loss=[none, htakl]"],
            "unknown loss 'htakl'; did you mean 'hta-kl'?",
        ),
        (
            ["--set", "sweep.distill.train.batch_size=[50, 500]"],
            "distill.train.batch_size=500): train.batch_size: 500 is above",
        ),
        (["--set", "sweep.distill.execution.device=[cpu, auto]"], "does not change the run; remove it"),
        (["--set", "eval.split=val", "--set", "sweep.data.val_fraction=[0.5, 0]"], "data.val_fraction=0): "),
        (["--set", "sweep.sede=[1]"], "did you mean 'seed'?"),
        (
            ["--set", "compare.baseline=kl"],
            "compare.baseline: 'kl' is not a loss of this recipe; known: hta-kl, hta-kl head=strict, none",
        ),
        (
            ["--set", "compare.baseline=none", "--set", "sweep.distill.train.lr=[0.1, 0.2]"],
            "compare.baseline: 'none' has 2 rows: 'none lr=0.1', 'none lr=0.2'; give one label",
        ),
        (["--set", "compare.baseline=none lr=0.3"], "compare.baseline: 'none lr=0.3' is not a row"),
        (["--set", "export.formats=[nir]", "--set", "distill.neuron=psn"], "--format nir: layer"),
    ],
)
def test_requests_that_are_refused_before_anything_runs(
    cli: Cli, recipe: str, words: list[str], said: str
) -> None:
    ended = cli("run", recipe, *words)
    assert ended.code == 2, ended.err
    assert said in ended.complaint
    assert [path.name for path in Path().iterdir()] == ["table.yaml"]


# check


def test_check_prints_a_recipe_with_its_sweep(cli: Cli, recipe: str) -> None:
    checked = cli("check", recipe)
    assert checked.code == 0, checked.err
    assert (
        "sweep: 4 tasks (`snnkd run table.yaml --tasks` lists them); the figures below are for task 0 "
        "(distill.loss=none, seed=0)" in checked.err
    )
    Path("again.yaml").write_text(checked.out)
    assert cli("run", "again.yaml", "--tasks").out.splitlines() == LINES
    described = cli("check", recipe, "--json").json
    again = cli("check", "again.yaml", "--json").json
    assert described == again
    assert described["tasks"] == 4
    assert described["recipe"]["sweep"] == {
        "distill.loss": ["none", {"name": "hta-kl", "head": "strict"}],
        "seed": [0, 1],
    }


def test_check_of_one_task(cli: Cli, recipe: str) -> None:
    checked = cli("check", recipe, "--task", 2)
    assert checked.code == 0, checked.err
    assert "\nsweep:" not in checked.out
    assert "sweep: 4 tasks" not in checked.err
    assert "  # " in checked.out
    described = cli("check", recipe, "--task", 2, "--json").json["recipe"]
    assert described["distill"]["loss"]["terms"][0]["head"] == "strict"
    Path("one.yaml").write_text(checked.out)
    assert cli("check", "one.yaml", "--json").json["recipe"] == described
    outside = cli("check", recipe, "--task", 4)
    assert (outside.code, "has tasks 0 to 3" in outside.complaint) == (2, True)


# runs


def test_one_task_all_tasks_and_single_stages(cli: Cli, recipe: str) -> None:
    one = cli("run", recipe, "--task", 2)
    assert one.code == 0, one.err
    assert "task 2 (distill.loss=hta-kl head=strict, seed=0)\n" in one.err
    teacher, student = map(Path, one.out.splitlines())
    assert json.loads((student / "result.json").read_text())["loss"]["terms"][0]["head"] == "strict"
    assert (student / "export" / "safetensors").is_dir()
    rest = cli("run", recipe)
    assert rest.code == 0, rest.err
    runs = [Path(line) for line in rest.out.splitlines()]
    assert runs[0] == teacher, "the shared one once, first"
    assert runs[3] == student
    assert len(set(runs)) == len(runs) == 5
    assert set(runs) == set(Path("runs").iterdir())
    assert rest.err.count(f"already done: {teacher}") == 4
    assert "task 0 (distill.loss=none, seed=0), 1 of 4" in rest.err
    again = cli("run", recipe, "--task", 1, "--json")
    assert [result["run"] for result in again.json["runs"]] == [str(teacher), str(runs[2])]
    assert "epoch" not in again.err
    same = cli("distill", recipe, "--loss", "none", "--seed", 1)
    assert (same.code, same.folder) == (0, runs[2]), "the same directory as the single command's"
    assert cli("teach", recipe).folder == teacher


def test_a_recipe_of_one_stage_is_swept(cli: Cli) -> None:
    Path("r.yaml").write_text(
        BODY.split("teach:", maxsplit=1)[0] + "stage: teach\nsweep: {seed: [0, 1], model.width: [2, 4]}\n"
    )
    done = cli("run", "r.yaml", "--task", 3)
    assert done.code == 0, done.err
    assert json.loads((done.folder / "result.json").read_text())["model"] == {"name": "resnet8", "width": 4}


def test_a_signal_ends_a_sweep_between_tasks(cli: Cli, recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from snnkd import pipeline

    honest = pipeline._measure_and_export

    def signalled(*given: Any) -> None:
        honest(*given)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(pipeline, "_measure_and_export", signalled)
    ended = cli("run", recipe)
    assert ended.code == 75
    assert (
        "stopped by SIGTERM before task 1 (distill.loss=none, seed=1); the same command continues"
        in ended.complaint
    )
    assert len(list(Path("runs").iterdir())) == 2


# waiting, one process


@pytest.fixture
def held_teacher(cli: Cli, recipe: str) -> Iterator[Path]:
    """The teacher's run, begun and held."""
    assert cli("teach", recipe, "--max-time", "0s").code == 75
    (teacher,) = Path("runs").iterdir()
    with Lock(teacher):
        yield teacher


def test_waiting_is_bounded(cli: Cli, held_teacher: Path) -> None:
    ended = cli("run", "table.yaml", "--task", 2, "--set", "execution.wait=1.2")
    assert ended.code == 75
    assert f"{held_teacher}: held by process {os.getpid()} on " in ended.complaint
    assert ended.complaint.endswith("waited 1.2 s (execution.wait) for it; the same command continues")
    assert ended.err.count("waiting for") == 1
    assert "at most 0:01 more" in ended.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75)])
def test_a_signal_ends_the_waiting(cli: Cli, held_teacher: Path, number: signal.Signals, code: int) -> None:
    timer = threading.Timer(1.0, os.kill, (os.getpid(), number))
    timer.start()
    ended = cli("run", "table.yaml", "--task", 0)
    timer.join()
    assert ended.code == code, ended.err
    assert f"stopped by {number.name} while waiting for {held_teacher}, held by process" in ended.complaint
    assert "the same command continues" in ended.complaint


def test_max_time_ends_the_waiting(cli: Cli, held_teacher: Path) -> None:
    ended = cli("run", "table.yaml", "--task", 0, "--max-time", "0s")
    assert ended.code == 75
    assert "stopped by --max-time (0 s) while waiting" in ended.complaint


def test_single_stages_do_not_wait(cli: Cli, held_teacher: Path) -> None:
    ended = cli("teach", "table.yaml")
    assert ended.code == 3
    assert "wait for it or stop it" in ended.complaint


@pytest.mark.parametrize("word", ["-1", "x", ".inf"])
def test_bad_bounds(cli: Cli, recipe: str, word: str) -> None:
    ended = cli("run", recipe, "--set", f"execution.wait={word}")
    assert ended.code == 2
    assert "execution.wait" in ended.complaint


def test_a_waiter_that_comes_second_to_a_free_run_waits_again(
    cli: Cli, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from snnkd import stage

    class Quicker(Lock):
        def __enter__(self) -> Lock:
            monkeypatch.setattr(stage, "Lock", Lock)
            raise RunLocked("another one took it meanwhile")

    monkeypatch.setattr(stage, "Lock", Quicker)
    assert cli("run", recipe, "--task", 0).code == 0
    monkeypatch.setattr(stage, "Lock", Quicker)
    assert cli("teach", recipe, "--seed", 5).code == 3


def test_the_export_of_one_student_is_made_by_one(
    cli: Cli, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another task with the same student exports it just now: this one waits, and finds it done."""
    from snnkd import pipeline

    monkeypatch.setattr(lock, "POLL", 0.05)
    student = Path(cli("run", recipe, "--task", 0).out.splitlines()[1])
    (student / "export").rename("exported")
    free = threading.Event()

    def export() -> None:
        with Lock(student):
            free.set()
            time.sleep(0.5)
            Path("exported").rename(student / "export")

    honest, threads = pipeline.retry_when_free, []

    def late(*given: Any) -> Any:
        threads.append(threading.Thread(target=export))
        threads[0].start()
        free.wait(10)
        return honest(*given)

    monkeypatch.setattr(pipeline, "retry_when_free", late)
    ended = cli("run", recipe, "--task", 0)
    threads[0].join()
    assert ended.code == 0, ended.err
    assert f"waiting for {student}" in ended.err
    assert "exported to" not in ended.err


# several processes


class Crew:
    """Tasks as processes of their own, in folders of their own over one runs folder."""

    def __init__(self, servers: dict[int, Forks], root: Path) -> None:
        self._servers, self._root = servers, root
        self.runs = root / "runs"

    def start(self, worker: int, *words: object) -> int:
        folder = self._root / f"worker{worker}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "table.yaml").write_text(RECIPE)
        if worker not in self._servers:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("SNNKD_RUNS", "../runs")
                self._servers[worker] = Forks()
        return self._servers[worker].start(folder, ["run", "table.yaml", *map(str, words)])

    def finish(self, worker: int) -> int:
        return self._servers[worker].wait()

    def err(self, worker: int) -> str:
        path = self._root / f"worker{worker}" / "err"
        return path.read_text() if path.exists() else ""

    def out(self, worker: int) -> list[str]:
        return (self._root / f"worker{worker}" / "out").read_text().splitlines()

    @property
    def teacher(self) -> Path:
        return next(self.runs.glob("teach-*"))

    def weights(self) -> dict[str, bytes]:
        return {path.name: (path / "model.safetensors").read_bytes() for path in self.runs.iterdir()}


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[int, Forks]]:
    """One for each worker that a test starts."""
    servers: dict[int, Forks] = {}
    yield servers
    for server in servers.values():
        server.close()


@pytest.fixture
def crew(servers: dict[int, Forks], tmp_path: Path) -> Crew:
    return Crew(servers, tmp_path / "crew")


@pytest.fixture(scope="module")
def serial(servers: dict[int, Forks], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The weights of every run of the sweep, made by one process."""
    alone = Crew(servers, tmp_path_factory.mktemp("serial"))
    alone.start(0)
    assert alone.finish(0) == 0, alone.err(0)
    return alone.weights()


def _until(come: Callable[[], bool], pid: int) -> None:
    for _ in range(6000):
        if come():
            return
        assert alive(pid), "it ended too early"
        time.sleep(0.005)
    pytest.fail("it never came")


@contextmanager
def _frozen_teacher(crew: Crew) -> Iterator[int]:
    """Worker 0 runs task 0 and is halted in the middle of the teacher's training."""
    pid = crew.start(0, "--task", 0)
    _until(lambda: any(crew.runs.glob("teach-*/last.pt")), pid)
    send(pid, signal.SIGSTOP)
    try:
        assert is_held(crew.teacher)
        assert not (crew.teacher / "result.json").exists()
        yield pid
    finally:
        send(pid, signal.SIGCONT)


def _trained_teacher(crew: Crew, worker: int) -> bool:
    return f"run: ../runs/{crew.teacher.name}" in crew.err(worker)


def _epochs(run: Path) -> list[int]:
    return [json.loads(line)["epoch"] for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.nightly  # one waiter in this process: the tests above; a lock: runs/test_lock, test_waiting
@pytest.mark.parametrize("waiting", [1, 2])
def test_the_teacher_is_trained_once_for_tasks_that_run_at_once(
    crew: Crew, serial: dict[str, bytes], waiting: int
) -> None:
    workers = range(1, waiting + 1)
    with _frozen_teacher(crew) as holder:
        pids = {worker: crew.start(worker, "--task", worker) for worker in workers}
        for worker, pid in pids.items():
            _until(lambda worker=worker: "waiting for" in crew.err(worker), pid)  # type: ignore[misc]
    for worker in (0, *workers):
        assert crew.finish(worker) == 0, crew.err(worker)
        assert _trained_teacher(crew, worker) == (worker == 0)
    for worker in workers:
        (line,) = [line for line in crew.err(worker).splitlines() if line.startswith("waiting for")]
        assert line.startswith(f"waiting for ../runs/{crew.teacher.name}, held by process {holder} on ")
        assert f"already done: ../runs/{crew.teacher.name}" in crew.err(worker)
        assert crew.out(worker)[0] == f"../runs/{crew.teacher.name}"
    assert _epochs(crew.teacher) == list(range(1, TEACHER_EPOCHS + 1))
    made = crew.weights()
    assert len(made) == 2 + waiting
    assert made == {name: serial[name] for name in made}


@pytest.mark.nightly  # a lock without its holder: runs/test_lock, test_waiting
def test_a_waiter_goes_on_where_a_killed_holder_was(crew: Crew, serial: dict[str, bytes]) -> None:
    with _frozen_teacher(crew) as holder:
        pids = {worker: crew.start(worker, "--task", task) for worker, task in ((1, 1), (2, 2))}
        for worker, pid in pids.items():
            _until(lambda worker=worker: "waiting for" in crew.err(worker), pid)  # type: ignore[misc]
        send(holder, signal.SIGKILL)
    assert [crew.finish(worker) for worker in range(3)] == [-signal.SIGKILL, 0, 0], [
        crew.err(worker) for worker in range(3)
    ]
    assert sum(_trained_teacher(crew, worker) for worker in (1, 2)) == 1
    assert _epochs(crew.teacher) == list(range(1, TEACHER_EPOCHS + 1))
    assert f"epoch 1/{TEACHER_EPOCHS}" not in crew.err(1) + crew.err(2), "continued, not begun again"
    made = crew.weights()
    assert len(made) == 3
    assert made == {name: serial[name] for name in made}


@pytest.mark.nightly
def test_a_waiter_goes_on_where_a_stopped_holder_was(crew: Crew, serial: dict[str, bytes]) -> None:
    with _frozen_teacher(crew) as holder:
        waiter = crew.start(1, "--task", 1)
        _until(lambda: "waiting for" in crew.err(1), waiter)
        send(holder, signal.SIGTERM)
    assert [crew.finish(worker) for worker in range(2)] == [75, 0], [crew.err(worker) for worker in range(2)]
    assert _trained_teacher(crew, 1)
    made = crew.weights()
    assert made == {name: serial[name] for name in made}


@pytest.mark.nightly
def test_processes_that_begin_together_or_run_the_very_same_tasks(
    crew: Crew, serial: dict[str, bytes]
) -> None:
    for worker, words in enumerate(((), (), ("--task", 3))):
        crew.start(worker, *words)
    assert [crew.finish(worker) for worker in range(3)] == [0, 0, 0], [
        crew.err(worker) for worker in range(3)
    ]
    assert crew.weights() == serial
    assert crew.out(0) == crew.out(1)
    for run in crew.runs.iterdir():
        assert sum(f"run: ../runs/{run.name}" in crew.err(worker) for worker in range(3)) == 1, (
            f"{run} was trained once"
        )
    assert sum(crew.err(worker).count("exported to") for worker in range(3)) == 4


def test_sigint_while_waiting_ends_the_shells_loop_too(crew: Crew) -> None:
    with _frozen_teacher(crew) as holder:
        waiter = crew.start(1, "--task", 1)
        _until(lambda: "waiting for" in crew.err(1), waiter)
        send(waiter, signal.SIGINT)
        assert crew.finish(1) == -signal.SIGINT
        send(holder, signal.SIGKILL)
    crew.finish(0)


def test_the_checksum_of_a_trained_teacher_is_checked(cli: Cli) -> None:
    Path("r.yaml").write_text(
        f"{BODY}loss: kl\nteacher: {{sha256: 12ab}}\n".replace(f"{TEACHER_EPOCHS}", "1")
    )
    ended = cli("run", "r.yaml")
    assert (ended.code, "the recipe names 12ab" in ended.complaint) == (3, True)
