"""The recipes that travel with snnkd: each resolves, builds its networks, takes a step, and says what it
is."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from conftest import Cli, results_script

from snnkd.bench.subject import Subject, make_stage, make_subject
from snnkd.catalog.losses import LOSSES
from snnkd.catalog.models import MODELS
from snnkd.compare.formats import as_json
from snnkd.recipe import resolve_tasks, shipped
from snnkd.recipe.loss_section import loss_label
from snnkd.recipe.resolve import Pipeline
from snnkd.recipe.shipped import first_comment, recipes_folder, shipped_names
from snnkd.recipe.sweep import Tasks
from snnkd.schema.fields import to_plain
from snnkd.schema.run import DistillRecipe, StageRecipe, TeachRecipe
from snnkd.training.setup import Stage

ROOT = Path(__file__).resolve().parents[2]
NAMES = shipped_names()
TABLES = [
    name
    for name in NAMES
    if re.fullmatch(
        r"(cifar10|cifar100|tiny-imagenet)-(resnet18|resnet19|resnet20w|vgg16)(-(?!fsta)[a-z0-9-]+)?", name
    )
]
OTHERS = {
    f"{data}-{name}"
    for data in ("cifar10", "cifar100")
    for name in ("resnet19-fsta", "spikformer", "qkformer")
}
OTHERS |= {f"{data}-fast{T}" for data in ("cifar10", "cifar100") for T in ("", "-T4")}
OTHERS |= {"glyphs", "cifar100-resnet20-small", "cifar100-fast-small", "cifar100-fast-search"}
OTHERS |= {"cifar100-fast-small-T4", "cifar100-fast-tuned"}
CPU = torch.device("cpu")


@cache  # hundreds of tasks, looked at from several sides
def tasks_of(name: str) -> Tasks:
    return resolve_tasks(name)


def text_of(name: str) -> str:
    return (recipes_folder() / f"{name}.yaml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def studies() -> ModuleType:
    return results_script("studies")


WIDTHS = pytest.mark.parametrize("width", [8, pytest.param(None, id="full", marks=pytest.mark.nightly)])


def few(recipe: StageRecipe, width: int | None) -> StageRecipe:
    """The recipe with batches, and networks unless `width` is None, that a test has time for."""
    small = {"width": width} if hasattr(recipe.model, "width") else MODELS[recipe.model.name].small
    model = recipe.model if width is None else replace(recipe.model, **small)
    return replace(recipe, model=model, train=replace(recipe.train, batch_size=2))


def subjects(pipeline: Pipeline, width: int | None) -> list[Subject]:
    """Student and teacher of one task on random images of the data's shape; the teacher as a stage of its
    own."""
    assert isinstance(pipeline.distill, DistillRecipe)
    student = few(pipeline.distill, width)
    assert isinstance(student, DistillRecipe)
    stage = make_stage(student, CPU)
    made = [make_subject(stage, "off")]
    if isinstance(pipeline.teach, TeachRecipe):
        made.append(
            make_subject(
                Stage(
                    recipe=few(pipeline.teach, width),
                    data=stage.data,
                    teacher=None,
                    device=CPU,
                    context=stage.context,
                ),
                "off",
            )
        )
    return made


def takes_a_step(pipeline: Pipeline, width: int | None) -> None:
    for subject in subjects(pipeline, width):
        before = [parameter.detach().clone() for parameter in subject.network.parameters()]
        losses = subject.step()
        assert all(torch.isfinite(loss.total).all() for loss in losses)
        assert any(
            not old.equal(new) for old, new in zip(before, subject.network.parameters(), strict=True)
        ), "nothing was learned"


@WIDTHS
@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_takes_a_step_on_data_of_its_shape(name: str, width: int | None) -> None:
    for k in chosen(name)[0 if width is None else -1 :]:
        takes_a_step(tasks_of(name).all[k].pipeline, width)


def chosen(name: str) -> list[int]:
    """The first task, which has the fewest timesteps, and one more."""
    return sorted({0, _second_tasks()[name]})


@cache
def _second_tasks() -> dict[str, int]:
    """For each recipe the task with a loss or a T that no recipe before it has."""
    seen: set[str | int | None] = set()
    numbers = {}
    for name in NAMES:
        traits = [_traits(task.pipeline) for task in tasks_of(name).all]
        seen |= traits[0]
        numbers[name] = max(range(len(traits)), key=lambda k: len(traits[k] - seen))
        seen |= traits[numbers[name]]
    return numbers


def _traits(pipeline: Pipeline) -> set[str | int | None]:
    """Loss and T of the student, without the numbers that a search draws."""
    student = pipeline.distill
    if student is None:
        return set()
    return {
        re.sub(r" (weight|temperature|delta)=\S+", "", loss_label(to_plain(student.loss))),
        student.model.T,
    }


def test_these_tasks_go_through_all_losses_and_timesteps() -> None:
    every, some = (
        {trait for name in NAMES for k in numbers(name) for trait in _traits(tasks_of(name).all[k].pipeline)}
        for numbers in (lambda name: range(len(tasks_of(name).all)), chosen)
    )
    assert some == every


@WIDTHS
@pytest.mark.parametrize(
    "name", ["cifar100-resnet18", "cifar100-resnet19", "cifar100-resnet20w", "cifar100-vgg16"]
)
def test_every_network_takes_a_step_with_every_loss_of_the_tables(name: str, width: int | None) -> None:
    tasks = [
        task
        for task in tasks_of(name).all
        if task.settings["seed"] == 0 and task.settings["distill.model.T"] == 1
    ]
    assert len(tasks) == 19
    for task in tasks:
        takes_a_step(replace(task.pipeline, teach=None), width)


def test_the_tables_are_there() -> None:
    whole = {name for name in TABLES if not name.endswith("-short")}
    assert {f"{name}-short" for name in whole} == set(TABLES) - whole
    data, models = ("cifar10", "cifar100", "tiny-imagenet"), ("resnet18", "resnet19", "resnet20w", "vgg16")
    assert {f"{d}-{m}" for d in data for m in models} <= whole
    assert set(NAMES) == {*TABLES, *OTHERS}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_what_its_name_says(name: str) -> None:
    tasks = tasks_of(name)
    students = [task.pipeline.distill for task in tasks.all]
    (short,) = {student.train.epochs for student in students if student}
    assert short == (30 if name.endswith("-short") else 300)
    for task in tasks.all:
        student, teacher = task.pipeline.distill, task.pipeline.teach
        assert student is not None
        assert name.startswith(f"{student.data.name}-{student.model.name}")
        train, neuron = student.train, student.neuron
        # other public code of HTA-KL's authors
        assert (train.batch_size, train.lr, train.momentum, train.weight_decay, train.schedule) == (
            128,
            0.1,
            0.9,
            5e-4,
            "cosine",
        )
        assert student.data.augment == ("crop", "flip", "autoaugment", "cutout")
        assert (neuron.name, neuron.tau, neuron.decay_input, neuron.threshold, neuron.surrogate) == (
            "lif",
            2.0,
            False,
            1.0,
            "sigmoid",
        )  # type: ignore[union-attr]
        assert (train.select, student.data.val_fraction) == ("last", 0.0)
        if teacher:
            assert (teacher.model.name, teacher.data, teacher.train, teacher.seed) == (
                student.model.name,
                student.data,
                replace(train, init="random"),
                100,
            )
    assert {task.settings["seed"] for task in tasks.all} == {0, 1, 2}


def test_the_tables_of_one_network_have_every_method() -> None:
    """Those that compare timesteps have a recipe of their own, without T = 1."""
    losses = {task.settings["distill.loss"] if isinstance(task.settings["distill.loss"], str) else "hta-kl strict"
              for name in TABLES if name.startswith("cifar100-resnet19") for task in tasks_of(name).all}  # fmt: skip
    published = {
        "none",
        "tet",
        "kl",
        "rkl",
        "jeffreys",
        "hta-kl",
        "akl",
        "dkd",
        "dist",
        "tser",
        "tks",
        "twsnn",
        "kdsnn-feature",
        "lasnn",
    }
    published |= {"bkdsnn", "ckdsnn", "enof", "sakd", "w2s", "s2w"}
    assert published <= losses
    assert published <= {entry.name for entry in LOSSES}


def test_settings_by_the_same_authors() -> None:
    """Both stand-ins for HTA-KL's settings stand side by side."""
    for data, decay in (("cifar100", 1e-4), ("cifar10", 0.0)):
        task = tasks_of(f"{data}-resnet19-fsta").all[0].pipeline
        student, teacher = task.distill, task.teach
        assert student is not None and teacher is not None  # noqa: PT018
        assert (student.model.hidden, teacher.model.hidden) == (0, 0)  # type: ignore[attr-defined]
        assert 1 - 1 / student.neuron.tau == pytest.approx(0.25)  # type: ignore[union-attr]
        for train, smoothing in ((student.train, 0.1), (teacher.train, 0.0)):
            values = (
                train.epochs,
                train.batch_size,
                train.lr,
                train.weight_decay,
                train.schedule,
                train.final_lr,
            )
            assert values == (600, 128, 0.1, decay, "cosine", 1e-5)
            assert train.label_smoothing == smoothing


