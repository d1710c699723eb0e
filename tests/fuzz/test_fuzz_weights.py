"""model.safetensors of any kind, with and without a config.json whose checksum agrees with it."""

from __future__ import annotations

import hashlib
import json

import pytest
from fuzz_tools import Outcomes, damaged, examples, made, reset, respelled, run, scratched, server, under
from hypothesis import given
from hypothesis import strategies as st

DTYPES = [
    "F64",
    "F32",
    "F16",
    "BF16",
    "I64",
    "I32",
    "I16",
    "I8",
    "U8",
    "U64",
    "BOOL",
    "C64",
    "F8_E4M3",
    "F8_E5M2",
    "F8_E8M0",
    "F4",
    "F6_E2M3",
    "Q9",
    "",
    None,
]
HEADER_WORDS = [
    *DTYPES[2:],
    [0, 0],
    [0, 4],
    [4, 0],
    [-4, 4],
    [0, 2**63],
    [2**64 - 4, 2**64],
    [0, 8, 16],
    [1],
    [],
    [0],
    [2**40],
    [2**62, 4],
    [-1],
    ["2"],
    {},
]


def parts(content: bytes) -> tuple[dict, bytes]:
    """Header and data of a safetensors file."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header: object, data: bytes, length: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def with_weights(content: bytes, agree: bool) -> dict[str, bytes]:
    """The exported student with other weights, which its config.json may agree with."""
    files = dict(made()["x"])
    if agree:
        files["config.json"] = json.dumps(
            json.loads(files["config.json"]) | {"weights_sha256": hashlib.sha256(content).hexdigest()}
        ).encode()
    return under("x", files | {"model.safetensors": content})


def try_it(content: bytes, agree: bool, command: str) -> object:
    folder = reset(server().root / "weights", with_weights(content, agree))
    words = {"eval": ["eval", "x"], "export": ["export", "x", "--out", "copy"]}[command]
    ended = run(folder, *words)
    if not agree and content != made()["x"]["model.safetensors"]:
        assert ended.code == 3
        assert "damaged: its sha256 is" in ended.line
    return ended


COMMANDS = st.sampled_from(["eval", "eval", "export"])


def test_headers_of_the_wrong_shape():
    outcomes = Outcomes("safetensors headers of the wrong shape", parts)
    header, data = parts(made()["x"]["model.safetensors"])
    few = {name: header[name] for name in list(header)[:3]}

    @examples(24)
    @given(
        damaged([header, header, few], extra=HEADER_WORDS, most=2),
        COMMANDS,
        st.sampled_from([True] * 9 + [False]),
    )
    def each(other, command, agree):
        content = joined(other, data)
        outcomes.add(content, try_it(content, agree, command))

    each()
    outcomes.close()


def test_dtypes_of_the_right_size():
    """Every tensor in another type, with the bytes that it then has."""
    outcomes = Outcomes("safetensors of other types", parts)
    header, _ = parts(made()["x"]["model.safetensors"])
    bits = {
        "F64": 64,
        "F16": 16,
        "BF16": 16,
        "I64": 64,
        "I32": 32,
        "I16": 16,
        "U64": 64,
        "U32": 32,
        "U16": 16,
        "C64": 64,
        "F4": 4,
        "F6_E2M3": 6,
        "F6_E3M2": 6,
    }
    for dtype in [*bits, "I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0"]:
        at, other = 0, {}
        for name, entry in header.items():
            count = 1
            for size in entry["shape"]:
                count *= size
            size = -(-count * bits.get(dtype, 8) // 8)
            other[name] = {"dtype": dtype, "shape": entry["shape"], "data_offsets": [at, at + size]}
            at += size
        content = joined(other, bytes(at))
        outcomes.add(content, try_it(content, True, "export" if dtype[0] == "F" else "eval"))
    outcomes.close()


def test_damaged_bytes():
    outcomes = Outcomes("safetensors with damaged bytes", parts)
    whole = made()["x"]["model.safetensors"]
    header, data = parts(whole)
    short = joined(header, data[:100])
    bodies = scratched([data]).map(lambda body: joined(header, body)) | respelled([whole])

    @examples(26)
    @given(bodies | scratched([whole, short], [b'"', b"{", b"}", b"[", b"]", b",", b"\\ud800", b"-", b"1e9", b"99999999999999999999", b"null"]), COMMANDS,
           st.sampled_from([True] * 4 + [False]))  # fmt: skip
    def each(content, command, agree):
        outcomes.add(content, try_it(content, agree, command))

    each()
    outcomes.close()


@pytest.mark.parametrize(
    "length", [0, 1, 7, 2**16, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 100_000_000, 100_000_001]
)
def test_header_lengths(length):
    header, data = parts(made()["x"]["model.safetensors"])
    ended = try_it(joined(header, data, length), True, "eval")
    assert ended.code == 3
    assert "not a safetensors file" in ended.line


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b"{" * 10000,
        b'{"a":' * 5000,
        b'{"a":1}',
        b'{"__metadata__":{"a":1}}',
        b"\xff" * 50,
        b"[" * 99999,
    ],
)
def test_headers_that_are_no_header(text):
    ended = try_it(len(text).to_bytes(8, "little") + text, True, "eval")
    assert ended.code == 3


@pytest.mark.parametrize("content", [b"", b"\0", b"\x80\x04.", b"PK\x03\x04", b"\x93NUMPY", b"GGUF"])
def test_files_of_other_kinds(content):
    ended = try_it(content, True, "eval")
    assert ended.code == 3
    assert ("not a safetensors file" if content else "the file is empty") in ended.line


def test_the_student_itself_is_measured_and_exported():
    for command in ("eval", "export"):
        assert try_it(made()["x"]["model.safetensors"], False, command).code == 0
