"""config.json, result.json, run.json and run.lock of any kind, through all commands that read them."""

from __future__ import annotations

import json

import pytest
from conftest import tiers
from fuzz_tools import (
    SMALL,
    SMALL_DATA,
    Outcomes,
    damaged,
    examples,
    made,
    reset,
    respelled,
    run,
    scratched,
    server,
    under,
)
from hypothesis import given
from hypothesis import strategies as st

CONFIG_WORDS = [
    10**6, 10**5, [1, 4096, 4096], [4096, 4096, 4096], [3, 8, 8], [1, 8], [0, 0, 0], [-1, 8, 8], ["1", "8", "8"], "resnet18", "resnet19", 4096, 1024,
    {"name": "resnet18", "width": 4096, "T": 1}, {"name": "resnet8"}, {"name": "trap_module:spring"}, {"name": "npz:/dev/null"},
    {"name": "npz:/dev/zero"}, {"name": "cifar10x"}, {"top1": "x"}, {"top1": None}, {"top1": 1.0}, {"top1": 1.0, "energy_mj": "x"}, "soft",
]  # fmt: skip
TRAP = b"import os\nos.mkdir('sprung')\n"


def dumped(value: object) -> bytes:
    return json.dumps(value).encode()


def parsed(folder: str, name: str) -> dict:
    return json.loads(made()[folder][name])


def small(section: object) -> bool:
    """Whether a data section asks for no hours of honest work."""
    return not isinstance(section, dict) or all(
        not isinstance(section.get(key), (int, str)) or str(section[key]) in ("48", "16", "-1", "0", "1", "x")
        for key in ("train_images", "test_images")
    )


def test_configs_of_the_wrong_shape():
    outcomes = Outcomes("config.json of the wrong shape", json.loads)
    commands = {
        "eval": ["eval", "x"], "json": ["eval", "x", "--json"], "export": ["export", "x", "--out", "copy"], "status": ["status", "x"],
        "plot": ["eval", "x", "--plot", "p.svg"],
    }  # fmt: skip

    @examples(26)
    @given(
        damaged([parsed("x", "config.json")], extra=CONFIG_WORDS, most=2),
        st.sampled_from(["eval", "eval", "json", "json", "export", "export", "status", "plot"]),
    )
    def each(config, command):
        if small(config.get("data")) and config.get("model", {}) != {
            "name": "resnet8",
            "width": 2,
            "T": 1024,
        }:
            folder = reset(
                server().root / "config",
                under("x", made()["x"] | {"config.json": dumped(config)}) | {"trap_module.py": TRAP},
            )
            outcomes.add(dumped(config), run(folder, *commands[command]))

    each()
    outcomes.close()
    assert outcomes.codes[3] > 4


def test_configs_of_teachers():
    outcomes = Outcomes("config.json of teachers", json.loads)

    @examples(12)
    @given(damaged([parsed("t", "config.json")], extra=CONFIG_WORDS, most=2))
    def each(config):
        files = under("t", made()["t"] | {"config.json": dumped(config)})
        folder = reset(server().root / "teacher", files)
        words = [
            "distill",
            *SMALL,
            "--epochs",
            1,
            "--T",
            1,
            "--loss",
            "kl",
            "--allow-weak-teacher",
            "--teacher",
            "t",
            "--out",
            "s",
        ]
        outcomes.add(dumped(config), run(folder, *words))

    each()
    outcomes.close()


def test_configs_with_damaged_bytes():
    outcomes = Outcomes("config.json with damaged bytes", json.loads)
    tokens = [
        b"NaN",
        b"Infinity",
        b"1e999",
        b"null",
        b"9" * 400,
        b"-",
        b'"',
        b"[" * 100,
        b"{",
        b"}",
        b",",
        b"\\ud800",
        b"\xff",
        b"\xef\xbb\xbf",
        b"0",
        b"9",
    ]

    @examples(24)
    @given(
        respelled([made()["x"]["config.json"]]) | scratched([made()["x"]["config.json"]], tokens, most=1),
        st.sampled_from([["eval", "x"], ["export", "x", "--out", "copy"]]),
    )
    def each(content, words):
        try:
            section = json.loads(content).get("data")
        except Exception:
            section = None
        if small(section):
            folder = reset(server().root / "config", under("x", made()["x"] | {"config.json": content}))
            outcomes.add(content, run(folder, *words))

    each()
    outcomes.close()


