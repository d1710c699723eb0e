"""Distributions in a sweep: their values, the points of each loss, and what is refused."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Cli
from hypothesis import given
from hypothesis import strategies as st

from snnkd.errors import UsageError
from snnkd.recipe import dump_yaml, resolve_tasks
from snnkd.recipe.render import sweep_recipe
from snnkd.recipe.search import MAX_AXES, SearchAxis, draw, read_distribution
from snnkd.recipe.sweep import Tasks, sweep_notice

BODY = """\
data: {name: glyphs, classes: 10, train_images: 300, test_images: 100, val_fraction: 0.2}
train: {epochs: 2, batch_size: 40}
model: {name: resnet8, width: 4}
teach: {seed: 100}
distill: {model: {T: 2}, loss: kl}
execution: {allow_weak_teacher: true}
"""
SWEEP = """\
sweep:
  distill.loss: [none, kl, hta-kl]
  distill.loss.temperature: {log_uniform: [1, 8]}
  seed: [0, 1]
  distill.loss.delta: {uniform: [0.1, 0.9]}
search: {samples: 4}
"""
TEMPERATURES = [2.345, 2.961, 7.271, 1.229]


def tasks(text: str, *given: str, sweep: tuple[str, ...] = ()) -> Tasks:
    Path("mine.yaml").write_text(text)
    return resolve_tasks("mine.yaml", given, sweep)


def refused(sweep: str, search: str = "search: {samples: 4}", body: str = BODY) -> str:
    with pytest.raises(UsageError) as error:
        tasks(f"{body}sweep: {sweep}\n{search}\n")
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


def drawn(result: Tasks, loss: str, key: str, seed: int = 0) -> list[Any]:
    """The values of a key in the tasks of a loss and seed."""
    return [
        task.settings[key]
        for task in result.all
        if task.settings.get("distill.loss") == loss
        and task.settings.get("seed", seed) == seed
        and key in task.settings
    ]


# distributions


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ({"uniform": [1, 3]}, [1.0, 1.5, 2.0, 2.998]),
        ({"log_uniform": [0.01, 100]}, [0.01, 0.1, 1.0, 99.08]),
        ({"integers": [2, 5]}, [2, 3, 4, 5]),
        ({"choice": ["a", None, 3, [1]]}, ["a", None, 3, [1]]),
    ],
)
def test_quantiles_by_hand(text: dict[str, Any], values: list[Any]) -> None:
    quantile = read_distribution("key", text)
    assert [quantile(u) for u in (0.0, 0.25, 0.5, 0.999)] == values


@given(st.floats(0, 1, exclude_max=True), st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_values_lie_in_their_range(u: float, a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    if low == high:
        return
    for name in ("uniform", "log_uniform"):
        value = read_distribution("key", {name: [low, high]})(u)
        assert low <= value <= high
        assert value in (low, high) or float(f"{value:.4g}") == value


def test_points_are_spread_evenly() -> None:
    """Of 64 Sobol points each eighth of an axis has 8, and each quarter of a plane's axes 4."""
    axes = [SearchAxis(name, read_distribution(name, {"uniform": [0, 1]}), i) for i, name in enumerate("ab")]
    points = np.array([[point["a"], point["b"]] for point in draw(axes, 64, 0)])
    assert set(Counter((points[:, 1] * 8).astype(int)).values()) == {8}
    assert set(Counter(map(tuple, (points * 4).astype(int))).values()) == {4}


# points


def test_the_points_are_pinned() -> None:
    """Every machine and version draws these; another seed draws others."""
    result = tasks(BODY + SWEEP)
    assert drawn(result, "kl", "distill.loss.temperature") == TEMPERATURES
    assert drawn(result, "hta-kl", "distill.loss.delta") == [0.8713, 0.4974, 0.6329, 0.2108]
    other = tasks(BODY + SWEEP, "search.seed=1")
    assert drawn(other, "kl", "distill.loss.temperature") == [1.813, 3.247, 6.796, 1.505]


def test_each_loss_has_the_same_points_and_each_seed_repeats_them() -> None:
    result = tasks(BODY + SWEEP)
    for loss in ("kl", "hta-kl"):
        for seed in (0, 1):
            assert drawn(result, loss, "distill.loss.temperature", seed) == TEMPERATURES
    count = Counter((task.settings["distill.loss"], task.settings["seed"]) for task in result.all)
    assert count == {(loss, seed): 4 for loss in ("kl", "hta-kl") for seed in (0, 1)} | {
        ("none", seed): 1 for seed in (0, 1)
    }
    temperatures = [task.pipeline.distill.loss.terms[0].temperature for task in result.all[2:6]]  # type: ignore[union-attr]
    assert temperatures == [2.345] * 4


