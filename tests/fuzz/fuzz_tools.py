"""What the fuzz tests share: commands in a limited process, the promise that all of them keep, and
mutations."""

from __future__ import annotations

import atexit
import contextlib
import copy
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from snnkd.console import LOG

MIB = 2**20
SPACE = 3 * 1024 * MIB
"""Address space that a command may take beyond what its imports hold."""
MOST_GROWTH = 160 * MIB
"""Resident memory that a command on a small damaged file may take beyond its imports."""
SECONDS = 30
"""After this a command hangs."""
LEAST_SHARE = 1 / 3
"""Of the inputs of a kind that the first parser (YAML, JSON, zip) must let pass."""

SMALL_DATA = "data={name: glyphs, size: 8, classes: 4, train_images: 48, test_images: 16, augment: []}"
SMALL = ["--device", "cpu", "--batch-size", "16", "--set", SMALL_DATA, "--set", "model.width=2"]
"""A run of a few steps."""


def examples(count: int) -> Any:
    """The settings of every test here: the same inputs each time, however slow, nothing stored."""
    return settings(
        max_examples=max(2, count * int(os.environ.get("FUZZ_TIMES", "1")) // 3),  # nightly: 3
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    words: tuple[str, ...]
    code: int
    out: str
    err: str
    growth: int

    @property
    def line(self) -> str:
        """The error line; empty when there is none."""
        return next((line for line in self.err.splitlines() if line.startswith("snnkd: ")), "")


class Server:
    """The process that commands run in; a new one after it was killed or grew."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="snnkd-fuzz-"))
        atexit.register(self.close)
        self._made, self._process = 0, self._start()

    def _start(self) -> subprocess.Popen[str]:
        environment = {**os.environ, "SNNKD_DATA": str(self.root / "data"), "OMP_NUM_THREADS": "1"}
        environment.pop("SNNKD_RUNS", None)
        words = [sys.executable, str(Path(__file__).with_name("fuzz_server.py")), str(SPACE)]
        return subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def folder(self) -> Path:
        """A new empty folder."""
        self._made += 1
        made = self.root / f"work{self._made}"
        made.mkdir()
        return made

    def call(self, cwd: Path, *words: object, seconds: int = SECONDS) -> Ended:
        """A command under `cwd`; its code is minus the signal when it was killed, minus 14 after
        `seconds`."""
        out, err = self.root / "out", self.root / "err"
        said = tuple(map(str, words))
        request = {"words": said, "cwd": str(cwd), "out": str(out), "err": str(err), "seconds": seconds}
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"code": self._process.wait(), "growth": 0}
        if not line or answer["growth"] > MOST_GROWTH:
            self._stop()
            self._process = self._start()
        read = [path.read_bytes().decode("utf-8", "surrogateescape") for path in (out, err)]
        return Ended(said, answer["code"], *read, answer["growth"])

    def _stop(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def close(self) -> None:
        self._stop()
        shutil.rmtree(self.root, ignore_errors=True)


@cache
def server() -> Server:
    return Server()


def snapshot(folder: Path, but: Collection[str] = ()) -> dict[str, str]:
    """Every file under `folder` with the digest of its bytes; a run's log grows."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (*but, LOG)
    }


KNOWN: list[str] = []
"""Patterns of defects that are known and not yet repaired: the random tests pass them over."""


def judge(ended: Ended, codes: Collection[int], known: Sequence[str]) -> None:
    """The promise: one of `codes`, one error line that comes last when it is not 0, no traceback, no memory
    to speak of."""
    shown = f"{ended.words}: exit {ended.code}, {ended.growth / MIB:.0f} MiB: {ended.err[-600:]}"
    if any(re.search(pattern, ended.err) for pattern in known):
        return
    assert ended.code in codes, shown
    assert "Traceback" not in ended.err, shown
    assert "Warning:" not in ended.err, shown
    assert ended.growth < MOST_GROWTH, shown
    lines = [line for line in ended.err.splitlines() if line.startswith("snnkd: ")]
    wants_line = ended.code not in (0, 75) and "status" not in ended.words
    assert len(lines) == (1 if wants_line or lines else 0), shown
    assert not lines or ended.err.rstrip().endswith(lines[0]), shown


def run(
    cwd: Path,
    *words: object,
    codes: Collection[int] = (0, 2, 3),
    changing: Collection[str] = (),
    known: Sequence[str] = KNOWN,
) -> Ended:
    """A command under `cwd` that keeps the promise; all files stay, but those named `changing`; a refused one
    leaves nothing new."""
    before = snapshot(cwd, changing)
    ended = server().call(cwd, *words)
    after = snapshot(cwd, changing)
    judge(ended, codes, known)
    kept = {name: digest for name, digest in after.items() if name in before}
    assert kept == before, (
        f"{ended}: lost or changed {[name for name in before if kept.get(name) != before[name]]}"
    )
    if ended.code in (2, 3):
        assert after == before, f"{ended}: left {after.keys() - before.keys()}"
    assert not (cwd / "sprung").exists(), f"{ended}: code ran"
    return ended


@dataclass
class Outcomes:
    """Inputs of one kind, and how many the first parser let pass."""

    kind: str
    parse: Callable[[bytes], object]
    inputs: int = 0
    passed: int = 0
    codes: dict[int, int] = field(default_factory=dict)

    def add(self, content: bytes, ended: Ended) -> None:
        self.inputs += 1
        self.codes[ended.code] = self.codes.get(ended.code, 0) + 1
        try:
            self.parse(content)
        except Exception:
            return
        self.passed += 1

    def close(self) -> None:
        """Print what was done; enough inputs must have come past the first parser, or the others were not
        tested."""
        print(
            f"fuzz: {self.kind}: {self.inputs} inputs, {self.passed} past the first parser, exit codes "
            f"{dict(sorted(self.codes.items()))}"
        )
        assert self.passed >= LEAST_SHARE * self.inputs > 0


# ---- mutations

NESTED: Any = "x"
for _ in range(15):
    NESTED = [NESTED]
VERY_NESTED: Any = 1
for _ in range(60):
    VERY_NESTED = {"a": VERY_NESTED}
ODD: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 2**31, 2**63, -(2**63), 2**64, 10**30, 10**400, 0.5, -0.5, 1e308, -1e308, 1e-320, 1e39,
    float("nan"), float("inf"), float("-inf"), "", " ", "x", "x" * 1900, "9" * 400, "nan", "inf", "1e5", "0x10", "on", "~", [], {}, [[]],
    [1], ["a", "b"], {"a": 1}, {"name": "x"}, {"": None}, [None], [{}], NESTED, VERY_NESTED, "\u202eevil", "a\nb", "\x00", "\x1b[31mred",
    "\ud800", "\x85", "\ufeff", "é" * 40, "trap_module:spring", "os:getcwd", "npz:none.npz", "cifar10", "resnet8", "../..", "/", "a/b",
    "none", "kl", "hta-kl", "custom", "*", "&a",
]  # fmt: skip
"""Values of other types, huge, deep, odd; between 100 and 2**31 there is none, where a recipe may ask for
hours of honest work."""
NAMES = [
    "",
    "x",
    "schema",
    "name",
    "stage",
    "T",
    "terms",
    "divergence",
    "penalty",
    "feature",
    "<<",
    "a.b",
    "\u202e",
    "\x00",
    "__class__",
    "run",
    "é",
]


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything inside nested dicts and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, held in items:
        found += [(*at, key), *places(held, (*at, key))]
    return found


