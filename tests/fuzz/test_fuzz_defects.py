"""Inputs that break the promise today, the smallest of each kind. A repaired one passes, and then fails here
until its mark goes.
"""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
import torch
from fuzz_tools import MIB, SMALL, made, reset, run, server, under
from test_fuzz_checkpoint import WORDS, payload, sealed, stored, with_pickle
from test_fuzz_npz import RECIPE, arrays, header, npy, with_member
from test_fuzz_weights import joined, parts, with_weights

RECIPE_TEXT = """schema: 1
stage: distill
loss: none
data: {name: glyphs, size: 8, classes: 4, train_images: 48, test_images: 16}
model: {name: resnet8, width: 2, T: 2}
train: {epochs: 1, batch_size: 16}
"""
EVAL, AS_JSON, EXPORT, PLOT = (
    ["eval", "x"],
    ["eval", "x", "--json"],
    ["export", "x", "--out", "copy"],
    ["eval", "x", "--plot", "p.svg"],
)
CONTINUE = ["teach", *SMALL, "--epochs", 2, "--out", "runs/u"]
ALL_CODES = (0, 2, 3, 4, 75)


def keeps(
    files: dict[str, bytes],
    *words: object,
    codes: tuple[int, ...] = (0, 2, 3),
    changing: tuple[str, ...] = (),
) -> None:
    run(reset(server().root / "defect", files), *words, codes=codes, changing=changing, known=())


def cases(values: dict[str, tuple]) -> object:
    return pytest.mark.parametrize(("content", "words"), list(values.values()), ids=list(values))


@cases(
    {
        "code-point-beyond-unicode": ('seed: "\\UFFFFFFFF"', []),
        "lone-surrogate-as-json": ('teacher: {run: "\\ud800"}', ["--json"]),
    }
)
def test_recipes(content, words):
    keeps({"r.yaml": RECIPE_TEXT.encode() + content.encode()}, "check", "r.yaml", *words)


@cases({"code-point-beyond-unicode": ("", ["--set", 'seed="\\UFFFFFFFF"'])})
def test_settings(content, words):
    keeps({"r.yaml": RECIPE_TEXT.encode()}, "check", "r.yaml", *words)


@cases(
    {
        "nan-as-json": ({"seed": float("nan")}, AS_JSON),
        "nan-exported": ({"seed": float("nan")}, EXPORT),
        "surrogate-as-json": ({"seed": "\ud800"}, AS_JSON),
        "surrogate-exported": ({"seed": "\ud800"}, EXPORT),
        "teacher-is-text": ({"teacher": "x"}, EVAL),
        "teacher-without-top1": ({"teacher": {"a": 1}}, EVAL),
        "teacher-without-energy": ({"teacher": {"top1": 1.0}}, EVAL),
        "teacher-top1-is-text": ({"teacher": {"top1": "x", "energy_mj": 1}}, EVAL),
        "teacher-top1-is-huge": ({"teacher": {"top1": 10**400, "energy_mj": 1}}, EVAL),
        "loss-is-text-drawn": ({"loss": "x"}, PLOT),
        "loss-without-name-drawn": ({"loss": {"a": 1}}, PLOT),
        "selection-is-null-drawn": ({"selection": None}, PLOT),
        "selection-without-rule-drawn": ({"selection": {}}, PLOT),
        "teacher-without-sha256-drawn": ({"teacher": {"top1": 1.0, "energy_mj": 1}}, PLOT),
        "teacher-sha256-is-a-list-drawn": ({"teacher": {"top1": 1.0, "energy_mj": 1, "sha256": []}}, PLOT),
    }
)
def test_configs(content, words):
    config = json.loads(made()["x"]["config.json"]) | content
    keeps(under("x", made()["x"] | {"config.json": json.dumps(config).encode()}), *words)