def test_an_option_is_drawn_for_the_losses_that_have_it() -> None:
    result = tasks(BODY + SWEEP)
    assert drawn(result, "kl", "distill.loss.delta") == []
    assert result.notes == (
        "search: distill.loss.temperature is drawn for kl, hta-kl alone",
        "search: distill.loss.delta is drawn for hta-kl alone",
        "search: none: no searched key, one setting",
    )


def test_a_listed_option_is_varied_for_the_losses_that_have_it() -> None:
    """As one that is searched: every other loss is one task, in a sweep and in a search."""
    lists = (
        "distill.loss: [none, kl, {name: hta-kl, head: strict}], distill.loss.delta: [0.3, 0.5], seed: [0, 1]"
    )
    result = tasks(f"{BODY}sweep: {{{lists}}}\n")
    assert [task.settings.get("distill.loss.delta") for task in result.all] == [
        *[None] * 4,
        0.3,
        0.3,
        0.5,
        0.5,
    ]
    assert [task.settings["seed"] for task in result.all] == [0, 1] * 4
    deltas = [task.pipeline.distill.loss.terms[0].delta for task in result.all[4:]]  # type: ignore[union-attr]
    assert deltas == [0.3, 0.3, 0.5, 0.5]
    assert result.notes == ("sweep: distill.loss.delta is varied for hta-kl head=strict alone",)
    again = tasks(dump_yaml(sweep_recipe(result, [])))
    assert [task.pipeline for task in again.all] == [task.pipeline for task in result.all]
    own = "{loss: kl, search: {temperature: {uniform: [1, 8]}}}"
    mixed = f"distill.loss: [{own}, hta-kl], distill.loss.delta: [0.3, 0.5], distill.train.lr: {{uniform: [0, 1]}}"
    search = tasks(f"{BODY}sweep: {{{mixed}}}\nsearch: {{samples: 3}}\n")
    assert [task.settings.get("distill.loss.delta") for task in search.all] == [None, 0.3, 0.5] * 3
    assert len(drawn(search, "kl", "distill.loss.temperature")) == 3
    (line,) = sweep_notice("mine.yaml", search.all[0].pipeline.distill, "distill")  # type: ignore[arg-type]
    assert "delta" not in line


def test_more_samples_continue_the_sequence() -> None:
    """Tasks keep number, settings and with them their run."""
    few, many = tasks(BODY + SWEEP), tasks(BODY + SWEEP, "search.samples=11")
    assert many.all[: len(few.all)] == few.all
    assert len(many.all) == 2 + 11 * 4


def test_another_loss_or_axis_leaves_the_values_of_the_others() -> None:
    text = SWEEP.replace("hta-kl]", "hta-kl, mix]").replace(
        "search:", "  train.lr: {uniform: [0, 1]}\nsearch:"
    )
    result = tasks(BODY + text)
    for loss in ("kl", "hta-kl", "mix"):
        assert drawn(result, loss, "distill.loss.temperature") == TEMPERATURES
    assert len(drawn(result, "none", "train.lr")) == 4


def test_a_loss_with_axes_of_its_own() -> None:
    own = (
        "{loss: {name: hta-kl, head: strict}, search: {temperature: {uniform: [2, 3]}, "
        "delta: {uniform: [0, 1]}, distill.train.lr: {log_uniform: [0.01, 1]}}}"
    )
    result = tasks(
        f"{BODY}sweep: {{distill.loss: [kl, {own}], distill.loss.temperature: {{log_uniform: [1, 8]}}}}\n"
        "search: {samples: 4}\n"
    )
    assert drawn(result, "kl", "distill.loss.temperature") == TEMPERATURES
    strict = [task for task in result.all if task.settings["distill.loss"] != "kl"]
    assert len(strict) == 4
    first = strict[0].settings
    assert first["distill.loss"] == {"name": "hta-kl", "head": "strict"}
    quantile = math.log(2.345) / math.log(8)  # the same coordinate in the loss's own range
    assert first["distill.loss.temperature"] == pytest.approx(2 + quantile, abs=2e-3)
    assert first["distill.loss.delta"] == 0.9641
    assert strict[0].pipeline.distill.train.lr == first["distill.train.lr"]  # type: ignore[union-attr]
    assert strict[0].line.startswith("1  distill.loss=hta-kl head=strict  distill.loss.temperature=2.4")


