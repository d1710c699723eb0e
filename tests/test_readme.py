"""The README and the guide: generated parts, links, sizes, and every code block."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from conftest import RESULTS, SMALL, Cli, results_script
from pages import BLOCKS, GUIDE, PAGES, ROOT, Block, blocks, commands_in, page

from snnkd.catalog.data import DATA as DATA_SETS
from snnkd.catalog.losses import LOSSES
from snnkd.catalog.models import MODELS
from snnkd.catalog.neurons import NEURONS
from snnkd.losses import hta_kl

README = page("README")
FOREIGN_OPTIONS = {
    *("--system-site-packages", "--dist", "--check", "--all-files", "--strict"),
    *("--array", "--constraint", "--cpus-per-task", "--dependency", "--gres", "--mem"),
    *("--nodes", "--ntasks-per-node", "--open-mode", "--wait"),
    *("--parsable", "--requeue", "--signal", "--time", "--wrap"),
    *("--nnodes", "--nproc-per-node", "--rdzv-backend", "--rdzv-endpoint", "--rdzv-id"),
    *("--signals-to-handle", "--standalone"),
}
"""Options of venv, pytest and other tools, of Slurm, and of torchrun, that the pages name."""
paths = pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


@pytest.fixture(scope="module")
def render() -> ModuleType:
    return results_script("render")


# pages


@paths
def test_generated_parts_are_up_to_date(render: ModuleType, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert render.render(text) == text, "run python recipes/results/render.py"


def test_every_part_is_in_one_page(render: ModuleType) -> None:
    parts = [
        name for path in PAGES for name in re.findall(r"^<!-- (\w+) -->$", path.read_text(), re.MULTILINE)
    ]
    assert (
        sorted(set(parts) - {"end"})
        == sorted(name for name in parts if name != "end")
        == sorted(render.PARTS)
    )
    assert set(render.pages()) == set(PAGES)


def test_a_stale_number_is_rendered_again(render: ModuleType) -> None:
    assert "| none | 5 | 48.3" in README
    stale = README.replace("| none | 5 | 48.3", "| none | 5 | 49.3")
    assert render.render(stale) == README


def test_the_readme_is_short_and_names_every_page() -> None:
    assert len(README.splitlines()) <= 260
    names = {path.stem for path in GUIDE.glob("*.md")}
    assert names == set(re.findall(r"^\| \[(\w+)\]\(snnkd/guide/\1\.md\) \|", README, re.MULTILINE))


@pytest.mark.parametrize("path", sorted(GUIDE.glob("*.md")), ids=lambda path: path.stem)
def test_a_page_of_the_guide_is_short_and_opens_with_its_use(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) < 150
    title = lines[0].removeprefix("# ")
    assert lines[0] == f"# {title}"
    assert len(title) <= 60
    assert lines[1] == ""
    assert re.match(r"[A-Z|]", lines[2])
    assert f"| [{path.stem}](snnkd/guide/{path.stem}.md) | {title} |" in README


@cache
def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@paths
def test_links_and_pictures_exist(path: Path) -> None:
    for link in re.findall(r"\]\((?!http)([^)\s]+)\)", path.read_text(encoding="utf-8")):
        target, _, anchor = link.partition("#")
        file = (path.parent / target).resolve() if target else path
        assert file.exists(), link
        assert not anchor or anchor in anchors(file), link


def test_the_two_commands_stand_alone() -> None:
    for extras, end in (("-e .", "snnkd run glyphs"), ("-e '.[test]'", "pytest -n 2 --dist worksteal")):
        assert f"python3 -m venv .venv && .venv/bin/pip install {extras} && .venv/bin/{end}\n" in README


def test_the_counts_are_those_of_the_catalogue() -> None:
    models = [entry for entry in MODELS if not entry.argument]
    counts = (len(list(LOSSES)), len(models), len(list(NEURONS)), len(list(DATA_SETS)))
    assert "{} losses, {} networks, {} neurons and {} data sets".format(*counts) in README
    families = README.partition("| family | `--loss` |")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"`([\w-]+)`", families)) == sorted(entry.name for entry in LOSSES)


def test_the_first_screen_shows_lines_of_the_tour(render: ModuleType) -> None:
    (first,) = blocks("README", "text")
    (tour,) = blocks("README", "console")
    *table, teacher = first.splitlines()
    rows = [set(line.split()) for line in tour.splitlines()]
    assert all(any(set(line.split()) <= row for row in rows) for line in table)
    assert [line.split()[0] for line in table] == ["t", "1", "4"]
    assert teacher.partition("   ")[0] in tour.splitlines()
    assert teacher.endswith(f"(glyphs, {render.tour.conditions()})")


def test_distillation_beats_direct_training_by_ten_points(render: ModuleType) -> None:
    """The claim of the default recipe, on the stored results of three seeds each."""
    students = render.accuracy.glyphs_students()
    distilled = {r["seed"]: r["curve"][-1]["top1"] for r in students["hta-kl", 16]}
    direct = {r["seed"]: r["curve"][-1]["top1"] for r in students["none", 16]}
    assert sorted(distilled) == sorted(direct) == [0, 1, 2]
    assert all(distilled[seed] - direct[seed] >= 10 for seed in distilled)
    assert min(distilled.values()) > 60
    (teacher,) = render.accuracy.load_results(render.accuracy.GLYPHS, "teach-*.json")
    assert teacher["curve"][0]["top1"] > 75
    teachers = {r["teacher"]["sha256"] for results in students.values() for r in results if r["teacher"]}
    assert teachers == {teacher["weights_sha256"]}


# code blocks


def test_every_code_block_is_of_a_kind_that_is_tested() -> None:
    assert {block.language for block in BLOCKS} == {"bash", "console", "python", "text", "yaml"}


@cache
def _commands() -> dict[str, Any]:
    from snnkd.cli.app import app

    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return commands


SHELL = [block for block in BLOCKS if block.language in ("bash", "console")]


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.place)
def test_every_command_line_is_parsed(block: Block) -> None:
    for name, *words in filter(None, commands_in(block)):
        _commands()[name].make_context(name, words)


def test_no_command_line_is_missed() -> None:
    assert sum(len(commands_in(block)) for block in SHELL) > 50
    with pytest.raises(Exception, match="No such option: --nope"):
        test_every_command_line_is_parsed(
            Block("", "bash", "S=$(snnkd distill --T 4 --nope 1) && snnkd eval\n")
        )


@paths
def test_named_options_exist(path: Path) -> None:
    parameters = [parameter for command in _commands().values() for parameter in command.params]
    known = {flag for parameter in parameters for flag in parameter.opts} | {
        "--help",
        "--debug",
        "--quiet",
        "--install-completion",
        "--version",
        "--all",
    }
    named = set(re.findall(r"(?<![-\w])--[a-zA-Z][a-zA-Z-]*", path.read_text(encoding="utf-8")))
    assert named <= known | FOREIGN_OPTIONS


YAML = [block for block in BLOCKS if block.language == "yaml"]


@pytest.mark.parametrize("block", YAML, ids=lambda block: block.place)
def test_every_yaml_block_is_a_recipe(cli: Cli, block: Block) -> None:
    section = re.match(r"(loss|data): *[\n{]", block.text) if "distill:" not in block.text else None
    rest = {"loss": "stage: distill\n", "data": "stage: distill\nloss: none\n"}
    Path("mine.yaml").write_text((rest[section[1]] if section else "") + block.text)
    listed = cli("run", "mine.yaml", "--tasks") if "sweep:" in block.text else cli("check", "mine.yaml")
    assert listed.code == 0, listed.err
    assert listed.out


def test_the_example_of_a_composed_loss_is_a_loss(cli: Cli) -> None:
    (example,) = blocks("losses", "yaml")
    Path("r.yaml").write_text(f"schema: 1\nstage: distill\n{example}")
    ended = cli("check", "r.yaml", "--json")
    assert ended.code == 0, ended.err
    assert ended.json["recipe"]["loss"]["name"] == "custom"


def test_the_example_of_an_extended_recipe(cli: Cli) -> None:
    (example,) = [text for text in blocks("recipes", "yaml") if text.startswith("extends: cifar")]
    assert example in blocks("README", "yaml")
    Path("mine.yaml").write_text(example)
    listed = cli("run", "mine.yaml", "--tasks")
    assert listed.code == 0, listed.err
    assert [line.split(maxsplit=2)[2] for line in listed.out.splitlines()] == [
        "distill.loss=hta-kl",
        "distill.loss=hta-kl head=strict",
        "distill.loss=hta-kl head=cover",
    ]


def test_the_comparison_is_what_compare_prints() -> None:
    (shown,) = [text for text in blocks("measuring", "console") if "snnkd compare" in text]
    command, *lines = shown.splitlines()
    words = [sys.executable, "-m", "snnkd", *shlex.split(command)[2:]]
    environment = {**os.environ, "COLUMNS": "100"}
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True, env=environment)
    assert [line.rstrip() for line in done.stdout.splitlines()[: len(lines) - 1]] == lines[:-1]


# what Python blocks do


def test_the_module_of_the_guide_trains(cli: Cli) -> None:
    """A loss, a network and a data set of one's own, by the three commands of the page."""
    (module,), (commands,) = blocks("extending", "python"), blocks("extending", "bash")
    Path("mine.py").write_text(module)
    ended = [cli(*shlex.split(line)[1:]) for line in commands.splitlines()]
    assert [each.code for each in ended] == [0, 0, 0], [each.err for each in ended]
    assert "t  top-1 %" in ended[-1].out
    results = [json.loads(Path(run, "result.json").read_text()) for run in Path("runs").iterdir()]
    assert min(result["curve"][-1]["top1"] for result in results) > 80, "three classes; it learns"


