"""Shared by all tests: the command line in this process, small runs, and a folder of their own for each
test."""

from __future__ import annotations

import atexit
import contextlib
import errno
import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from dot import write_dot
from filelock import FileLock
from hypothesis import HealthCheck, settings

from snnkd.distributed import SIGNALS

for _number in SIGNALS:  # a shell in whose background the tests run ignores SIGINT, nohup SIGHUP
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)

# a busy machine is no failure of a property
settings.register_profile("snnkd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("snnkd")

# the networks here are small: a second thread would only wait for the first
os.environ["OMP_NUM_THREADS"] = "1"

DATA = ["--set", "data.classes=10", "--set", "data.train_images=300", "--set", "data.test_images=100"]
TRAIN = ["--epochs", "2", "--batch-size", "50", "--set", "model.width=4"]
SMALL = [*DATA, *TRAIN]
"""A run of 12 steps that takes about a second."""


@dataclass
class Outcome:
    """What a command left: its exit code and both streams."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def folder(self) -> Path:
        """The run directory that a command printed as its only line."""
        (line,) = self.out.splitlines()
        return Path(line)

    @property
    def complaint(self) -> str:
        """The one line that an error is; fails when it is more or less."""
        lines = [line for line in self.err.splitlines() if line.startswith("snnkd: ")]
        assert len(lines) == 1, self.err
        assert self.err.rstrip().endswith(lines[0]), f"something follows the error line: {self.err}"
        assert "Traceback" not in self.err
        return lines[0]


Cli = Callable[..., Outcome]


@contextlib.contextmanager
def same_handlers() -> Iterator[None]:
    """Restore the handlers of signals: a command ignores late ones until its process ends."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def tiers(cases: Iterable[Any], default: Collection[Any]) -> list[Any]:
    """Cases for `parametrize`: those in `default` always run, the others with the nightly tier."""
    cases = list(cases)
    assert set(default) <= set(cases), f"no such cases: {set(default) - set(cases)}"
    return [case if case in default else pytest.param(case, marks=pytest.mark.nightly) for case in cases]


@pytest.fixture
def pictures(_own_folder: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs draw their picture, which takes longer than to train the networks here."""
    from snnkd.measure.plot import plot_curves

    monkeypatch.setattr("snnkd.stage.plot_curves", plot_curves)


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SNNKD_DATA for the session, so that equal glyphs are drawn once."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_folder: Path) -> Iterator[None]:
    """Every test works in an empty directory, with the default runs folder under it, draws no picture of a run,
    and leaves no module of it imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("snnkd.stage.plot_curves", write_dot)
    monkeypatch.setenv("SNNKD_DATA", str(data_folder))
    for name in ("SNNKD_RUNS", *(name for name in os.environ if name.startswith("SLURM_"))):
        monkeypatch.delenv(name, raising=False)
    before = set(sys.modules)
    yield
    for name in sys.modules.keys() - before:
        if str(tmp_path) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]
    sys.path[:] = [path for path in sys.path if not path.startswith(str(tmp_path))]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """`cli("teach", "--epochs", 1)`: the console command in this process."""

    def call(*words: object) -> Outcome:
        from snnkd.cli import main

        monkeypatch.setattr(sys, "argv", ["snnkd", *map(str, words)])
        capfd.readouterr()
        with same_handlers(), pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return Outcome(int(ended.value.code or 0), out, err)

    return call


def run_in(folder: Path, data: Path, *words: object) -> Outcome:
    """The console command in this process and in `folder`, with SNNKD_DATA `data`, for fixtures that outlive
    a test."""
    from snnkd.cli import main

    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, same_handlers():
        patch.chdir(folder)
        patch.setenv("SNNKD_DATA", str(data))
        patch.setattr(sys, "argv", ["snnkd", *map(str, words)])
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        patch.setattr("snnkd.stage.plot_curves", write_dot)
        with pytest.raises(SystemExit) as ended:
            main()
    return Outcome(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def start(*words: object, **options: Any) -> subprocess.Popen[str]:
    """The console command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "snnkd", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finish(process: subprocess.Popen[str]) -> Outcome:
    out, err = process.communicate(timeout=300)
    return Outcome(process.returncode, out, err)


RESULTS = Path(__file__).resolve().parents[1] / "recipes" / "results"
"""The stored results, beside the programs that make and render them."""


def results_script(name: str) -> ModuleType:
    """Import `recipes/results/NAME.py` by its path, such as "render" or "speed/measure"."""
    spec = importlib.util.spec_from_file_location(name.replace("/", "_"), RESULTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def forbid(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """Deny access to a file, or to what is in a folder, as the kernel does to all users but root."""
    place = place.absolute()

    def denying(call: Callable[..., Any], itself: bool) -> Callable[..., Any]:
        def denied(path: Any, *args: Any, **options: Any) -> Any:
            full = Path(path).absolute() if isinstance(path, (str, os.PathLike)) else Path()
            if place in full.parents or (itself and full == place):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return call(path, *args, **options)

        return denied

    monkeypatch.setattr(os, "stat", denying(os.stat, itself=False))
    for module, name in ((os, "scandir"), (os, "listdir"), (io, "open")):
        monkeypatch.setattr(module, name, denying(getattr(module, name), itself=True))


def random_npz(path: str, classes: int, size: int = 16, channels: tuple[int, ...] = ()) -> str:
    """An npz file of random images, which teach nothing; returns its `--data` name."""
    rng = np.random.default_rng(0)
    labels = np.arange(200) % classes
    images = rng.integers(0, 256, (200, size, size, *channels), dtype=np.uint8)
    np.savez(path, train_images=images, train_labels=labels, test_images=images[:50], test_labels=labels[:50])
    return f"npz:{path}"


def teach_and_distill(cli: Cli, *words: object) -> Path:
    """A small teacher and a small hta-kl student of it, trained once; returns the student's directory."""
    if words not in _students:
        assert cli("teach", *SMALL).code == 0
        done = cli("distill", *SMALL, "--T", 2, "--allow-weak-teacher", *words)
        assert done.code == 0, done.err
        kept = Path(tempfile.mkdtemp(prefix="snnkd-tests-"))
        atexit.register(shutil.rmtree, kept)
        _students[words] = (shutil.copytree("runs", kept / "runs"), done.folder)
        return done.folder
    kept, student = _students[words]
    shutil.copytree(kept, "runs")
    return student


_students: dict[tuple[object, ...], tuple[Path, Path]] = {}
"""What `teach_and_distill` trained in this process: for its words the kept runs folder and the student."""


@pytest.fixture(scope="session")
def forks() -> Iterator[Any]:
    """Console commands in children forked after the imports, with faults: see faults/forks.py."""
    from faults.forks import Forks

    made = Forks()
    yield made
    made.close()


@pytest.fixture(scope="session")
def torchrun(data_folder: Path) -> Iterator[Any]:
    """Console commands under torchrun, forked after the imports: see processes/jobs.py."""
    from processes.jobs import Jobs

    made = Jobs(data_folder)
    yield made
    made.close()


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Files that the tests of export formats share: see exports/students.py."""
    from exports.students import Exports

    return Exports(tmp_path_factory.mktemp("exports"))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A teacher and a student (T = 3) that have learned something: 10 glyph classes, trained once for all
    workers."""
    base = tmp_path_factory.getbasetemp()
    root = (base if "PYTEST_XDIST_WORKER" not in os.environ else base.parent) / "trained"
    with FileLock(f"{root}.lock"):
        if not (root / "runs.json").exists():
            (root / "runs.json").write_text(json.dumps(_train(root)))
    return {stage: Path(run) for stage, run in json.loads((root / "runs.json").read_text()).items()}


def _train(root: Path) -> dict[str, str]:
    root.mkdir()
    common = ["--set", "data.classes=10", "--set", "data.train_images=1000", "--set", "data.test_images=300"]
    common += ["--batch-size", "25", "--set", "model.width=8"]
    runs = {}
    for stage, words in (
        ("teach", ["--epochs", 4]),
        ("distill", ["--epochs", 3, "--T", 3, "--loss", "hta-kl", "--set", "train.init=teacher"]),
    ):
        ended = run_in(root, root / "data", stage, *common, *words)
        assert ended.code == 0, ended.err
        runs[stage] = str(root / ended.folder)
    return runs