def test_discrete_settings_are_not_repeated() -> None:
    result = tasks(f"{BODY}sweep: {{distill.train.epochs: {{integers: [1, 4]}}}}\nsearch: {{samples: 4}}\n")
    assert sorted(task.settings["distill.train.epochs"] for task in result.all) == [1, 2, 3, 4]
    message = refused("{distill.loss.head: {choice: [top1, strict]}, distill.loss: [hta-kl]}")
    assert message == (
        "search.samples: 4, but the axes of hta-kl have only 2 settings; list the values instead"
    )


def test_a_recipe_of_one_stage_is_searched() -> None:
    text = "stage: distill\nloss: kl\ndata: {val_fraction: 0.1}\n"
    result = tasks(text + "sweep: {loss.temperature: {log_uniform: [1, 8]}}\nsearch: {samples: 2}\n")
    assert [task.settings["loss.temperature"] for task in result.all] == TEMPERATURES[:2]
    assert result.notes == ()


# documents and options


def test_it_is_written_out_as_a_recipe_of_the_same_tasks() -> None:
    result = tasks(BODY + SWEEP, "train.lr=0.05")
    again = tasks(dump_yaml(sweep_recipe(result, ["train.lr=0.05"])))
    assert [task.pipeline for task in again.all] == [task.pipeline for task in result.all]


def test_an_extended_recipe_replaces_an_axis_as_a_whole() -> None:
    Path("base.yaml").write_text(BODY + SWEEP)
    child = "extends: ./base.yaml\nsweep: {distill.loss.temperature: {uniform: [1, 2]}, seed: [3]}\n"
    result = tasks(child + "search: {samples: 2}\n")
    assert result.axes["distill.loss.temperature"] == {"uniform": [1, 2]}
    assert len(result.all) == 1 + 2 * 2
    none = "sweep: {distill.loss.temperature: [2], distill.loss.delta: null, distill.loss: [kl]}\n"
    assert len(tasks(f"extends: ./base.yaml\n{none}search: null\n").all) == 2


def test_a_search_from_the_command_line(cli: Cli) -> None:
    words = ["--sweep", "loss=kl,hta-kl", "--sweep", "temperature={log_uniform: [1, 8]}"]
    words += ["--set", "search.samples=2", "--set", "data.val_fraction=0.1"]
    listed = cli("run", "glyphs", *words, "--tasks")
    assert listed.code == 0, listed.err
    assert listed.out.splitlines()[3] == "3  distill.loss=hta-kl  distill.loss.temperature=2.961"
    Path("FILE.yaml").write_text(listed.err)
    settings = ["--set", "search.samples=2", "--set", "data.val_fraction=0.1"]
    assert cli("run", "FILE.yaml", *settings, "--tasks").out == listed.out


