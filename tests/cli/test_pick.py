"""`snnkd pick`: the best setting of each loss by validation accuracy, whatever the test results are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli

from snnkd.files import sha256
from snnkd.recipe import resolve_tasks
from snnkd.recipe.sweep import Task
from snnkd.recipe.yaml_io import parse_yaml
from snnkd.runs.folder import identity, run_name
from snnkd.schema.fields import to_plain

SEARCH = """\
data: {name: glyphs, classes: 10, train_images: 300, test_images: 100, val_fraction: 0.2}
train: {epochs: 2, batch_size: 40}
model: {name: resnet8, width: 4}
teach: {seed: 100}
distill: {model: {T: 2}, loss: kl}
execution: {allow_weak_teacher: true}
eval: {split: val}
sweep:
  distill.loss: [none, kl, {name: hta-kl, head: strict}]
  distill.loss.temperature: {log_uniform: [1, 8]}
  distill.loss.delta: {uniform: [0.1, 0.9]}
  seed: [0, 1]
search: {samples: 4}
compare: {baseline: kl, rank_on: val}
"""
TEMPERATURES = [2.345, 2.961, 7.271, 1.229]


def fake_run(task: Task, val: float, test: float = 0.0, teacher: str = "a" * 64) -> Path:
    """A finished run of a task, by its run.json, log and result, which has the accuracy `test`."""
    student = task.pipeline.distill
    assert student
    values = identity(
        student, sha256(repr(student.data).encode()), teacher if student.needs_teacher else None
    )
    folder = Path("runs") / run_name(student, values)
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"identity": values, "data": to_plain(student.data)}))
    rows = [{"epoch": 1, "val_top1": 99.0 - val}, {"epoch": student.train.epochs, "val_top1": val}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "result.json").write_text(json.dumps({"stage": "distill", "curve": [{"t": 2, "top1": test}]}))
    return folder


def fake_search(
    text: str, val: Callable[[dict[str, Any]], float], test: Callable[[dict[str, Any]], float] | None = None
) -> list[Path]:
    """The finished runs of a search, with accuracies by swept values."""
    Path("s.yaml").write_text(text)
    return [
        fake_run(task, val(task.settings), test(task.settings) if test else 0.0)
        for task in resolve_tasks("s.yaml").all
    ]


def near_three(settings: dict[str, Any]) -> float:
    """Best at a temperature of 2.961, and for kl almost as good at 2.345."""
    distance = abs(settings.get("distill.loss.temperature", 2.961) - 2.961)
    return 80.0 - distance * (0.5 if settings["distill.loss"] == "kl" else 5.0) + settings["seed"]


def chosen(cli: Cli, *words: str) -> dict[str, Any]:
    picked = cli("pick", "s.yaml", *words)
    assert picked.code == 0, picked.err
    return parse_yaml(picked.out.encode(), "stdout")


def test_the_best_setting_of_each_loss_is_confirmed_by_ten_seeds(cli: Cli) -> None:
    fake_search(SEARCH, near_three)
    picked = cli("pick", "s.yaml")
    assert picked.code == 0, picked.err
    recipe = parse_yaml(picked.out.encode(), "stdout")
    assert recipe["sweep"] == {
        "distill.loss": [
            "none",
            {"name": "kl", "temperature": 2.961},
            {"name": "hta-kl", "head": "strict", "temperature": 2.961, "delta": 0.4974},
        ],
        "distill.seed": list(range(10)),
    }
    assert "search" not in recipe
    assert picked.err.splitlines() == [
        "distill.loss=none: 80.50 % of validation images, best of 1",
        "distill.loss=kl, distill.loss.temperature=2.961: 80.50 % of validation images, best of 4; "
        "1 more within 0.5 points, next -0.31, median -0.59",
        "distill.loss=hta-kl head=strict, distill.loss.temperature=2.961, distill.loss.delta=0.4974: "
        "80.50 % of validation images, best of 4; 0 more within 0.5 points, next -3.08, median -5.87",
    ]
    for line in picked.err.splitlines():
        assert f"# {line}\n" in picked.out


def test_the_recipe_trains_on_all_images_and_is_measured_on_the_test_split(cli: Cli) -> None:
    text = SEARCH.replace("teach: {seed: 100}", "teach: {seed: 100, train: {select: best}}")
    fake_search(text.replace("loss: kl}", "loss: kl, train: {select: best}}"), near_three)
    Path("c.yaml").write_text(cli("pick", "s.yaml").out)
    tasks = resolve_tasks("c.yaml").all
    assert len(tasks) == 30
    assert len({repr(task.pipeline.teach) for task in tasks}) == 1
    for task in tasks:
        for stage in (task.pipeline.teach, task.pipeline.distill):
            assert stage
            assert (stage.data.val_fraction, stage.train.select) == (0.0, "last")
        assert task.pipeline.eval
        assert task.pipeline.eval.split == "test"
        assert task.pipeline.compare
        assert (task.pipeline.compare.baseline, task.pipeline.compare.rank_on) == ("kl", None)


def test_test_accuracy_is_never_read(cli: Cli) -> None:
    """The test results are opposite, then absurd, then no JSON at all: the choice stays, byte for byte."""
    runs = fake_search(SEARCH, near_three, lambda settings: 100 - near_three(settings))
    first = cli("pick", "s.yaml")
    best = [run for run in runs if "2.961" in json.dumps(json.loads((run / "run.json").read_text()))]
    assert best
    for wrong in ('{"stage": "distill", "curve": [{"t": 2, "top1": 100.0}]}', '{"top1": "high"}', "wrong"):
        for i, run in enumerate(runs):
            (run / "result.json").write_text(wrong if i % 2 else "{}")
            (run / "eval").mkdir(exist_ok=True)
            (run / "eval" / "test-T2.json").write_text(wrong)
        again = cli("pick", "s.yaml")
        assert (again.code, again.out, again.err) == (0, first.out, first.err)


def test_runs_as_they_are_trained(cli: Cli) -> None:
    """A search that has been run; afterwards its test results are changed for the worse setting."""
    Path("s.yaml").write_text(
        "stage: distill\nloss: none\nmodel: {width: 4, T: 1}\n"
        "data: {classes: 10, train_images: 300, test_images: 100, val_fraction: 0.2}\n"
        "train: {epochs: 1, batch_size: 40}\n"
        "sweep: {train.lr: {choice: [0.1, 1.0e-30]}}\nsearch: {samples: 2}\n"
    )
    done = cli("run", "s.yaml")
    assert done.code == 0, done.err
    picked = cli("pick", "s.yaml", "--json").json
    (selection,) = picked["selections"]
    values = {}
    for run in done.out.splitlines():
        (row,) = map(json.loads, (Path(run) / "metrics.jsonl").read_text().splitlines())
        lr = json.loads((Path(run) / "run.json").read_text())["identity"]["train"]["lr"]
        values[lr] = row["val_top1"]
        result = json.loads((Path(run) / "result.json").read_text())
        result["curve"][-1]["top1"] = 100.0 - row["val_top1"]
        (Path(run) / "result.json").write_text(json.dumps(result))
    assert len(values) == 2
    assert selection["val_top1"]["mean"] == max(values.values()) == values[selection["settings"]["train.lr"]]
    assert cli("pick", "s.yaml", "--json").json == picked
    (section,) = picked["recipe"]["sweep"]["distill"]
    assert section["train"]["lr"] == selection["settings"]["train.lr"]
    Path("c.yaml").write_text(cli("pick", "s.yaml").out)
    listed = cli("run", "c.yaml", "--tasks")
    assert len(listed.out.splitlines()) == 10, listed.err


def test_a_listed_option_of_one_loss_is_chosen_for_it(cli: Cli) -> None:
    text = SEARCH.replace("{uniform: [0.1, 0.9]}", "[0.3, 0.6]")
    fake_search(text, lambda s: 50.0 + 10 * s.get("distill.loss.delta", 0.0))
    assert (
        "\n# distill.loss=kl, distill.loss.temperature=2.345: 50.00 % of validation images, best of 4;"
        in (out := cli("pick", "s.yaml").out)
    )
    assert (
        "distill.loss.delta=0.6, distill.loss.temperature=2.345: 56.00 % of validation images, best of 8"
        in out
    )
    assert chosen(cli)["sweep"]["distill.loss"] == [
        "none",
        {"name": "kl", "temperature": 2.345},
        {"name": "hta-kl", "head": "strict", "delta": 0.6, "temperature": 2.345},
    ]


def test_each_t_has_its_own_choice(cli: Cli) -> None:
    """Settings that are no options of the loss are written as sections."""
    text = SEARCH.replace("[none, kl, {name: hta-kl, head: strict}]", "[kl]").replace(
        "seed: [0, 1]", "distill.model.T: [2, 4]"
    )
    text = text.replace(
        "  distill.loss.delta: {uniform: [0.1, 0.9]}\n", "  distill.train.lr: {uniform: [0, 1]}\n"
    )
    text = text.replace("compare: {baseline: kl, rank_on: val}\n", "")
    best = {2: 7.271, 4: 1.229}
    fake_search(text, lambda s: 80.0 - abs(s["distill.loss.temperature"] - best[s["distill.model.T"]]))
    recipe = chosen(cli)
    assert [*recipe["sweep"]] == ["distill", "distill.seed"]
    sections = recipe["sweep"]["distill"]
    assert [(each["model"]["T"], each["loss"]["terms"][0]["temperature"]) for each in sections] == [
        (2, 7.271),
        (4, 1.229),
    ]
    assert [each["train"]["lr"] for each in sections] == [0.6662, 0.1384]


def test_fewer_samples_choose_among_the_first(cli: Cli) -> None:
    """Each loss keeps the same budget."""
    fake_search(SEARCH, lambda s: s.get("distill.loss.temperature", 0.0))
    assert chosen(cli)["sweep"]["distill.loss"][1]["temperature"] == 7.271
    assert chosen(cli, "--set", "search.samples=2")["sweep"]["distill.loss"][1]["temperature"] == 2.961


def test_the_best_epoch_counts_where_it_was_kept(cli: Cli) -> None:
    fake_search(
        SEARCH.replace("loss: kl}", "loss: kl, train: {select: best}}"), lambda s: 90.0 if s["seed"] else 5.0
    )
    (first, *_) = cli("pick", "s.yaml", "--json").json["selections"]
    assert first["val_top1"]["mean"] == (90.0 + 94.0) / 2


def test_settings_of_the_command_line_stay_in_the_recipe(cli: Cli) -> None:
    words = ["--set", "data.noise=0.2", "--set", "distill.train.ema=0.9"]
    Path("s.yaml").write_text(SEARCH)
    for task in resolve_tasks("s.yaml", words[1::2]).all:
        fake_run(task, 50.0)
    recipe = chosen(cli, *words)
    assert recipe["distill"]["train"]["ema"] == 0.9
    assert recipe["distill"]["data"]["noise"] == recipe["teach"]["data"]["noise"] == 0.2


# refusals


def test_unfinished_tasks_are_named(cli: Cli) -> None:
    runs = fake_search(SEARCH, near_three)
    (runs[3] / "result.json").unlink()
    ended = cli("pick", "s.yaml")
    assert (ended.code, ended.out) == (3, "")
    assert ended.complaint == (
        "snnkd: runs: 1 of 18 tasks are not finished, first task 3 (distill.loss=kl, seed=1, "
        "distill.loss.temperature=2.345); run them, or lower search.samples"
    )


def test_several_teachers_are_refused(cli: Cli) -> None:
    fake_search(SEARCH, near_three)
    task = resolve_tasks("s.yaml").all[2]
    fake_run(task, 99.0, teacher="b" * 64)
    assert "have the same settings; move one away" in cli("pick", "s.yaml").complaint
    shutil.rmtree(
        next(
            run
            for run in Path("runs").glob("*-kl-*-s0")
            if "a" * 64 in (run / "run.json").read_text() and "2.345" in (run / "run.json").read_text()
        )
    )
    ended = cli("pick", "s.yaml")
    assert ended.code == 2
    assert "have different teachers; pick compares runs of one" in ended.complaint


def test_a_log_without_validation_accuracy_is_refused(cli: Cli) -> None:
    runs = fake_search(SEARCH, near_three)
    (runs[0] / "metrics.jsonl").write_text("")
    ended = cli("pick", "s.yaml")
    assert ended.code == 3
    assert ended.complaint == f"snnkd: {runs[0]}: metrics.jsonl has no validation accuracy of epoch 2"


@pytest.mark.parametrize(
    ("old", "new", "code", "message"),
    [
        ("", "", 3, "18 of 18 tasks are not finished"),
        ("seed: [0, 1]", "data.noise: [0.1, 0.2]", 2, "pick: 'data.noise' is not the student's alone"),
        ("seed: [0, 1]", "train.lr: [0.1, 0.2]", 2, "pick: 'train.lr' is not the student's alone"),
    ],
)
def test_requests_that_are_refused(cli: Cli, old: str, new: str, code: int, message: str) -> None:
    text = SEARCH.replace(old, new) if old else SEARCH
    if code == 2:
        fake_search(text, lambda settings: 50.0)
    else:
        Path("s.yaml").write_text(text)
        Path("runs").mkdir()
    ended = cli("pick", "s.yaml")
    assert ended.code == code
    assert message in ended.complaint


def test_a_recipe_without_a_sweep_is_refused(cli: Cli) -> None:
    Path("s.yaml").write_text("stage: distill\nloss: kl\ndata: {val_fraction: 0.1}\n")
    ended = cli("pick", "s.yaml")
    assert ended.code == 2
    assert ended.complaint == "snnkd: pick: s.yaml has no sweep to choose from; add sweep and search"


def test_unfinished_tasks_of_lists_are_run(cli: Cli) -> None:
    Path("s.yaml").write_text("stage: distill\ndata: {val_fraction: 0.1}\nsweep: {loss: [kl, rkl]}\n")
    Path("runs").mkdir()
    assert cli("pick", "s.yaml").complaint.endswith("not finished, first task 0 (loss=kl); run them")


def test_lists_without_validation_images_are_refused(cli: Cli) -> None:
    Path("s.yaml").write_text("stage: distill\nsweep: {loss: [kl, rkl]}\n")
    ended = cli("pick", "s.yaml")
    assert ended.code == 2
    assert (
        "pick needs data.val_fraction above 0; nothing is ever selected on the test split" in ended.complaint
    )