@pytest.mark.parametrize(
    ("name", "values"), [("spikformer", (300, 128, 5e-4)), ("qkformer", (400, 64, 1e-3))]
)
def test_transformers_train_with_adamw(name: str, values: tuple[float, ...]) -> None:
    for data in ("cifar10", "cifar100"):
        task = tasks_of(f"{data}-{name}").all[0].pipeline
        for stage in (task.teach, task.distill):
            assert stage is not None
            train = stage.train
            assert (train.epochs, train.batch_size, train.lr) == values
            assert (train.optimizer, train.weight_decay, train.warmup_epochs, train.final_lr) == (
                "adamw", 0.06, 20, 1e-5
            )  # fmt: skip
            assert stage.data.name == data


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_opens_with_its_command_and_says_what_it_is(name: str) -> None:
    text = text_of(name)
    command = text.splitlines()[0].removeprefix("# ").partition("     #")[0]
    assert command.startswith(f"snnkd run {name}")
    assert "# Source: " in text
    assert re.search(r"published", text, re.IGNORECASE)
    assert "# Ours (last epoch): " in text or "accuracy over three seeds" in text
    if name in TABLES:
        for word in (
            "# Source: ",
            "other public code of HTA-KL's authors",
            "# Published (mostly the best test epoch): ",
            "# Ours (last epoch): ",
        ):
            assert word in text
        (last,) = re.findall(r"K from 0 to (\d+)", text.splitlines()[0])
        assert len(tasks_of(name).all) == int(last) + 1


