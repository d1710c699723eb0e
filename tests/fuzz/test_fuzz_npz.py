"""npz files of any kind: read or refused, never unpickled, and within memory."""

from __future__ import annotations

import io
import os
import struct
import zipfile

import numpy as np
import pytest
from fuzz_tools import Outcomes, examples, reset, run, scratched, server
from hypothesis import given
from hypothesis import strategies as st

RNG = np.random.default_rng(0)
RECIPE = b"""schema: 1
stage: teach
data: "npz:d.npz"
model: {name: resnet8, width: 2}
train: {epochs: 1, batch_size: 2}
execution: {device: cpu}
"""


def arrays() -> dict[str, np.ndarray]:
    return {
        "train_images": RNG.integers(0, 256, (12, 8, 8), dtype=np.uint8),
        "train_labels": np.arange(12) % 3,
        "test_images": RNG.integers(0, 256, (6, 8, 8), dtype=np.uint8),
        "test_labels": np.arange(6) % 3,
    }


def npz(compressed: bool = False, **changes: object) -> bytes:
    buffer = io.BytesIO()
    content = {key: value for key, value in {**arrays(), **changes}.items() if value is not None}
    (np.savez_compressed if compressed else np.savez)(buffer, **content)
    return buffer.getvalue()


def npy(header: bytes, data: bytes, version: tuple[int, int] = (1, 0), length: int | None = None) -> bytes:
    """One array as numpy stores it, with any header."""
    size = len(header) if length is None else length
    return (
        b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version == (1, 0) else "<I", size) + header + data
    )


def with_member(content: bytes, key: str = "train_images", how: int = zipfile.ZIP_STORED) -> bytes:
    """A good npz file with one member of any bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(npz())) as old, zipfile.ZipFile(buffer, "w", how) as new:
        for name in old.namelist():
            new.writestr(name, content if name == f"{key}.npy" else old.read(name))
    return buffer.getvalue()


def header(descr: str = "'|u1'", order: str = "False", shape: str = "(12, 8, 8)") -> bytes:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}".encode() + b" " * 20 + b"\n"


def read(content: bytes, *words: object) -> object:
    folder = reset(server().root / "npz", {"d.npz": content, "r.yaml": RECIPE})
    return run(folder, *(words or ("check", "r.yaml")))


def opened(content: bytes) -> None:
    assert zipfile.ZipFile(io.BytesIO(content)).namelist()


def test_damaged_bytes():
    outcomes = Outcomes("npz with damaged bytes", opened)
    tokens = [
        b"PK\x01\x02",
        b"PK\x03\x04",
        b"PK\x05\x06",
        b"\x93NUMPY",
        b"'",
        b"(",
        b")",
        b"|O",
        b"-1",
        b"9" * 20,
    ]

    @examples(30)
    @given(scratched([npz(), npz(True)], tokens, most=1))
    def each(content):
        outcomes.add(content, read(content))

    each()
    outcomes.close()
    assert outcomes.codes[0] > 5


def test_damaged_npy_members():
    """The zip file is whole, its checksums right: what is damaged is the array's own header."""
    outcomes = Outcomes("npz with damaged .npy headers", opened)
    with zipfile.ZipFile(io.BytesIO(npz())) as file:
        whole = {key: file.read(f"{key}.npy") for key in arrays()}
    tokens = [
        b"'",
        b'"',
        b"(",
        b")",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"-",
        b"9" * 20,
        b"1e9",
        b"|O",
        b"None",
        b"True",
        b"#",
        b"\\",
        b"\n",
        b"\0",
        b"\xff",
        b"lambda:0",
    ]

    @examples(30)
    @given(st.sampled_from(list(whole)), st.data())
    def each(key, data):
        member = data.draw(scratched([whole[key][:128]], tokens, most=1)) + whole[key][128:]
        content = with_member(member, key)
        outcomes.add(content, read(content))

    each()
    outcomes.close()


