"""Standard output and error that are closed, full, without a reader or not in UTF-8; and the run's own log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SMALL, Cli

import snnkd
from snnkd import console
from snnkd.console import LOG, Console
from snnkd.errors import FileError
from snnkd.files import guarding

WORK = """
from snnkd.console import Console
from snnkd.streams import prepare_streams
prepare_streams()
console = Console()
with console.bar("training", 3) as bar:
    for step in range(3):
        console.log(f"step {step} " + "x" * 5000)
        bar.advance()
print("done", flush=True)
"""
TEACH = ["-m", "snnkd", "teach", *SMALL, "--out", "run"]


def _bash(script: str, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Run a script of bash with "$@" as this Python and `words`."""
    command = ["bash", "-c", f"set -o pipefail; {script}", "bash", sys.executable, *words]
    return subprocess.run(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=False)


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", "2> >(exec true)", "2>/dev/full 0<&-"])
def test_work_goes_on_when_stderr_takes_nothing(redirection: str) -> None:
    done = _bash(f'"$@" {redirection}', "-c", WORK)
    assert (done.returncode, done.stdout) == (0, b"done\n")


@pytest.mark.nightly  # by default the streams alone, above and below
@pytest.mark.parametrize(
    ("script", "code"),
    [
        ('"$@" 2>/dev/full', 0),
        ('"$@" 2>&1 | head -1', 0),
        ('"$@" 2>&-', 0),
        ('"$@" >/dev/full', 4),
        ('"$@" >&-', 3),
        ("FORCE_COLOR=1 \"$@\" 2>err; code=$?; ! grep -q $'\\e' err && exit $code", 0),
    ],
)
def test_a_run_is_finished_whatever_takes_its_messages(script: str, code: int) -> None:
    done = _bash(script, *TEACH)
    assert done.returncode == code
    assert Path("run/result.json").exists()
    assert "epoch 2/2" in Path("run", LOG).read_text()


@pytest.mark.parametrize(
    ("redirection", "code", "message"),
    [
        (">/dev/full", 4, "snnkd: standard output: the disk is full"),
        (">&-", 3, "snnkd: standard output: bad file descriptor"),
        ("| true", 0, ""),
    ],
)
def test_stdout_that_takes_nothing_is_an_error(redirection: str, code: int, message: str) -> None:
    done = _bash(f'"$@" 2>err {redirection}', "-m", "snnkd", "list", "surrogates")
    assert done.returncode == code
    lines = Path("err").read_text().splitlines()
    assert [line.startswith(message) for line in lines] == ([True] if message else [])


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_characters_that_an_encoding_lacks(encoding: str) -> None:
    program = (
        "import os\nfrom snnkd.streams import prepare_streams\nfrom snnkd.cli.options import echo, echo_json\n"
        "prepare_streams()\necho('1.8 µJ ± 0.1, ─ α 語')\necho(os.fsdecode(b'run-\\xff'))\n"
        "echo_json({'µ': '語'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=True,
    )
    line, name, *values = done.stdout.splitlines()
    expected = {
        "ascii": b"1.8 uJ +- 0.1, - alpha \\u8a9e",
        "latin-1": "1.8 µJ ± 0.1, - alpha \\u8a9e".encode("latin-1"),
        "utf-8": "1.8 µJ ± 0.1, ─ α 語".encode(),
    }
    assert line == expected[encoding]
    assert name == b"run-\xff"
    assert json.loads(b"\n".join(values).decode(encoding)) == {"µ": "語"}


def test_a_run_keeps_its_log(cli: Cli) -> None:
    stopped = cli("teach", *SMALL, "--out", "run", "--max-time", "0s")
    assert stopped.code == 75
    assert cli("teach", *SMALL, "--out", "run").code == 0
    lines = Path("run", LOG).read_text().splitlines()
    assert [line[4] + line[7] + line[13] for line in lines] == ["--:"] * len(lines)
    messages = [line[20:] for line in lines]
    assert messages[0] == "run: run"
    assert messages[1].startswith("device: ")
    assert messages[2].startswith("Preempted: stopped by --max-time (0 s) in epoch 1 of 2")
    assert any(message.startswith("continuing in epoch 1 of 2") for message in messages)
    assert messages[-2].startswith("epoch 2/2  loss ")


def test_a_log_is_rotated_and_never_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "MAX_LOG_BYTES", 100)
    quiet = Console(quiet=True)
    with quiet.log_into(tmp_path):
        for number in range(7):
            quiet.log(f"line {number} of twenty-nine")
    texts = [(tmp_path / name).read_text() for name in (f"{LOG}.1", LOG)]
    assert [text.count("\n") for text in texts] == [3, 1]
    with quiet.log_into(tmp_path / "absent"):
        quiet.log("lost")
    quiet.log("no log")

    def taken() -> None:
        raise FileError("taken by another process")

    with quiet.log_into(tmp_path), guarding(tmp_path.absolute(), taken):
        quiet.log("into another's log")
    assert texts == [(tmp_path / name).read_text() for name in (f"{LOG}.1", LOG)]


def test_all_messages_go_through_the_stream_that_never_fails() -> None:
    """A plain print to sys.stderr would end a command whose log's reader is gone."""
    package = Path(snnkd.__file__).parent
    using = {path.name for path in package.rglob("*.py") if "sys.stderr" in path.read_text(encoding="utf-8")}
    assert using == {"streams.py"}
