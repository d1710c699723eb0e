"""Recipes that extend others, through the command line; and what single stages say of a sweep."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Cli

import snnkd
from snnkd.recipe import shipped_names

BASE = """\
schema: 1
data: {name: glyphs, classes: 10, train_images: 300, test_images: 100}
model: {name: resnet8, width: 4}
train: {epochs: 1, batch_size: 50}
teach: {seed: 100}
distill: {model: {T: 2}, loss: hta-kl}
export: {formats: [safetensors]}
execution: {allow_weak_teacher: true}
sweep: {distill.loss: [none, {name: hta-kl, head: strict}], seed: [0, 1]}
compare: {baseline: none}
"""
CHILD = "extends: shelf/base.yaml\ntrain: {lr: 0.05}\nexport: null\nsweep: {distill.model.T: [1, 3], seed: null}\n"
LINES = [
    "0  distill.loss=none  distill.model.T=1",
    "1  distill.loss=none  distill.model.T=3",
    "2  distill.loss=hta-kl head=strict  distill.model.T=1",
    "3  distill.loss=hta-kl head=strict  distill.model.T=3",
]


@pytest.fixture
def child() -> str:
    Path("shelf").mkdir()
    Path("shelf/base.yaml").write_text(BASE)
    Path("child.yaml").write_text(CHILD)
    return "child.yaml"


def test_a_task_of_a_recipe_that_extends_another(cli: Cli, child: str) -> None:
    assert cli("run", child, "--tasks").out.splitlines() == LINES
    done = cli("run", child, "--task", 3)
    assert done.code == 0, done.err
    assert "task 3 (distill.loss=hta-kl head=strict, distill.model.T=3)\n" in done.err
    teacher, student = map(Path, done.out.splitlines())
    assert "resnet8-hta-kl-T3-" in student.name
    result = json.loads((student / "result.json").read_text())
    assert (result["loss"]["terms"][0]["head"], len(result["curve"])) == ("strict", 3)
    assert not (student / "export").exists()
    for run in (teacher, student):
        kept = (run / "recipe.yaml").read_text()
        assert "extends" not in kept
        assert "lr: 0.05" in kept
    Path("child.yaml").unlink()  # a run's recipe needs no other
    Path("shelf/base.yaml").unlink()
    again = cli("distill", student / "recipe.yaml")
    assert (again.code, again.folder) == (0, student), again.err
    assert f"already done: {student}" in again.err


def test_check_shows_the_complete_recipe(cli: Cli, child: str) -> None:
    checked = cli("check", child)
    assert checked.code == 0, checked.err
    assert "extends" not in checked.out
    assert "sweep: 4 tasks (`snnkd run child.yaml --tasks` lists them)" in checked.err
    Path("whole.yaml").write_text(checked.out)
    assert cli("run", "whole.yaml", "--tasks").out.splitlines() == LINES
    described = cli("check", child, "--json").json
    assert described["recipe"] == cli("check", "whole.yaml", "--json").json["recipe"]
    assert described["recipe"]["train"]["lr"] == 0.05
    lies = cli("check", child, "--set", "extends=glyphs")
    assert (lies.code, lies.complaint.partition(";")[0]) == (2, "snnkd: unknown key 'extends'")


@pytest.mark.parametrize("command", ["teach", "distill", "check", "run", "bench"])
@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("extends: glyhps", 2, "r.yaml: extends: unknown recipe 'glyhps'; did you mean 'glyphs'?"),
        ("extends: gone.yaml", 3, "r.yaml extends gone.yaml: gone.yaml: no such file or directory"),
        ("extends: [glyphs]", 2, "r.yaml: extends: ['glyphs'] is neither the name of a recipe nor a path"),
        ("extends: r.yaml", 2, "r.yaml: extends: r.yaml -> r.yaml is a cycle"),
        (
            "extends: glyphs\nstage: distill",
            2,
            "r.yaml: stage: the base glyphs is a pipeline",
        ),
        (
            "extends: glyphs\ncompare: null",
            2,
            "r.yaml: compare: null removes a key of glyphs, which does not set it",
        ),
        (
            "extends: ./shelf/base.yaml\ndistill: {loss: kl}",
            2,
            "r.yaml: distill.loss: no effect, shelf/base.yaml sweeps distill.loss",
        ),
    ],
)
@pytest.mark.usefixtures("child")
def test_errors_are_one_line_whatever_the_command(
    cli: Cli, command: str, text: str, code: int, said: str
) -> None:
    Path("r.yaml").write_text(text)
    ended = cli(command, "r.yaml")
    assert (ended.code, ended.out) == (code, "")
    assert ended.complaint.startswith(f"snnkd: {said}")
    assert not Path("runs").exists()


def test_code_that_a_base_names_runs_only_when_the_command_line_names_it_too(cli: Cli) -> None:
    Path("mine.py").write_text(
        "open('sprung', 'w').close()\ndef f(student, teacher, *, temperature, labels): return student.sum()\n"
    )
    Path("base.yaml").write_text("teach: {}\ndistill: {loss: {name: 'mine:f'}}\n")
    Path("r.yaml").write_text("extends: base.yaml\nseed: 3\n")
    for command in ("check", "run", "distill", "bench"):
        refused = cli(command, "r.yaml")
        assert refused.code == 2
        assert (
            "'mine:f' is code; it runs only when the command line names it: add --code mine:f"
            in refused.complaint
        )
    assert not Path("sprung").exists()
    assert cli("check", "r.yaml", "--code", "mine:f").code == 0


# single stages of a recipe with a sweep

TAIL = "; `snnkd run child.yaml --task K` runs one\n"


def test_single_stages_say_that_they_run_no_sweep(cli: Cli, child: str) -> None:
    taught = cli("teach", child, "--json")
    assert taught.code == 0, taught.err
    assert taught.json["seed"] == 100
    begun = "child.yaml has a sweep of 4 tasks, which `snnkd"
    assert f"{begun} teach` does not run: no swept key applies to this stage{TAIL}" in taught.err
    made = cli("distill", child, "--loss", "kl", "--seed", 5)
    assert made.code == 0, made.err
    assert "-kl-T2-" in made.folder.name
    assert f"{begun} distill` does not run: it uses distill.loss=kl, distill.model.T=2{TAIL}" in made.err
    assert made.err.count("sweep") == 1
    again = cli("distill", child, "--loss", "kl", "--seed", 5, "--json")
    assert (again.json["run"], again.err.count("has a sweep of 4 tasks")) == (str(made.folder), 1)
    timed = cli("bench", child, "--rounds", 2, "--set", "execution.compile=off", "--json")
    assert timed.code == 0, timed.err
    assert timed.json["images_per_s"] is not None
    assert f"{begun} bench` does not run: it uses distill.loss=hta-kl, distill.model.T=2{TAIL}" in timed.err


def test_without_a_sweep_nothing_is_said_of_one(cli: Cli, child: str) -> None:
    Path(child).write_text(CHILD.partition("sweep")[0] + "sweep: null\n")
    taught = cli("teach", child)
    assert taught.code == 0, taught.err
    assert "sweep" not in taught.err


def test_python_says_it_too_unless_quiet(child: str, capfd: pytest.CaptureFixture[str]) -> None:
    run = snnkd.teach(child)
    assert "child.yaml has a sweep of 4 tasks, which `snnkd teach` does not run" in capfd.readouterr().err
    assert snnkd.teach(child, quiet=True).folder == run.folder
    assert capfd.readouterr().err == ""


# what is shipped


def test_every_shipped_recipe_is_listed_with_what_it_is(cli: Cli) -> None:
    listed = cli("list", "recipes")
    assert [line.split()[0] for line in listed.out.splitlines()] == shipped_names()
    helps = [line.partition(" ")[2].strip() for line in listed.out.splitlines()]
    assert all(len(help) > 20 and not help.startswith("snnkd") for help in helps)
    assert len(set(helps)) == len(helps), "no two say the same"
    assert [row["help"] for row in cli("list", "recipes", "--json").json["recipes"]] == helps
