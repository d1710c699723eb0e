"""From `sweep:` to tasks: order, where values go, what is refused, and the recipe written out with its
sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recipe.children import PIPELINE as BASE

from snnkd.errors import UsageError
from snnkd.recipe import dump_yaml, resolve_pipeline, resolve_stage, resolve_tasks
from snnkd.recipe.help_comments import commented_yaml
from snnkd.recipe.render import full_recipe, sweep_recipe
from snnkd.recipe.sweep import MAX_TASKS, Tasks, sweep_notice, tasks_of
from snnkd.recipe.yaml_io import flow_yaml, parse_value, parse_yaml

# a pipeline recipe with a sweep
EXAMPLE = """\
schema: 1
data: {name: cifar100, augment: [crop, flip, autoaugment, cutout]}
teach: {model: {name: resnet19}, seed: 100, train: {epochs: 300}}
distill: {model: {name: resnet19, T: 4}, loss: hta-kl, train: {epochs: 300}}
eval: {split: test}
export: {formats: [safetensors]}
sweep: {distill.loss: [none, kl, rkl, jeffreys, hta-kl], distill.model.T: [2, 4], seed: [0, 1, 2]}
"""
PIPELINE = """\
data: {name: glyphs, classes: 10, augment: []}
train: {epochs: 2, batch_size: 50}
model: {name: resnet20, T: 6, width: 8}
loss: hta-kl
teach: {seed: 100}
distill: {model: {width: 4}}
"""
FULL = """\
teach: {model: {name: resnet8, width: 4}}
distill: {model: {name: resnet8, width: 4, T: 2}, loss: {name: hta-kl, head: strict}}
"""


def tasks(text: str, *given: str) -> Tasks:
    Path("mine.yaml").write_text(text)
    return resolve_tasks("mine.yaml", given)


def refused(text: str, *given: str) -> str:
    with pytest.raises(UsageError) as caught:
        tasks(text, *given)
    assert str(caught.value).splitlines() == [str(caught.value)]
    return str(caught.value)


def students(made: Tasks) -> list[Any]:
    return [task.pipeline.distill for task in made.all]


# order


def test_the_designed_sweep() -> None:
    made = tasks(EXAMPLE)
    assert len(made.all) == 30
    assert [task.number for task in made.all] == list(range(30))
    assert [task.line for task in made.all[:4]] == [
        "0  distill.loss=none  distill.model.T=2  seed=0",
        "1  distill.loss=none  distill.model.T=2  seed=1",
        "2  distill.loss=none  distill.model.T=2  seed=2",
        "3  distill.loss=none  distill.model.T=4  seed=0",
    ]
    last = made.all[29].pipeline
    assert last.distill is not None
    assert (last.distill.loss.name, last.distill.model.T, last.distill.seed) == ("hta-kl", 4, 2)
    assert {repr(task.pipeline.teach) for task in made.all} == {repr(last.teach)}, (
        "the teacher's own seed wins over the swept one"
    )


AXES = {
    "seed": st.integers(0, 1000),
    "distill.model.T": st.integers(1, 16),
    "teach.train.epochs": st.integers(1, 300),
    "distill.loss": st.sampled_from(["none", "kl", "rkl", "hta-kl"]),
    "distill.train.lr": st.floats(0.01, 1),
}


@st.composite
def axes(draw: st.DrawFn) -> dict[str, list[Any]]:
    keys = draw(st.lists(st.sampled_from(list(AXES)), min_size=1, max_size=4, unique=True))
    return {key: draw(st.lists(AXES[key], min_size=1, max_size=3, unique=True)) for key in keys}


@settings(max_examples=40, deadline=None)
@given(axes())
def test_a_task_is_a_number_whose_last_digit_is_the_last_key(swept: dict[str, list[Any]]) -> None:
    made = tasks_of({**parse_yaml(FULL.encode(), "here"), "sweep": swept}, "here")
    for number, task in enumerate(made.all):
        rest, digits = number, []
        for values in reversed(swept.values()):
            rest, digit = divmod(rest, len(values))
            digits.append(digit)
        assert rest == 0
        assert task.settings == {
            key: swept[key][digit] for key, digit in zip(swept, reversed(digits), strict=True)
        }
        assert made.select(str(number)) == (task,)
        assert task.pipeline.distill is not None
        assert task.pipeline.distill.seed == task.settings.get("seed", 0)


def test_without_a_sweep_there_is_task_0() -> None:
    made = tasks(FULL)
    assert (made.axes, made.all[0].line, made.all[0].name, made.summary) == ({}, "0", "", [])
    assert made.all == made.select("0") == made.select(None)
    assert made.all[0].pipeline == resolve_pipeline("mine.yaml")


@pytest.mark.parametrize("number", ["6", "-1", "1.0", "", "x", "٣", "1e0", "9" * 5000, "00000000"])
def test_tasks_that_there_are_not(number: str) -> None:
    with pytest.raises(UsageError, match=r"mine.yaml has tasks 0 to 5") as caught:
        tasks(f"{FULL}sweep: {{seed: [0, 1, 2], distill.model.T: [1, 2]}}").select(number)
    assert len(str(caught.value)) < 200
    with pytest.raises(UsageError, match="has one task, 0"):
        tasks(FULL).select("1")


# where a value goes


def test_a_loss_replaces_the_loss_by_its_defaults() -> None:
    made = students(tasks(f"{FULL}sweep: {{distill.loss: [hta-kl, {{name: hta-kl, delta: 0.3}}, enof, kl]}}"))
    assert [(term.head, term.delta) for term in (student.loss.terms[0] for student in made[:2])] == [
        ("top1", 0.5),
        ("top1", 0.3),
    ]
    assert [student.neuron.last for student in made] == ["spike", "spike", "relu", "spike"], (
        "what belongs to enof comes and goes with it"
    )


def test_what_belongs_to_a_shared_loss_is_the_students() -> None:
    made = tasks("loss: enof\nneuron: {last: relu}\nteach: {}\ndistill:\nsweep: {loss: [kl, sakd, enof]}")
    assert [student.train.init for student in students(made)] == ["random", "teacher", "random"]
    assert [student.neuron.last for student in students(made)] == ["spike", "spike", "relu"]
    assert {task.pipeline.teach.train.init for task in made.all if task.pipeline.teach} == {"random"}


def test_a_model_or_data_set_replaces_its_section_but_for_the_timesteps() -> None:
    made = students(
        tasks(
            f"{FULL}sweep: {{distill.model: [resnet20, {{name: resnet8, width: 2}}], distill.data: [cifar10, "
            f"glyphs]}}"
        )
    )
    assert [(s.model.name, s.model.width, s.model.T, s.data.name) for s in made] == [
        ("resnet20", None, 2, "cifar10"), ("resnet20", None, 2, "glyphs"), ("resnet8", 2, 2, "cifar10"), ("resnet8", 2, 2, "glyphs"),
    ]  # fmt: skip


def test_a_section_is_put_before_what_lies_in_it() -> None:
    for order in (1, -1):
        keys = ["distill.loss: [hta-kl]", "distill.loss.head: [strict, cover]"][::order]
        made = students(tasks(f"{FULL}sweep: {{{', '.join(keys)}}}"))
        assert [student.loss.terms[0].head for student in made] == ["strict", "cover"]


def test_shared_keys_and_list_items() -> None:
    made = tasks(f"{PIPELINE}sweep: {{train.lr: [1, 2], data.augment: [[], [crop]], seed: [3, 4]}}")
    assert [task.pipeline.teach.train.lr for task in made.all if task.pipeline.teach] == [
        1,
        1,
        1,
        1,
        2,
        2,
        2,
        2,
    ]
    assert made.all[-1].line == "7  train.lr=2  data.augment=[crop]  seed=4"
    made = tasks(f"{FULL}sweep: {{distill.loss.terms.0.head: [top1, strict]}}")
    assert [student.loss.terms[0].head for student in students(made)] == ["top1", "strict"]


def test_a_recipe_of_one_stage_has_tasks_too() -> None:
    made = tasks(
        "stage: distill\nloss: kl\nsweep: {loss: [none, {name: hta-kl, head: strict}], model.T: [1, 2]}"
    )
    assert [(s.loss.name, s.model.T) for s in students(made)] == [
        ("none", 1),
        ("none", 2),
        ("hta-kl", 1),
        ("hta-kl", 2),
    ]
    assert made.all[3].line == "3  loss=hta-kl head=strict  model.T=2"


def test_single_stages_do_not_see_the_sweep() -> None:
    Path("r.yaml").write_text(EXAMPLE + "compare: {baseline: kl}")
    assert resolve_stage("r.yaml", "distill").seed == 0
    assert resolve_stage("r.yaml", "teach").seed == 100
    Path("s.yaml").write_text("stage: distill\nloss: kl\nseed: 5\nsweep: {seed: [0, 1]}")
    assert resolve_stage("s.yaml", "distill").seed == 5


def test_an_alias_is_a_copy() -> None:
    text = "teach: {train: &same {epochs: 2}}\ndistill: {loss: kl, train: *same}\nsweep: {distill.train.epochs: [3, 4]}"
    assert [task.pipeline.teach.train.epochs for task in tasks(text).all if task.pipeline.teach] == [2, 2]


# --set


def test_settings_lie_over_every_cell() -> None:
    made = tasks(
        f"{FULL}sweep: {{distill.loss: [kl, hta-kl], seed: [0, 1]}}",
        "loss.temperature=2",
        "distill.train.epochs=7",
        "data.noise=0",
    )
    assert {(s.loss.terms[0].temperature, s.train.epochs, s.data.noise) for s in students(made)} == {
        (2.0, 7, 0.0)
    }


def test_settings_of_the_sweep_itself() -> None:
    swept = f"{FULL}sweep: {{distill.loss: [none, kl], seed: [0, 1, 2]}}"
    assert tasks(swept, "sweep.seed=[7]", "sweep.distill.model.T=[1, 3]").axes == {
        "distill.loss": ["none", "kl"], "seed": [7], "distill.model.T": [1, 3],
    }  # fmt: skip
    assert (
        tasks(FULL, "sweep={seed: [1, 2]}").axes == tasks(FULL, "sweep.seed=[1, 2]").axes == {"seed": [1, 2]}
    )


@pytest.mark.parametrize(
    "setting",
    ["seed=3", "distill.loss=kl", "loss=kl", "model.T=3", "distill.model={name: resnet20}", "distill={}"],
)
def test_settings_of_swept_keys_are_refused(setting: str) -> None:
    said = refused(
        f"{FULL}sweep: {{distill.loss: [none, kl], distill.model.T: [2, 4], seed: [0, 1]}}", setting
    )
    assert f"--set {setting!r}" in said
    assert "is swept" in said
    assert "--set 'sweep." in said


# refusals


@pytest.mark.parametrize(
    ("sweep", "hint"),
    [
        ("3", "sweep: 3 is not a mapping"),
        ("[seed]", "sweep: ['seed'] is not a mapping"),
        ("{}", "remove it"),
        ("", "sweep: None is not a mapping"),
        ("{seed: 3}", "the values of 'seed' are 3, which is not a list; write [a, b]"),
        ("{seed: abc}", "'abc', which is not a list"),
        ("{seed: {a: 1}}", "unknown distribution 'a'; known: choice, integers"),
        ("{seed: []}", "the list of 'seed' is empty"),
        ("{seed: [0, 1, 0]}", "'seed' lists the value 0 twice; remove one"),
        ("{distill.loss: [{name: kl}, kl, {name: kl}]}", "'distill.loss' lists the value kl twice; remove one"),
        ("{distill.loss: [{name: kl}, kl]}", "task 0 (distill.loss=kl) and task 1 (distill.loss=kl) resolve to the same run"),
        ("{seed: [1, '1']}", "resolve to the same run"),
        ("{sede: [0]}", "unknown key 'sede'; did you mean 'seed'?"),
        ("{distil.loss: [kl]}", "unknown key 'distil.loss'; did you mean 'distill'?"),
        ("{1: [0]}", "unknown key '1'"),
        ("{null: [0]}", "unknown key 'None'"),
        ("{'': [0]}", "unknown key ''"),
        ("{distill..loss: [kl]}", "task 0 (distill..loss=kl): distill: unknown key ''"),
        ("{sweep.seed: [0]}", "'sweep.seed' cannot be swept"),
        ("{compare: [0]}", "'compare' cannot be swept"),
        ("{schema: [1]}", "'schema' cannot be swept"),
        ("{stage: [teach]}", "'stage' cannot be swept"),
        ("{distill.stage: [teach]}", "'distill.stage' cannot be swept"),
        ("{eval.T: [1, 2]}", "needs a section 'eval'"),
        ("{distill.train.epoch: [1]}", "task 0 (distill.train.epoch=1): distill: unknown key 'train.epoch'; did you mean 'train.epochs'?"),
        ("{seed: [0, 1], distill.loss: [kl, hta_kl]}", "task 1 (seed=0, distill.loss=hta_kl): unknown loss 'hta_kl'; did you mean"),
        ("{distill.loss: [kl, 3]}", "task 1 (distill.loss=3): loss: 3 is neither a name nor a section"),
        ("{distill.loss: [{name: hta-kl, haed: strict}]}", "unknown key 'loss.haed'; did you mean 'head'?"),
        ("{distill.model.T: [2, 0]}", "task 1 (distill.model.T=0): distill: model.T: 0 is too small"),
        ("{distill.model: [resnet8, 3]}", "model: 3 is neither a name nor a section"),
        ("{distill.seed.x.y: [1]}", "distill"),
        ("{distill.loss.terms.4.weight: [1]}", "distill.loss.terms.4.weight: '4' is not an index of the list"),
        ("{distill.loss: [mine:loss]}", "add --code mine:loss"),
        ("{teach.model.T: [2]}", "model.T: 2, but a teacher has no timesteps"),
    ],
)  # fmt: skip
def test_sweeps_that_are_refused(sweep: str, hint: str) -> None:
    assert hint in refused(f"{FULL}sweep: {sweep}")


def test_a_swept_key_that_changes_nothing_is_refused() -> None:
    said = refused("teach: {seed: 1}\ndistill: {loss: kl, seed: 2}\nsweep: {seed: [0, 1]}")
    assert "task 0 (seed=0) and task 1 (seed=1) resolve to the same run" in said
    said = refused(f"{FULL}sweep: {{seed: [0, 1]}}", "teach.seed=3", "distill.seed=3")
    assert "resolve to the same run" in said


def test_sections_in_a_recipe_of_one_stage_or_that_are_not_there_are_refused() -> None:
    assert "write 'loss'" in refused("stage: distill\nsweep: {distill.loss: [kl]}")
    assert "needs a section 'distill'" in refused("teach: {}\nsweep: {distill.loss: [kl]}")
    for text in ("stage: teach", "teach: {}"):
        assert "unknown key 'loss'" in refused(f"{text}\nsweep: {{loss: [kl]}}")
    assert "needs a section 'teach'" in refused("data: glyphs\nsweep: {teach.seed: [1]}")
    assert "'tech' is not one of" in refused("stage: tech\nsweep: {seed: [1]}")
    assert "'compare' needs a section 'distill'" in refused(
        "teach: {}\nsweep: {seed: [0, 1]}\ncompare: {baseline: kl}"
    )


def test_an_error_of_the_recipe_itself_blames_no_task() -> None:
    said = refused(f"{FULL}train: {{epochs: none}}\nsweep: {{seed: [0, 1]}}")
    assert "task" not in said
    assert "train.epochs: 'none'" in said


def test_too_many_tasks() -> None:
    seeds = ", ".join(map(str, range(101)))
    assert "10201 tasks are too many; at most" in refused(
        f"{FULL}sweep: {{teach.seed: [{seeds}], distill.seed: [{seeds}]}}"
    )
    assert MAX_TASKS == 10_000


# written out


@pytest.mark.parametrize(
    ("text", "given"),
    [
        (EXAMPLE, []),
        (
            f"{FULL}sweep: {{distill.loss: [enof, {{name: hta-kl, head: cover}}, kl], seed: [0, 1]}}",
            ["train.epochs=1"],
        ),
        (f"{PIPELINE}sweep: {{loss: [kl, enof, sakd, hta-kl], seed: [0, 1]}}", []),
        (f"{PIPELINE}sweep: {{model: [{{name: resnet8}}, resnet20], model.T: [1, 2]}}", []),
        (f"{PIPELINE}sweep: {{data: [glyphs, cifar10]}}", ["data.val_fraction=0.1"]),
        (f"{PIPELINE}sweep: {{seed: [0, 1]}}", ["data.val_fraction=0.1", "model.T=2", "distill.loss=hta-kl"]),
        (f"{PIPELINE}sweep: {{distill.model: [resnet8, resnet20]}}", []),
        (f"{PIPELINE}sweep: {{train.lr: [0.1, 1.0e-2], data.noise: [0, 0.1], model.width: [null, 4]}}", []),
        (
            f"{PIPELINE}sweep: {{train: [{{epochs: 3}}, {{epochs: 4, batch_size: 10}}], data.augment: [[], "
            f"[crop]]}}",
            [],
        ),
        (f"{PIPELINE}sweep: {{teach.train: [{{epochs: 3}}, {{epochs: 4}}], train.lr: [1, 2]}}", []),
        (f"{PIPELINE}sweep: {{loss.head: [top1, strict], distill.neuron.tau: [2, 3]}}", []),
        ("distill: {}\nsweep: {distill.loss: [none, kl], seed: [0, 1]}", []),
        (
            "model: {width: 8}\nloss: enof\nneuron: {last: relu}\nteach:\ndistill: {loss: kl, model: {width: "
            "null}}\n"
            "sweep: {distill.loss: [enof, hta-kl, sakd]}",
            [],
        ),
        (
            "stage: distill\nloss: enof\nsweep: {loss: [kl, {name: hta-kl, delta: 0.2}], seed: [0, 1]}",
            ["train.epochs=1"],
        ),
        ("stage: teach\nsweep: {data: [glyphs, cifar10], model: [resnet8, resnet20]}", []),
        (
            "data: {name: glyphs, noise: 0.1, augment: [flip]}\nteach: {data: {noise: 0}}\ndistill: {loss: kl}\n"
            "sweep: {seed: [0, 1]}",
            ["data.name=cifar100", "data.classes=5"],
        ),
    ],
)
def test_it_is_written_out_as_a_recipe_of_the_same_tasks(text: str, given: list[str]) -> None:
    made = tasks(text, *given)
    text = dump_yaml(sweep_recipe(made, given))
    again = tasks(text)
    assert parse_yaml(text.encode(), "there")["sweep"] == made.axes
    assert again.all == made.all
    assert [task.line for task in again.all] == [task.line for task in made.all]


def test_one_task_is_written_in_full() -> None:
    for task in tasks(EXAMPLE).all:
        text = commented_yaml(full_recipe(task.pipeline))
        assert "  # " in text
        assert tasks(text).all[0].pipeline == task.pipeline


@pytest.mark.parametrize(
    ("sweep", "setting"),
    [
        ("{teach.train: [{epochs: 3}, {epochs: 4}]}", "train.lr=1"),
        ("{distill.loss: [kl, hta-kl]}", "loss.temperature=2"),
    ],
)
def test_settings_that_a_swept_section_replaces_are_refused(sweep: str, setting: str) -> None:
    made = tasks(f"{PIPELINE}sweep: {sweep}", setting)
    with pytest.raises(UsageError, match="its sweep set the same section; add --task K"):
        sweep_recipe(made, [setting])


@pytest.mark.parametrize(
    "value",
    [
        1,
        0.5,
        True,
        None,
        "a",
        "1e5",
        "010",
        "a: b",
        "é\n",
        [1, {"a": [None, "x"]}],
        {"a": {"b": []}},
        "x" * 300,
    ],
)
def test_flow_yaml_is_one_line_that_reads_back(value: Any) -> None:
    text = flow_yaml(value)
    assert "\n" not in text
    assert parse_value(text, "here") == value


# what the commands of one stage say of a sweep


def test_a_command_of_one_stage_says_what_it_takes_of_a_sweep() -> None:
    Path("r.yaml").write_text(
        BASE + "sweep: {distill.loss: [none, hta-kl], seed: [0, 1, 2], model.T: [2, 4], model: [resnet8], "
        "distill.loss.head: [strict]}"
    )
    (line,) = sweep_notice("r.yaml", resolve_stage("r.yaml", "distill", seed=5), "bench")
    assert line == (
        "r.yaml has a sweep of 12 tasks, which `snnkd bench` does not run: it uses distill.loss=hta-kl "
        "head=strict, seed=5, model.T=6, "
        "model=resnet20, distill.loss.head=strict; `snnkd run r.yaml "
        "--task K` runs one"
    )
    (line,) = sweep_notice("r.yaml", resolve_stage("r.yaml", "teach"), "teach")
    assert "it uses seed=100, model=resnet20;" in line
    Path("r.yaml").write_text("teach: {}\ndistill: {}\nsweep: {distill.loss: [kl]}")
    (line,) = sweep_notice("r.yaml", resolve_stage("r.yaml", "teach"), "teach")
    assert (
        "has a sweep of 1 task, which `snnkd teach` does not run: no swept key applies to this stage; `snnkd "
        "run" in line
    )
    assert sweep_notice("glyphs", resolve_stage("glyphs", "teach"), "teach") == []


def test_a_sweep_that_no_command_could_run_is_refused_by_each() -> None:
    Path("r.yaml").write_text("teach: {}\nsweep: {sede: [0]}")
    with pytest.raises(UsageError, match="did you mean 'seed'"):
        sweep_notice("r.yaml", resolve_stage("r.yaml", "teach"), "teach")
