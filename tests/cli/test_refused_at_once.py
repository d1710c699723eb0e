"""`run` and `check` refuse at once what a later stage would refuse."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import DATA, Cli


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "distill.train.batch_size=20000"], "train.batch_size: 20000"),
        (["--set", "eval.split=val"], "val"),
        (["--set", "distill.train.select=best"], "val_fraction"),
        (["--set", "distill.execution.device=cuda:99"], "cuda:99"),
        (["--set", "los=kl"], "unknown key 'los'"),
    ],
)
def test_run_refuses_before_it_trains(cli: Cli, words: list[str], said: str) -> None:
    ended = cli("run", "glyphs", *DATA, *words)
    assert ended.code == 2, ended.err
    assert said in ended.complaint
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schema: 1\nteach: {}\ntrian: {epochs: 1}\n", "unknown key 'trian'"),
        ("schema: 7\nteach: {}\n", "schema: 7"),
        ("schema: 7\nstage: teach\n", "schema: 7"),
        ("schema: 1\nseed: 0\n", "no stage; add"),
    ],
)
def test_recipes_that_check_and_run_refuse(cli: Cli, text: str, said: str) -> None:
    Path("r.yaml").write_text(text)
    for command in ("check", "run"):
        ended = cli(command, "r.yaml")
        assert ended.code == 2
        assert said in ended.complaint
        assert ended.out == ""
    assert [path.name for path in Path().iterdir()] == ["r.yaml"]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("data.train_images=5", "data.train_images: 5 is fewer than the 10 classes"),
        ("train.batch_size=20000", "train.batch_size: 20000"),
        ("data.classes=1", "data.classes: 1"),
        ("los=kl", "did you mean 'loss'"),
        ("execution.device=cuda:99", "cuda:99"),
    ],
)
def test_check_refuses_what_the_stages_refuse(cli: Cli, setting: str, said: str) -> None:
    ended = cli("check", "glyphs", *DATA, "--set", setting)
    assert ended.code == 2, ended.err
    assert said in ended.complaint
    assert "not here" not in ended.err


def test_one_suggestion(cli: Cli) -> None:
    said = cli("teach", "--epoch", 3).complaint
    assert said.endswith("did you mean '--epochs'?")
    assert said.count("--epochs") == 1
    assert said.lower().count("did you mean") == 1


WITHOUT_TORCH = """
import sys
from snnkd.cli import main

for line in sys.stdin.read().splitlines():
    sys.argv = ["snnkd", *line.split()]
    try:
        main()
    except SystemExit as ended:
        print(ended.code, "torch" in sys.modules, flush=True)
"""
REFUSED = {
    "eval absent": 3,
    "eval": 3,
    "eval absent.safetensors": 3,
    "eval --plot curve.gif": 2,
    "predict absent absent.png": 3,
    "predict absent absent.png --confidence 2": 2,
    "export absent": 3,
    "push absent lab/net": 3,
    "push absent lab": 2,
    "eval hf-hub:lab": 2,
    "export": 3,
    "export --format nri": 2,
    "teach --data npz:absent.npz": 3,
    "teach --data imagefolder:absent": 3,
    "data imagefolder:absent": 3,
    "distill": 3,
    "distill --teacher latest": 3,
    "distill --teacher absent": 3,
    "distill --teacher absent.pt --teacher-model resnet8": 3,
    "distill --loss none --data npz:absent.npz": 3,
    "run student.yaml": 3,
    "run absent.yaml": 3,
    "compare absent": 3,
    "compare --plot curve.gif": 2,
    "status": 3,
}


def test_wrong_places_are_refused_before_torch_is_imported() -> None:
    Path("student.yaml").write_text("stage: distill\nloss: kl\n")
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH],
        input="\n".join(REFUSED),
        capture_output=True,
        text=True,
        check=True,
    )
    assert dict(zip(REFUSED, ended.stdout.splitlines(), strict=True)) == {
        command: f"{code} False" for command, code in REFUSED.items()
    }
    assert ended.stderr.count("snnkd: ") == len(REFUSED)