def test_results():
    """status, eval and distill choose runs by result.json; teach answers a repeated request with it."""
    outcomes = Outcomes("result.json", json.loads)
    commands = [["status"], ["status", "runs/s"], ["eval"], ["distill", *SMALL, "--epochs", 0], ["status", "--json"],
                ["distill", *SMALL, "--epochs", 1, "--T", 1, "--set", "teacher.sha256=x"],
                ["teach", *SMALL, "--epochs", 1, "--out", "runs/t"], ["teach", *SMALL, "--epochs", 1, "--out", "runs/t", "--json"]]  # fmt: skip

    @examples(24)
    @given(
        damaged(
            [{name: parsed(name, "result.json") for name in "ts"}],
            extra=[[], [{}], [{"t": 1, "top1": "x"}], [{"t": 1, "top1": 10**400}]],
        ),
        st.sampled_from(commands),
    )
    def each(results, words):
        files = {
            name: made()[name] | ({"result.json": dumped(results[name])} if name in results else {})
            for name in "ts"
        }
        folder = reset(
            server().root / "result",
            {f"runs/{path}": content for name in "ts" for path, content in under(name, files[name]).items()},
        )
        outcomes.add(
            dumped(results),
            run(
                folder,
                *words,
                codes=(0, 2, 3, 4, 75) if words[0] == "status" else (0, 2, 3),
                changing=["run.lock"],
            ),
        )

    each()
    outcomes.close()


def test_run_files_of_interrupted_runs():
    """run.json, run.lock and recipe.yaml; continuing may succeed, which takes the checkpoint away."""
    outcomes = Outcomes("run.json and run.lock", json.loads)
    base = {"run.json": parsed("u", "run.json"), "run.lock": parsed("u", "run.lock")}
    words = ["teach", *SMALL, "--epochs", 2, "--out", "runs/u"]
    commands = [
        words,
        words,
        words,
        ["status", "runs"],
        ["status", "runs", "--json"],
        [*words[:-2]],
        [*words, "--max-time", "0s"],
    ]

    @examples(24)
    @given(damaged([base], most=2), st.sampled_from(commands))
    def each(files, command):
        changed = {name: dumped(value) for name, value in files.items() if name in base}
        folder = reset(
            server().root / "unfinished",
            {f"runs/{path}": held for path, held in under("u", made()["u"] | changed).items()},
        )
        continuing = ["run.lock", "last.pt", "previous.pt", "metrics.jsonl"]
        codes = (0, 3, 4, 75) if command[0] == "status" else (0, 2, 3, 75)
        ended = run(folder, *command, codes=codes, changing=continuing)
        if ended.code in (2, 3):
            assert (folder / "runs/u/last.pt").read_bytes() == made()["u"]["last.pt"]
        outcomes.add(dumped(files), ended)

    each()
    outcomes.close()


NASTY = [
    b"",
    b"null",
    b"[]",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"\xff\xfe",
    b"NaN",
    b"1" * 5000,
    b'"x"',
    b"{}" * 2,
    b"\0" * 100,
]


@pytest.mark.parametrize("content", tiers(NASTY, NASTY[::3]))
def test_nasty_json(content):
    root = server().root / "nasty"
    for file in ("config.json", "result.json", "run.json", "run.lock"):
        for words in (
            ["status", "runs"],
            ["eval"],
            ["distill", *SMALL, "--epochs", 1, "--loss", "none", "--T", 1, "--out", "runs/s"],
        ):
            folder = reset(
                root,
                {f"runs/{path}": held for path, held in under("s", made()["s"] | {file: content}).items()},
            )
            run(
                folder,
                *words,
                codes=(0, 2, 3, 4, 75) if words[0] == "status" else (0, 2, 3),
                changing=["run.lock"],
            )


def test_a_folder_as_every_file():
    for file in ("config.json", "result.json", "run.json", "model.safetensors"):
        folder = reset(
            server().root / "folders", under("s", {k: v for k, v in made()["s"].items() if k != file})
        )
        (folder / "s" / file).mkdir()
        for words in (["status", "s"], ["eval", "s"], ["export", "s", "--out", "x"]):
            run(folder, *words, codes=(0, 3, 4, 75) if words[0] == "status" else (0, 3))
    assert "48" in SMALL_DATA