def _parent(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        value = value[key]
    return value


@st.composite
def damaged(draw: Any, bases: list[Any], most: int = 3, extra: list[Any] | None = None) -> Any:
    """One of `bases` (plain mappings) with one to `most` values replaced, removed, renamed, moved, wrapped or
    added."""
    made = copy.deepcopy(draw(st.sampled_from(bases)))
    values = [*ODD, *(extra or []), *(extra or [])]
    for _ in range(draw(st.integers(1, most))):
        known = places(made)
        if not known:
            break
        path = draw(st.sampled_from(known))
        parent, last = _parent(made, path), path[-1]
        match draw(st.sampled_from(["odd", "odd", "odd", "remove", "rename", "add", "wrap", "copy", "near"])):
            case "odd":
                parent[last] = copy.deepcopy(draw(st.sampled_from(values)))
            case "remove":
                del parent[last]
            case "rename" if isinstance(parent, dict):
                parent[draw(st.sampled_from(NAMES))] = parent.pop(last)
            case "add" if isinstance(parent, dict):
                parent[draw(st.sampled_from(NAMES))] = copy.deepcopy(draw(st.sampled_from(values)))
            case "wrap":
                parent[last] = draw(st.sampled_from([[parent[last]], {"name": parent[last]}]))
            case "copy":
                other = draw(st.sampled_from(known))
                parent[last] = copy.deepcopy(_parent(made, other)[other[-1]])
            case "near" if isinstance(parent[last], (int, float)):
                parent[last] = draw(
                    st.sampled_from(
                        [
                            -parent[last],
                            parent[last] + 1,
                            parent[last] - 1,
                            str(parent[last]),
                            float(parent[last]),
                        ]
                    )
                )
    return made


@st.composite
def scratched(draw: Any, bases: list[bytes], tokens: list[bytes] = (), most: int = 3) -> bytes:  # type: ignore[assignment]
    """One of `bases` with one to `most` places flipped, overwritten, cut, doubled or truncated, or a token
    put in."""
    made = bytearray(draw(st.sampled_from(bases)))
    for _ in range(draw(st.integers(1, most))):
        at = draw(st.integers(0, len(made)))
        length = draw(st.sampled_from([1, 1, 2, 4, 8, 30]))
        match draw(
            st.sampled_from(
                ["flip", "set", "insert", "delete", "double", "truncate", *["token"] * (3 if tokens else 0)]
            )
        ):
            case "flip" if at < len(made):
                made[at] ^= 1 << draw(st.integers(0, 7))
            case "set":
                made[at : at + length] = bytes([draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))]) * length
            case "insert":
                made[at:at] = draw(st.binary(min_size=1, max_size=8))
            case "delete":
                del made[at : at + length]
            case "double":
                made[at:at] = made[at : at + 4 * length]
            case "truncate":
                del made[at:]
            case "token":
                made[at:at] = draw(st.sampled_from(list(tokens)))
    return bytes(made)