def weights(pattern: bytes, dtype: str = "F32") -> bytes:
    head, data = parts(made()["x"]["model.safetensors"])
    if dtype == "F32":
        return joined(head, (pattern * len(data))[: len(data)])
    at, other = 0, {}
    for name, entry in head.items():
        size = 8 * int(np.prod(entry["shape"]))
        other[name] = {"dtype": dtype, "shape": entry["shape"], "data_offsets": [at, at + size]}
        at += size
    return joined(other, bytes(at))


@cases(
    {
        "complex-weights-warn": ((b"", "C64"), EVAL),
        "nan-weights-are-failed-work": ((b"\xff\xff\xff\x7f",), EVAL),
        "nan-weights-exported-differ": ((b"\xff\xff\xff\x7f",), EXPORT),
    }
)
def test_weights(content, words):
    keeps(with_weights(weights(*content), True), *words)


@cases(
    {
        "top1-is-huge": ({"curve": [{"t": 1, "top1": 10**400}]}, ["status", "runs"]),
        "top1-is-huge-eval": ({"curve": [{"t": 1, "top1": 10**400}]}, ["eval"]),
        "t-is-a-surrogate": ({"curve": [{"t": "\ud800", "top1": 5.0}]}, ["status", "runs"]),
        "nan-as-json": (
            {"seed": float("nan")},
            ["teach", *SMALL, "--epochs", 1, "--out", "runs/t", "--json"],
        ),
    }
)
def test_results(content, words):
    name = "t" if words[0] == "teach" else "s"
    result = json.loads(made()[name]["result.json"]) | content
    files = under(f"runs/{name}", made()[name] | {"result.json": json.dumps(result).encode()})
    keeps(files, *words, codes=ALL_CODES, changing=("run.lock",))


def needs(**changes: object) -> dict[str, object]:
    return {"needs": json.loads(made()["u"]["run.json"])["needs"] | changes}


@cases(
    {
        "threads-are-text": (lambda: needs(threads="x"), CONTINUE),
        "threads-are-null": (lambda: needs(threads=None), CONTINUE),
        "threads-are-negative": (lambda: needs(threads=-1), CONTINUE),
        "threads-are-huge": (lambda: needs(threads=10**30), CONTINUE),
        "no-threads": (
            lambda: {"needs": {k: v for k, v in needs()["needs"].items() if k != "threads"}},
            CONTINUE,
        ),
        "data-sha256-is-a-number": (
            lambda: {
                "identity": (i := json.loads(made()["u"]["run.json"])["identity"])
                | {"data": i["data"] | {"sha256": 5}}
            },
            CONTINUE[:-2],
        ),
    }
)
def test_run_json(content, words):
    about = json.loads(made()["u"]["run.json"]) | content()
    before = made()["u"] | {"run.json": json.dumps(about).encode()}
    keeps(under("runs/u", before), *words, changing=("run.lock", "last.pt", "metrics.jsonl"))


@cases(
    {
        "deep": (b"[" * 100_000, ["status", "runs"]),
        "deep-continued": (b"[" * 100_000, CONTINUE),
        "surrogate": (b'{"state": "failed", "why": "\\ud800"}', ["status", "runs"]),
    }
)
def test_run_lock(content, words):
    keeps(
        under("runs/u", made()["u"] | {"run.lock": content}),
        *words,
        codes=ALL_CODES,
        changing=("run.lock", "last.pt", "metrics.jsonl"),
    )


CHANGING = (
    "run.lock", "last.pt", "previous.pt", "metrics.jsonl", "config.json", "model.safetensors", "plot.png",
)  # fmt: skip


@cases(
    {
        "deep": (b"[" * 100_000, WORDS),
        "epoch-is-text": (b'{"epoch": "x"}\n', WORDS),
        "epoch-is-null": (b'{"epoch": null}\n', WORDS),
    }
)
def test_metrics(content, words):
    keeps(under("v", made()["v"] | {"metrics.jsonl": content}), *words, changing=CHANGING)


def checkpoint(**changes: object) -> bytes:
    state = torch.load(io.BytesIO(payload(made()["v"]["previous.pt"])), weights_only=True)
    for key, value in changes.items():
        state[key] = {**state[key], **value} if key == "progress" and isinstance(value, dict) else value
    return sealed(stored(state))