def test_two_folders_list_the_same_tasks(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    lists = []
    for folder in ("a", "b"):
        Path(folder).mkdir()
        Path(folder, "r.yaml").write_text(BODY + SWEEP)
        with monkeypatch.context() as patch:
            patch.chdir(folder)
            listed = cli("run", "r.yaml", "--tasks")
        assert listed.err.splitlines()[1] == "search: distill.loss.delta is drawn for hta-kl alone"
        lists.append(listed.out)
    assert lists[0] == lists[1]


def test_commands_of_one_stage_count_the_tasks(cli: Cli) -> None:
    result = tasks(BODY + SWEEP)
    student = result.all[0].pipeline.distill
    assert student
    (line,) = sweep_notice("mine.yaml", student, "distill")
    assert f"has a sweep of {len(result.all)} tasks" in line


def test_finished_runs_stay_when_samples_are_added(cli: Cli) -> None:
    Path("r.yaml").write_text(
        "stage: distill\nloss: none\ndata: {classes: 10, train_images: 300, test_images: 100, val_fraction: 0.2}\n"
        "model: {width: 4, T: 1}\ntrain: {epochs: 1, batch_size: 40}\n"
        "sweep: {train.lr: {log_uniform: [0.01, 0.1]}}\nsearch: {samples: 1}\n"
    )
    first = cli("run", "r.yaml")
    assert first.code == 0, first.err
    more = cli("run", "r.yaml", "--set", "search.samples=2")
    assert more.code == 0, more.err
    assert more.out.splitlines()[0] == first.out.strip()
    assert len(more.out.splitlines()) == 2
    assert f"already done: {first.out.strip()}" in more.err


# refusals


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("{train.lr: {uniform: [1, 1]}}", "sweep: 'train.lr': uniform: [1, 1] is empty; the first must be below"),
        ("{train.lr: {uniform: [2, 1]}}", "[2, 1] is empty"),
        ("{train.lr: {uniform: [1]}}", "uniform: [1] is not a range; write two numbers"),
        ("{train.lr: {uniform: 1}}", "uniform: 1 is not a list; write {uniform: [a, b]}"),
        ("{train.lr: {uniform: [a, 1]}}", "uniform: 'a' is not a number"),
        ("{train.lr: {uniform: [.nan, 1]}}", "uniform"),
        ("{train.lr: {uniform: [0, .inf]}}", "uniform"),
        ("{train.lr: {log_uniform: [0, 1]}}", "log_uniform: 0 has no logarithm; the range must be above 0"),
        ("{train.lr: {log_uniform: [-1, 1]}}", "log_uniform: -1 has no logarithm"),
        ("{train.epochs: {integers: [1.5, 3]}}", "integers: 1.5 is not a whole number"),
        ("{train.lr: {choice: [1]}}", "choice: [1]; give at least two different values"),
        ("{train.lr: {choice: [1, 1]}}", "give at least two different values"),
        ("{train.lr: {choice: []}}", "give at least two different values"),
        ("{train.lr: {unifrom: [0, 1]}}", "unknown distribution 'unifrom'; did you mean 'uniform'?"),
        ("{train.lr: {}}", "{} is not one distribution"),
        ("{train.lr: {uniform: [0, 1], choice: [1, 2]}}", "is not one distribution"),
        ("{train.epochs: {uniform: [1, 9]}}", "task 0 (train.epochs=4.28)"),
        ("{distill.loss: [kl, mix], distill.loss.detla: {uniform: [0, 1]}}", "no loss of the recipe has 'distill.loss.detla'"),
        ("{distill.loss: [hta-kl], distill.loss.detla: {uniform: [0, 1]}}", "did you mean 'delta'?"),
        ("{distill.loss: [kl, mix], distill.loss.detla: [0, 1]}", "no loss of the recipe has 'distill.loss.detla'"),
        ("{distill.loss: [kl, hta-kl], distill.loss.detla: [0, 1]}", "did you mean 'delta'?"),
        ("{distill.loss: [{loss: kl, search: {}}]}", "write {loss: NAME, search: {OPTION: {uniform: [a, b]}}}"),
        ("{distill.loss: [{name: kl, search: {temperature: {uniform: [1, 2]}}}]}", "write {loss: NAME, search:"),
        ("{distill.loss: [{loss: hta-kl, search: {detla: {uniform: [0, 1]}}}]}", "hta-kl has no option 'detla'; did you mean 'delta'?"),
        ("{distill.loss: [{loss: hta-kl, search: {delta: [0, 1]}}]}", "'distill.loss.delta': [0, 1] is no distribution"),
        ("{seed: [1], distill.loss: [{loss: hta-kl, search: {seed: {integers: [0, 9]}}}]}", "'seed' is both listed and searched"),
        ("{distill.loss: [{loss: hta-kl, search: {execution.device: {choice: [cpu, cuda]}}}]}", "does not change the run"),
        ("{seed: [0, 1]}", "search: no key of the sweep is a distribution; write KEY: {uniform: [a, b]}"),
    ],
)  # fmt: skip
def test_searches_that_are_refused(sweep: str, message: str) -> None:
    assert message in refused(sweep)


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ("", "sweep: 'train.lr' is a distribution; add search: {samples: 16}"),
        ("search: {seed: 1}", "search: lacks samples"),
        ("search: {samples: 0}", "search.samples: 0 is too small"),
        ("search: {samples: 20000}", "search.samples: 20000 is too large"),
        ("search: {sample: 3}", "unknown key 'search.sample'; did you mean 'search.samples'?"),
    ],
)
def test_search_sections_that_are_refused(search: str, message: str) -> None:
    assert message in refused("{train.lr: {uniform: [0.1, 1]}}", search)


def test_a_search_needs_validation_images() -> None:
    body = BODY.replace(", val_fraction: 0.2", "")
    message = refused("{train.lr: {uniform: [0.1, 1]}}", body=body)
    assert message.startswith("search needs data.val_fraction above 0; nothing is ever selected on the test")


def test_search_without_a_sweep_is_refused() -> None:
    with pytest.raises(UsageError, match="search: no key of the sweep is a distribution"):
        tasks(BODY + "search: {samples: 3}\n")


def test_too_many_tasks_and_axes() -> None:
    message = refused("{train.lr: {uniform: [0.1, 1]}, seed: [0, 1]}", "search: {samples: 9000}")
    assert message == "sweep: 18000 tasks are too many; at most 10000; shorten a list"
    axes = ", ".join(f"distill.loss.terms.{i}.weight: {{uniform: [0, 1]}}" for i in range(MAX_AXES + 1))
    assert f"more than {MAX_AXES} distributions" in refused(f"{{{axes}}}")