@st.composite
def respelled(draw: Any, bases: list[bytes], most: int = 3) -> bytes:
    """One of `bases` with digits and letters replaced by others: the same syntax with other words and
    numbers."""
    made = bytearray(draw(st.sampled_from(bases)))
    for _ in range(draw(st.integers(1, most))):
        at = draw(st.sampled_from([i for i, byte in enumerate(made) if chr(byte).isalnum()]))
        made[at] = ord(draw(st.sampled_from("0123456789" if chr(made[at]).isdigit() else "abXY_")))
    return bytes(made)


def put(folder: Path, files: dict[str, bytes]) -> Path:
    """Write `files`, by their relative names, under `folder`."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def take(folder: Path) -> dict[str, bytes]:
    """The files under `folder`, to be put elsewhere."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def reset(folder: Path, files: dict[str, bytes]) -> Path:
    """`folder` with just these files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return put(folder, files)


@cache
def made() -> dict[str, dict[str, bytes]]:
    """The files of small finished runs: a teacher `t`, its student `s`, the student's export `x`; `u` was interrupted, `v` lacks its result."""
    folder = server().folder()
    for words in (
        ["teach", *SMALL, "--epochs", 1, "--out", "t"],
        ["distill", *SMALL, "--epochs", 1, "--T", 2, "--out", "s", "--teacher", "t", "--allow-weak-teacher"],
        ["export", "s", "--out", "x"],
        ["teach", *SMALL, "--epochs", 2, "--out", "v", "--set", "execution.keep_state=true"],
    ):
        ended = server().call(folder, *words)
        assert ended.code == 0, ended
    assert server().call(folder, "teach", *SMALL, "--epochs", 2, "--out", "u", "--max-time", "0s").code == 75
    (folder / "v" / "result.json").unlink()
    return {name: take(folder / name) for name in "tsxuv"}


def under(name: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{name}/{path}": content for path, content in files.items()}
