"""SIGTERM, SIGUSR1 and SIGINT while preparing, training, saving, measuring and exporting; once, and twice in
a row."""

from __future__ import annotations

import mmap
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from faults.forks import Forks, alive, send

PHASES = ("preparing", "training", "saving", "measuring")
TEACH = ["teach", "--set", "data.classes=10", "--set", "data.train_images=300", "--set", "data.test_images=3000", "--epochs", "6",
         "--batch-size", "50", "--set", "model.width=4", "--set", "execution.eval_batch_size=50", "--out", "run"]  # fmt: skip
SIGNALS = {"SIGTERM": 75, "SIGUSR1": 75, "SIGINT": -signal.SIGINT}


@pytest.fixture(scope="module")
def expected(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of the run, left alone."""
    folder = tmp_path_factory.mktemp("whole")
    assert forks.run(folder, TEACH) == 0, (folder / "err").read_text()
    return (folder / "run/model.safetensors").read_bytes()


def _signalled(
    forks: Forks, folder: Path, words: list[str], phase: str, numbers: list[signal.Signals], times: int = 1
) -> int:
    """Run the command, send the signals when it comes to `phase` (for that time); its exit status.

    On a busy machine a phase may pass unseen, and the command be done before the signal: then all over again.
    """
    made = folder / words[words.index("--out") + 1]
    for _attempt in range(8):
        status = _try_once(forks, folder, words, phase, numbers, times)
        if status != 0:
            return status
        shutil.rmtree(made)
        if phase == "preparing":
            shutil.rmtree(folder / "data")
    pytest.fail(f"{phase} was never seen")


def _try_once(
    forks: Forks, folder: Path, words: list[str], phase: str, numbers: list[signal.Signals], times: int
) -> int:
    folder.mkdir(exist_ok=True)
    (folder / "phase").write_bytes(b"\0")
    with (folder / "phase").open("r+b") as file, mmap.mmap(file.fileno(), 1) as shown:
        pid = forks.start(folder, words, phase=str(folder / "phase"))
        if phase == "preparing":
            _wait(pid, lambda: (folder / "err").exists() and "drawing" in (folder / "err").read_text())
        for i in range(times if phase != "preparing" else 0):
            _wait(pid, lambda i=i: i == 0 or PHASES[shown[0]] != phase)  # type: ignore[misc]
            _wait(pid, lambda: PHASES[shown[0]] == phase)
        if len(numbers) > 1:  # both are to be there before the first is acted upon
            send(pid, signal.SIGSTOP)
        for number in numbers:
            send(pid, number)
        if len(numbers) > 1:
            send(pid, signal.SIGCONT)
        return forks.wait()


def _wait(pid: int, come: Callable[[], bool]) -> None:
    """Until it has come, or the child has ended."""
    while not come() and alive(pid):
        time.sleep(0.0005)


DEFAULT = {("SIGTERM", "preparing"), ("SIGUSR1", "training"), ("SIGINT", "saving"), ("SIGTERM", "measuring")}


@pytest.mark.parametrize(
    ("name", "phase"),
    [
        pytest.param(name, phase, marks=[] if (name, phase) in DEFAULT else pytest.mark.nightly)
        for name in SIGNALS
        for phase in PHASES
    ],
)
def test_it_ends_in_good_order_and_continues(
    forks: Forks, tmp_path: Path, expected: bytes, phase: str, name: str
) -> None:
    status = _signalled(
        forks, tmp_path / "here", TEACH, phase, [signal.Signals[name]], times=2 if phase == "saving" else 1
    )
    said = (tmp_path / "here/err").read_text()
    assert status == SIGNALS[name], said
    complaints = [line for line in said.splitlines() if line.startswith("snnkd: ")]
    assert len(complaints) == 1, said
    assert f"stopped by {name}" in complaints[0]
    assert "the same command continues" in complaints[0]
    assert not (tmp_path / "here/run/result.json").exists()
    assert forks.run(tmp_path / "here", TEACH) == 0
    assert (tmp_path / "here/run/model.safetensors").read_bytes() == expected


@pytest.mark.parametrize(
    "phase", ["training", *(pytest.param(p, marks=pytest.mark.nightly) for p in PHASES if p != "training")]
)
def test_a_second_one_ends_it_at_once_and_it_continues(
    forks: Forks, tmp_path: Path, expected: bytes, phase: str
) -> None:
    status = _signalled(forks, tmp_path / "here", TEACH, phase, [signal.SIGTERM, signal.SIGUSR1])
    assert status in (-signal.SIGTERM, -signal.SIGUSR1)
    assert forks.run(tmp_path / "here", TEACH) == 0
    assert (tmp_path / "here/run/model.safetensors").read_bytes() == expected


@pytest.mark.parametrize(
    "name", ["SIGTERM", *(pytest.param(name, marks=pytest.mark.nightly) for name in ("SIGUSR1", "SIGINT"))]
)
def test_an_export_that_is_signalled_writes_nothing(forks: Forks, tmp_path: Path, name: str) -> None:
    """The signal comes while the draft's weights are written; what stands at the target is whole or not
    there."""
    here = tmp_path / "here"
    assert forks.run(here, [*TEACH, "--epochs", "1"]) == 0
    status = _signalled(forks, here, ["export", "run", "--out", "exported"], "saving", [signal.Signals[name]])
    assert status == SIGNALS[name], (here / "err").read_text()
    assert sorted(path.name for path in here.iterdir() if not path.name.startswith(".")) == [
        "data",
        "err",
        "out",
        "phase",
        "run",
    ]
    assert not list(here.glob(".exported*")), "the draft is gone"
    assert forks.run(here, ["export", "run", "--out", "exported"]) == 0