def test_the_loss_of_the_readme_trains(cli: Cli) -> None:
    (module,) = [text for text in blocks("README", "python") if "def my_loss" in text]
    (command,) = [text for text in blocks("README", "bash") if "mine:my_loss" in text]
    Path("mine.py").write_text(module)
    assert cli("teach", *SMALL).code == 0
    ended = cli(*shlex.split(command)[1:], *SMALL, "--T", 2, "--allow-weak-teacher")
    assert ended.code == 0, ended.err


def test_your_own_images(cli: Cli) -> None:
    """The page's Python writes a file that its commands take (at a smaller size)."""
    (block,) = blocks("data", "python")
    (commands,) = [text for text in blocks("data", "bash") if "npz:mine.npz" in text]
    exec(block, {})
    small = ["--epochs", 1, "--batch-size", 100, "--set", "model.width=4"]
    teach, distill = (shlex.split(line)[1:] for line in commands.splitlines())
    assert cli(*teach, *small).code == 0
    ended = cli(*distill, *small, "--allow-weak-teacher")
    assert ended.code == 0, ended.err


def test_python_examples() -> None:
    import torch

    functions, loss, *_ = blocks("python", "python")
    (short,) = [text for text in blocks("README", "python") if "snnkd.load" in text]
    assert set(short.splitlines()) <= set(functions.splitlines())
    names: dict[str, Any] = {}
    less = functions.replace("epochs=4", "epochs=2").replace("2000", "600").replace("500}", "100}")
    assert less.count("epochs=2") == 2
    exec(
        less.replace("small = {", 'small = {"model.width": 8, "execution.allow_weak_teacher": True, '), names
    )
    assert names["network"](torch.rand(3, 1, 16, 16)).shape == (2, 3, 10)
    exec(loss, names)
    assert names["student"].grad.shape == (8, 100)