def bomb() -> bytes:
    """200 MB of zeros, packed, where a tensor's bytes are."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(stored({"a": torch.zeros(10)}))) as old,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for info in old.infolist():
            new.writestr(
                info.filename, bytes(200 * MIB) if info.filename.endswith("data/0") else old.read(info)
            )
    return sealed(buffer.getvalue())


@cases(
    {
        "no-keys": (lambda: sealed(stored({})), WORDS),
        "network-is-a-list": (lambda: checkpoint(network=[]), WORDS),
        "network-of-another-run": (lambda: checkpoint(network={"mean": torch.zeros(3)}), WORDS),
        "position-is-a-list": (lambda: checkpoint(progress=[1]), WORDS),
        "position-with-another-key": (lambda: checkpoint(progress={"x": 1}), WORDS),
        "epoch-negative": (lambda: checkpoint(progress={"epoch": -1}), WORDS),
        "step-beyond-the-epoch": (lambda: checkpoint(progress={"step": 99}), WORDS),
        "step-negative": (lambda: checkpoint(progress={"step": -1}), WORDS),
        "seconds-nan": (lambda: checkpoint(progress={"seconds": float("nan")}), WORDS),
        "best-of-another-run": (lambda: checkpoint(progress={"best": {"a": 1}}), WORDS),
        "outcomes-empty": (lambda: checkpoint(outcomes={}), WORDS),
        "optimizer-empty": (lambda: checkpoint(optimizer={}), WORDS),
        "objective-of-another-run": (lambda: checkpoint(objective={"x": torch.zeros(1)}), WORDS),
        "pickle-takes-200-MB": (
            lambda: sealed(
                with_pickle(
                    b"\x80\x02cbuiltins\nbytearray\n\x8a\x04" + (200 * MIB).to_bytes(4, "little") + b"\x85R."
                )
            ),
            WORDS,
        ),
        "zip-bomb": (bomb, WORDS),
    }
)  # fmt: skip
def test_checkpoints(content, words):
    keeps(under("v", made()["v"] | {"last.pt": content()}), *words, changing=CHANGING)


DATA = bytes(768)


def packed(member: bytes) -> bytes:
    damaged = bytearray(with_member(member, how=zipfile.ZIP_LZMA))
    place = damaged.find(b"train_images.npy") + 30
    damaged[place : place + 12] = b"\xff" * 12
    return bytes(damaged)


def npz_bomb(images: int = 50_000) -> bytes:
    """A megabyte or less that really holds 200 MB of black images."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for key in arrays():
            count = images if key.startswith("train") else 6
            pictures = npy(header(shape=f"({count}, 64, 64)"), bytes(count * 4096))
            file.writestr(
                f"{key}.npy",
                pictures
                if "images" in key
                else npy(header("'<i8'", shape=f"({count},)"), (np.arange(count) % 3).tobytes()),
            )
    return buffer.getvalue()


CHECK = ["check", "r.yaml"]


@cases(
    {
        "shape-beyond-int64": (lambda: with_member(npy(header(shape=f"({10**30},)"), DATA)), CHECK),
        "shape-beyond-memory": (lambda: with_member(npy(header(shape=f"({10**15},)"), DATA)), CHECK),
        "header-not-closed": (lambda: with_member(npy(b"{'descr': '|u1', 'shape': (12, 8", DATA)), CHECK),
        "header-with-a-list-as-key": (lambda: with_member(npy(b"{[]: 1}", DATA)), CHECK),
        "header-with-mixed-keys": (lambda: with_member(npy(b"{1: 2, 'a': 3}", DATA)), CHECK),
        "header-of-9000-signs": (lambda: with_member(npy(b"-" * 9000 + b"1", DATA)), CHECK),
        "lzma-damaged": (lambda: packed(npy(header(), DATA)), CHECK),
        "zip-bomb": (npz_bomb, CHECK),
    }
)
def test_npz(content, words):
    keeps({"d.npz": content(), "r.yaml": RECIPE}, *words)
