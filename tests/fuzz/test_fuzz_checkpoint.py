"""last.pt and previous.pt of any kind: a run continues from a whole one, or is refused with both as they
were."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import zipfile

import pytest
import torch
from fuzz_tools import SMALL, Outcomes, examples, made, reset, run, scratched, server, under
from hypothesis import given
from hypothesis import strategies as st

from snnkd.console import LOG

WORDS = ["teach", *SMALL, "--epochs", 2, "--out", "v"]
MAGIC = b"snnkd checkpoint 1 "


def sealed(payload: bytes) -> bytes:
    """With a checksum that is right."""
    return MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload


def payload(content: bytes) -> bytes:
    return content.partition(b"\n")[2]


def opened(content: bytes) -> None:
    """The first parser: the head is there, and a zip file behind it."""
    assert content.startswith(MAGIC)
    zipfile.ZipFile(io.BytesIO(payload(content))).namelist()


def continued(last: bytes | None, previous: bytes | None) -> object:
    """Continue the run with these checkpoints; refused, all of it stays as it was."""
    files = {name: held for name, held in made()["v"].items() if not name.endswith(".pt")}
    files |= {name: held for name, held in (("last.pt", last), ("previous.pt", previous)) if held is not None}
    folder = reset(server().root / "checkpoint", under("v", files))
    refused = run(
        folder,
        *WORDS,
        changing=[
            "run.lock",
            "last.pt",
            "previous.pt",
            "metrics.jsonl",
            "config.json",
            "model.safetensors",
            "plot.png",
        ],
    )
    if refused.code:
        same = {name: held for name, held in files.items() if name not in ("run.lock", LOG)}
        assert {name: (folder / "v" / name).read_bytes() for name in same} == same, refused
    else:
        assert (folder / "v/result.json").exists()
    return refused


@st.composite
def checkpoints(draw):
    """A damaged checkpoint, and whether its checksum was made to agree."""
    whole = made()["v"]["last.pt"]
    if draw(st.booleans()):
        return sealed(
            draw(
                scratched(
                    [payload(whole)], [b"os\nsystem\n", b"PK\x03\x04", b"\x80\x02", b"c", b"R", b"."], most=2
                )
            )
        )
    return draw(scratched([whole], [MAGIC, b"\n", b"\xff" * 64], most=2))


def test_damaged_bytes():
    outcomes = Outcomes("checkpoints with damaged bytes", opened)

    @examples(14)
    @given(checkpoints(), st.booleans())
    def each(content, second):
        outcomes.add(content, continued(content, content if second else made()["v"]["previous.pt"]))

    each()
    outcomes.close()
    assert outcomes.codes[0] > 0
    assert outcomes.codes[3] > 0


class Trap:
    """Unpickling this makes a folder."""

    def __reduce__(self):
        return os.mkdir, ("sprung",)


def stored(value: object, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def with_pickle(pickled: bytes) -> bytes:
    """A checkpoint's zip file with another pickle in it."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(payload(made()["v"]["last.pt"]))) as old,
        zipfile.ZipFile(buffer, "w") as new,
    ):
        for info in old.infolist():
            new.writestr(info.filename, pickled if info.filename.endswith("data.pkl") else old.read(info))
    return buffer.getvalue()


GLOBALS = [
    b"os\nsystem",
    b"posix\nsystem",
    b"builtins\neval",
    b"builtins\nexec",
    b"subprocess\nPopen",
    b"torch\nload",
    b"numpy\nload",
    b"trap_module\nspring",
]
PICKLES = {
    **{
        f"call-{name.decode()}": b"\x80\x02c" + name + b"\nX\x0c\x00\x00\x00mkdir sprung\x85R."
        for name in GLOBALS
    },
    "trap": pickle.dumps(Trap()),
    "trap-in-state": pickle.dumps({"network": Trap()}),
    "deep": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "memo": b"\x80\x02]q\x00" + b"h\x00a" * 10 + b".",
    "empty": b"",
    "stop": b".",
    "none": b"N.",
    "list": b"].",
    "string": b"X\x01\x00\x00\x00x.",
    "long": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "unicode-length": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "persistent": b"\x80\x02U\x01xQ.",
}


@pytest.mark.parametrize("name", PICKLES)
def test_pickles_that_are_no_state(name):
    for content in (sealed(with_pickle(PICKLES[name])), sealed(PICKLES[name]), PICKLES[name]):
        refused = continued(content, content)
        assert refused.code == 3, refused
        assert "no usable checkpoint is left" in refused.line


def test_a_pickle_of_the_old_format_does_not_run():
    for value in (Trap(), {"network": Trap()}):
        content = sealed(stored(value, legacy=True))
        assert continued(content, content).code == 3


def test_the_trap_would_spring():
    folder = server().folder()
    here = os.getcwd()
    os.chdir(folder)
    try:
        pickle.loads(pickle.dumps(Trap()))
    finally:
        os.chdir(here)
    assert (folder / "sprung").exists()


def test_whole_and_swapped_ones_continue():
    last, previous = made()["v"]["last.pt"], made()["v"]["previous.pt"]
    for pair in ((last, previous), (previous, last), (last, None), (None, previous), (previous, None)):
        assert continued(*pair).code == 0
        assert (server().root / "checkpoint/v/model.safetensors").read_bytes() == made()["v"][
            "model.safetensors"
        ]


@pytest.mark.parametrize("share", [0, 0.01, 0.1, 0.5, 0.9])
def test_truncated(share):
    whole = made()["v"]["last.pt"]
    for content in (whole[: int(share * len(whole))], sealed(payload(whole)[: int(share * len(whole))])):
        assert continued(content, content).code == 3
        assert continued(content, made()["v"]["previous.pt"]).code == 0