def test_the_command_line_lists_them_and_their_tasks(cli: Cli) -> None:
    listed = cli("list", "recipes")
    assert [line.split()[0] for line in listed.out.splitlines()] == NAMES
    assert max(map(len, listed.out.splitlines())) <= 160
    tasks = cli("run", "cifar100-resnet19-w2s-short", "--tasks")
    assert tasks.out.splitlines()[-1].split() == ["17", "seed=2", "distill.model.T=6", "distill.loss=s2w"]


def test_published_and_own_numbers_are_those_of_the_stored_ones(
    studies: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studies, "resolve_tasks", tasks_of)
    for name in NAMES:
        assert studies.with_header(name) == text_of(name), "run recipes/results/render.py"
    assert "hta-kl 80.51 (T = 2), 81.03 (T = 4)" in text_of("cifar100-resnet19-hta-kl").replace("\n#  ", "")
    assert "Ours (last epoch): not run yet." in text_of("tiny-imagenet-vgg16-short")


def _rounded(value: Any) -> Any:
    """With nine digits of each number: CPUs differ in the last ones."""
    return json.loads(json.dumps(value), parse_float=lambda text: f"{float(text):.9g}")


def test_stored_comparisons_are_those_of_the_stored_results(studies: ModuleType) -> None:
    """But for intervals over images, which need logits; and nobody's paths are in them."""
    assert "cifar100-resnet20-small" in studies.studies()
    for name in studies.studies():
        folder = recipes_folder() / "results" / name
        stored, anew = (
            json.loads((folder / "compare.json").read_text()),
            json.loads(as_json(studies.recomputed(name))),
        )
        ours, theirs = studies.rows_of(stored), studies.rows_of(anew)
        assert [row["label"] for row in ours] == [row["label"] for row in theirs]
        for one, other in zip(ours, theirs, strict=True):
            for key in ("seeds", "values", "top1", "difference", "rate", "synops", "energy_mj"):
                assert _rounded(one[key]) == _rounded(other[key])
            assert {Path(run).stem for run in other["runs"]} == set(one["runs"])
        assert not [
            path.name for path in folder.iterdir() if re.search(r'"/(tmp|home|root|work)', path.read_text())
        ]
        commands = {json.loads(path.read_text())["command"] for path in folder.glob("*-s*.json")}
        assert all(command.startswith(f"snnkd run {name}") for command in commands)