SHAPES = [
    "()",
    "(12,)",
    "(12, 64)",
    "(12, 8, 8, 3)",
    "(12, 8, 8, 1)",
    "(-12, 8, 8)",
    "(12, -8, -8)",
    "(0, 8, 8)",
    "(12, 0, 8)",
    "(1, 768, 1)",
    "(768, 1, 1)",
    "(13, 8, 8)",
    "(12.0, 8, 8)",
    "[12, 8, 8]",
    "'x'",
    "None",
    "(True, 8, 8)",
    "12",
    "(1, 1, 768)",
]
DESCRS = [
    "'|O'",
    "'O'",
    "'<f4'",
    "'<u2'",
    "'>u8'",
    "'|S64'",
    "'<U16'",
    "'|V64'",
    "'<M8[s]'",
    "'|b1'",
    "'<c8'",
    "[('a', '|u1')]",
    "[('a', '|u1', (8, 8))]",
    "[('a', '|O')]",
    "('|u1', (8, 8))",
    "''",
    "'x'",
    "None",
    "1",
    "[]",
    "{}",
    "'|u1,|u1'",
    "'i' * 5",
    "__import__('os').mkdir('sprung')",
    "'<U999999999'",
]
HEADERS = (
    [header(shape=shape) for shape in SHAPES]
    + [header(descr) for descr in DESCRS]
    + [header(order=order) for order in ("True", "1", "None", "'x'")]
)
HEADERS += [
    b"",
    b"\n",
    b"{}",
    b"None",
    b"[" * 9000,
    b"(" * 200,
    b"{'descr': '|u1'}",
    b"__import__('os').mkdir('sprung')",
    b"\xff" * 64,
    b"\0" * 64,
    b" " * 9000,
]


def test_npy_headers():
    outcomes = Outcomes("npz with other .npy headers", opened)
    data = bytes(12 * 8 * 8)
    for each in HEADERS:
        content = with_member(npy(each, data), "train_images")
        outcomes.add(content, read(content))
    for version in ((1, 0), (2, 0), (3, 0), (9, 9)):
        for length in (None, 0, 1, 2**15, 2**16 - 1):
            content = with_member(npy(header(), data, version, length))
            outcomes.add(content, read(content))
    outcomes.close()


RULES = {
    "object": {"train_images": np.array([None] * 12, object)},
    "floats": {"train_images": np.zeros((12, 8, 8))},
    "labels-out-of-range": {"test_labels": np.full(6, 9)},
    "labels-negative": {"train_labels": np.arange(12) - 5},
    "labels-huge": {"train_labels": np.arange(12) * 2**59},
    "labels-unsigned": {"train_labels": np.full(12, 2**64 - 1, np.uint64)},
    "labels-text": {"train_labels": np.array(["a"] * 12)},
    "labels-short": {"train_labels": np.arange(11) % 3},
    "labels-scalar": {"train_labels": np.array(3)},
    "labels-none": {"train_labels": np.zeros(0, int), "train_images": np.zeros((0, 8, 8), np.uint8)},
    "test-other-size": {"test_images": np.zeros((6, 8, 9), np.uint8)},
    "thin": {"train_images": np.zeros((12, 1, 10**5), np.uint8)},
    "structured": {"train_images": np.zeros((12, 8, 8), [("a", "u1")])},
    "no-test": {"test_images": None, "test_labels": None},
}


@pytest.mark.parametrize("name", RULES)
def test_arrays_that_break_a_rule(name):
    for words in (("check", "r.yaml"), ("teach", "r.yaml"), ("teach", "--data", "npz:d.npz", "--epochs", 0)):
        ended = read(npz(**RULES[name]), *words)
        assert ended.code in (2, 3) or words[0] == "check"
        assert "d.npz" in ended.err or "epochs" in ended.err


class Trap:
    """Unpickling this makes a folder."""

    def __reduce__(self):
        return os.mkdir, ("sprung",)


@pytest.mark.parametrize("key", ["train_images", "test_labels", "val_images", "about"])
def test_pickles_do_not_run(key):
    trap = {key: np.array([Trap()] * 12, object)}
    for words in (("check", "r.yaml"), ("teach", "--data", "npz:d.npz", "--epochs", 0)):
        read(npz(**trap), *words)
    assert read(np.array([Trap()], object).dumps()).code == 0, "check says that the data are not here"


def test_claims_without_bytes():
    """Headers that promise gigabytes which the file does not hold."""
    for shape in ("(1048576, 64, 64)", "(100000, 100, 100)"):
        for how in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            for key in ("train_images", "train_labels"):
                read(
                    with_member(
                        npy(header(shape=shape if key == "train_images" else "(500000000,)"), bytes(1000)),
                        key,
                        how,
                    )
                )


def test_zip_sizes_that_lie():
    """The directory of the zip file claims 4 GiB for each member, or none, or another method."""
    for at, values in (
        (20, [0, 1, 2**31, 2**32 - 2]),
        (24, [0, 1, 2**31, 2**32 - 2]),
        (42, [0, 2**31, 2**32 - 2]),
        (10, [1, 8, 9, 12, 93, 99]),
        (8, [1, 64]),
    ):
        for value in values:
            content = bytearray(npz())
            place = content.find(b"PK\x01\x02") + at
            size = 2 if at < 16 else 4
            content[place : place + size] = value.to_bytes(size, "little")
            read(bytes(content))


def test_the_data_themselves_are_read():
    ended = read(npz(), "teach", "r.yaml")
    assert ended.code == 0, ended.err