def test_the_example_of_an_entry_is_in_the_catalogue() -> None:
    (entry,) = blocks("contributing", "python")
    assert entry in (ROOT / "snnkd" / "catalog" / "losses.py").read_text(encoding="utf-8")


def test_the_files_that_contributing_names_exist() -> None:
    names = re.findall(r"`((?:[a-z_]+/)+(?:[\w.]+)?)`", page("contributing"))
    places = (ROOT, ROOT / "snnkd", RESULTS)
    assert len(names) > 15
    assert not [name for name in names if not any((place / name).exists() for place in places)]


def test_the_worked_values_of_hta_kl() -> None:
    """The table of guide/losses.md, row by row."""
    import torch

    table = page("losses").partition("| p | q | head |")[2].partition("\n\n")[0].splitlines()[2:]
    assert len(table) == 5
    for row in table:
        p_text, q_text, heads, _, _, _, value = (cell.strip() for cell in row.strip("|").split("|"))
        p = [float(word) for word in p_text.split()]
        q = [1 / len(p)] * len(p) if q_text == "uniform" else [float(word) for word in q_text.split()]
        teacher, student = (torch.tensor([each], dtype=torch.float64).log() for each in (p, q))
        for head in heads.split(", "):
            assert hta_kl(student, teacher, head=head).item() == pytest.approx(float(value), abs=1e-6)