def test_a_study_may_be_stored_in_parts(studies: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was stored before stays, and the comparison is of all."""
    name = "cifar100-fast-small"
    stored = recipes_folder() / "results" / name
    for k, seeds in enumerate((range(2), range(2, 5))):
        for seed in seeds:
            for file in stored.glob(f"*-s{seed}.json"):
                run = Path(f"part{k}") / file.stem
                run.mkdir(parents=True)
                shutil.copy(file, run / "result.json")
                if (metrics := file.with_suffix(".metrics.jsonl")).exists():
                    shutil.copy(metrics, run / "metrics.jsonl")
    monkeypatch.setattr(studies, "RESULTS", Path("results"))
    monkeypatch.setattr(studies, "check_is_of", lambda name, run: None)
    studies.store(name, Path("part0"))
    assert {row["top1"]["n"] for row in studies.rows_of(studies._comparison(name))} == {2}
    studies.store(name, Path("part1"))
    assert _rounded(studies._comparison(name)["tables"]) == _rounded(
        json.loads((stored / "compare.json").read_text())["tables"]
    )
    files = {path.name for path in Path("results", name).iterdir()}
    assert files == {path.name for path in stored.iterdir() if not path.name.startswith("teach-")}


def test_results_of_single_tasks_and_of_gpus_are_told(studies: ModuleType) -> None:
    folder = recipes_folder() / "results" / "cifar100-resnet20-small"
    files = [json.loads(path.read_text()) for path in sorted(folder.glob("*-s*.json"))]
    for k, each in enumerate(files):
        each["command"] = f"snnkd run NAME --task {k}"
        each["hardware"] = {"gpu": "A Card", **each["hardware"]} if k else each["hardware"]
    told = studies.conditions(files)
    assert told.startswith("`snnkd run NAME`: 22 runs")
    assert "A Card; AMD EPYC, threads: 1" in told


def test_only_tasks_of_a_recipe_are_stored_as_its_results(studies: ModuleType, cli: Cli) -> None:
    """Otherwise its header would tell what it does not give."""
    few = [
        "--set",
        "teach.train.epochs=1",
        "--set",
        "distill.train.epochs=1",
        "--set",
        "data.train_images=200",
        "--set",
        "data.test_images=100",
    ]
    assert cli("run", "glyphs", *few, "--set", "execution.allow_weak_teacher=true").code == 0
    for run in Path("runs").iterdir():
        with pytest.raises(SystemExit, match="not of `snnkd run glyphs`"):
            studies.check_is_of("glyphs", run)
        result = json.loads((run / "result.json").read_text())
        (run / "result.json").write_text(json.dumps(result | {"command": "snnkd run glyphs"}))
        with pytest.raises(SystemExit, match="not a task of glyphs"):
            studies.check_is_of("glyphs", run)


def test_shared_parts_stand_once() -> None:
    """What a table says is what it has apart: no line of settings is copied into another, but augmentation,
    which belongs to its data."""
    lines = [line for name in TABLES for line in text_of(name).splitlines() if not line.startswith("#")]
    copied = {
        line
        for line in lines
        if lines.count(line) > 1 and len(line) > 60 and "augment" not in line and "hta-kl" not in line
    }
    assert not copied


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("# snnkd run x\n# What it is. And more.\n# Further.\nseed: 1\n# not this.", "What it is. And more."),
        (
            "# snnkd run x --task K\n#   sbatch --array=0-3 job.sh\n#\n# Told on\n#   two lines.\nseed: 1",
            "Told on two lines.",
        ),
        ("# First, by He et al.\n#\n# Then.\nseed: 1", "First, by He et al."),
        ("# Without an end\n#\n# Other.\nseed: 1", "Without an end"),
        ("seed: 1\n# inside.", ""),
        ("", ""),
    ],
)
def test_what_a_shipped_recipe_says_of_itself(
    text: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.yaml").write_text(text)
    monkeypatch.setattr(shipped, "recipes_folder", lambda: tmp_path)
    assert first_comment("x") == told


def test_the_tuned_recipe_runs_what_the_search_chose() -> None:
    stored = json.loads((ROOT / "recipes" / "results" / "cifar100-fast-search" / "search.json").read_text())
    chosen = [
        {key.rpartition(".")[2]: value for key, value in selection["settings"].items()}
        for selection in stored["selections"]
    ]
    values = tasks_of("cifar100-fast-tuned").axes["distill.loss"]
    tuned = [{"loss": value.pop("name"), **value} for value in map(dict, values[4:])]
    assert tuned == chosen
    assert [str(value) for value in values[:4]] == [options["loss"] for options in chosen]
