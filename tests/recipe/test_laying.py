"""What a recipe's own keys become over another's, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from recipe.children import ONE_STAGE, PIPELINE, SWEPT, made, refused, shown, student, written

from snnkd.recipe import Flags, read_recipe, resolve_stage, resolve_tasks
from snnkd.schema.fields import to_plain


@pytest.mark.parametrize(
    "base",
    [
        PIPELINE,
        SWEPT,
        ONE_STAGE,
        "teach:\ndistill: {loss: enof, neuron: plif}\n",
        "data: cifar10\nteach: {}\n",
    ],
)
def test_an_empty_child_is_its_base(base: str) -> None:
    child = written("", base)
    assert shown(resolve_tasks(child)) == shown(resolve_tasks("base.yaml"))
    assert "extends" not in read_recipe(child)


def test_sections_are_laid_key_by_key_and_lists_replace() -> None:
    found = made(
        "data: {augment: [crop, flip], noise: 0.3}\nteach: {train: {lr: 0.5}}\neval: {split: val}\ncompare: {baseline: hta-kl}\n"
    )
    assert (found.teach.data, found.distill.data.augment) == (found.distill.data, ("crop", "flip"))
    assert (found.distill.data.classes, found.distill.data.noise) == (10, 0.3)
    assert (found.teach.train.lr, found.teach.train.epochs, found.distill.train.lr) == (0.5, 9, 0.1)
    assert (found.eval.split, found.eval.T) == ("val", 3)


def test_a_recipe_of_one_stage() -> None:
    found = student("model: {T: 3}\nseed: 5\ntrain: {epochs: 7}\n", ONE_STAGE)
    assert (found.model.name, found.model.width, found.model.T, found.seed, found.train.epochs) == (
        "vgg11",
        8,
        3,
        5,
        7,
    )
    assert (found.loss.name, found.data.noise) == ("tet", 0.2)
    assert student("stage: distill\n", ONE_STAGE) == student("", ONE_STAGE)


@pytest.mark.parametrize("place", ["loss: {}", "distill: {{loss: {}}}"])
def test_a_loss_replaces_the_whole_loss_wherever_it_stands(place: str) -> None:
    for base in (
        PIPELINE,
        PIPELINE.replace("loss: {name: hta-kl, head: strict}, ", "") + "loss: {name: hta-kl, head: strict}\n",
    ):
        assert student(place.format("{name: hta-kl, delta: 0.2}"), base).loss.terms[0].head == "top1"
        assert student(place.format("kl"), base).loss.name == "kl"
        assert student("", base).loss.terms[0].head == "strict"


@pytest.mark.parametrize("place", ["loss: {}", "distill: {{loss: {}}}"])
def test_what_belongs_to_a_loss_comes_and_goes_with_it(place: str) -> None:
    enof = "distill: {loss: enof, neuron: {last: relu, tau: 3.0}}\n"
    found = student(place.format("kl"), enof)
    assert (found.neuron.last, found.neuron.tau) == ("spike", 3.0)
    complete = "distill: {loss: kl, neuron: {last: spike}, train: {init: random, epochs: 3}}\n"
    assert student(place.format("enof"), complete).neuron.last == "relu"
    found = student(place.format("sakd"), complete)
    assert (found.train.init, found.train.epochs) == ("teacher", 3)
    own = "loss: enof\ndistill: {loss: kl, neuron: {last: relu}}\n"
    assert student("distill: {loss: tet}", own).neuron.last == "relu", (
        "it belonged to no loss of the student's"
    )
    assert "'enof' has neuron.last: relu, the recipe says 'spike'" in refused(
        f"{place.format('enof')}\nneuron: {{last: spike}}\n", complete
    )


@pytest.mark.parametrize(
    ("child", "expected"),
    [
        ("distill: {model: resnet8}", ("resnet8", None, 6)),
        ("distill: {model: {name: resnet8, width: 5}}", ("resnet8", 5, 6)),
        (
            "model: {width: 7}\ndistill: {model: resnet8}",
            ("resnet8", 7, 6),
        ),  # as in any recipe that says both
        ("distill: {model: {name: spikformer, dim: 96}}", ("spikformer", ..., 6)),
        ("teach: {model: vgg11}", ("resnet20", 4, 6)),
        ("distill: {model: {name: resnet20, T: 3}}", ("resnet20", 4, 3)),
        ("distill: {model: {T: 3}}", ("resnet20", 4, 3)),
        ("model: {T: 3}", ("resnet20", 4, 3)),
        ("model: resnet8", ("resnet8", None, 6)),
        ("model: resnet20", ("resnet20", None, 6)),
        ("model: {name: resnet8, T: 2}", ("resnet8", None, 2)),
        ("model: {name: resnet20, width: 5}", ("resnet20", 4, 6)),
        ("model: vgg11\ndistill: {model: {width: 7}}", ("vgg11", 7, 6)),
    ],
)
def test_a_model_is_added_to_or_replaced_but_for_the_timesteps(child: str, expected: tuple[Any, ...]) -> None:
    model = student(child).model
    assert (model.name, getattr(model, "width", ...), model.T) == expected


def test_what_is_said_beside_the_stages_stays_there_unless_a_stage_starts_anew() -> None:
    found = made("distill: {model: resnet8}")
    assert to_plain(found.teach.model) == {"name": "resnet20", "width": 8}
    found = made("model: {width: 7}\ndistill: {model: resnet8}")
    assert (found.teach.model.width, found.distill.model.width) == (7, 7), "as in any recipe that says both"
    found = resolve_tasks(written("distill: {model: resnet8}", f"{PIPELINE}sweep: {{model.width: [3, 5]}}"))
    assert [(task.pipeline.teach.model.width, task.pipeline.distill.model.width) for task in found.all] == [
        (3, 3),
        (5, 5),
    ]
    found = made("model: {T: 3}", "model: {name: vgg11}\nteach: {}\ndistill: {model: {T: 2, width: 4}}")
    assert to_plain(found.distill.model) == {"name": "vgg11", "T": 3, "width": 4, "pool": "avg"}


LEAKY = "model: {name: resnet20, width: 8}\nteach: {}\ndistill: {model: {T: 4}, loss: kl}\n"


@pytest.mark.parametrize(
    ("child", "base"),
    [
        ("teach: {model: resnet18}", LEAKY),
        ("model: {T: 2}\nteach: {model: resnet18}", LEAKY),
        ("teach: {model: resnet18}", LEAKY.replace("model: {T: 4}, ", "") + "sweep: {model.T: [2, 4]}\n"),
    ],
)
def test_options_of_one_network_do_not_reach_another(child: str, base: str) -> None:
    found = made(child, base)
    assert found.teach is not None
    assert found.distill is not None
    assert (found.teach.model.name, found.teach.model.width) == ("resnet18", None)  # type: ignore[attr-defined]
    assert (found.distill.model.name, found.distill.model.width) == ("resnet20", 8)  # type: ignore[attr-defined]
    assert (2 if "T: 2" in child or "sweep" in base else 4) == found.distill.model.T


def test_a_part_of_one_data_set_is_not_one_of_another() -> None:
    base = "data: {name: cifar100, classes: 20, train_per_class: 100}\nteach: {}\ndistill: {loss: kl}\n"
    found = made("data: {augment: [flip]}\ndistill: {data: {name: cifar10}}", base)
    assert found.teach is not None
    assert found.distill is not None
    assert (found.teach.data.classes, found.teach.data.augment) == (20, ("flip",))  # type: ignore[attr-defined]
    assert (found.distill.data.classes, found.distill.data.train_per_class) == (None, None)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("base", "child"), [("", ""), ("distill: ", "distill: "), ("distill: ", "")])
def test_another_run_of_a_teacher_has_another_checksum(base: str, child: str) -> None:
    """That of the base's would be looked for in its place, and found."""
    held = "teacher: {run: runs/one, sha256: 1234}"
    whole = f"distill: {{loss: kl, {held}}}\n" if base else f"distill: {{loss: kl}}\n{held}\n"
    told = "teacher: {run: runs/two}"
    found = student(f"distill: {{{told}}}" if child else told, whole)
    assert (found.teacher.run, found.teacher.sha256) == ("runs/two", None)


def test_where_there_is_one_stage_its_section_and_the_keys_beside_it_are_one() -> None:
    base = "model: {name: resnet20, width: 8}\ndistill: {model: {name: vgg11, width: 4, T: 3}, train: {epochs: 5, lr: 1}, seed: 3, neuron: plif}"  # noqa: E501
    found = student("model: {name: vgg11, T: 2}\ntrain: {epochs: 6}\nseed: 4\nneuron: {tau: 3.0}\n", base)
    assert (found.model.name, found.model.width, found.model.T, found.seed) == ("vgg11", 4, 2, 4)
    assert (found.train.epochs, found.train.lr, found.neuron.name, found.neuron.tau) == (6, 1.0, "plif", 3.0)
    found = student("model: resnet20\nneuron: if", base)
    assert (found.model.name, found.model.width, found.model.T, found.neuron.name) == (
        "resnet20",
        None,
        3,
        "if",
    )
    found = student("teach: null\ntrain: {epochs: 1}\n")
    assert found.train.epochs == 1, "the student is alone once the teacher is taken away"


def test_data_and_neurons_are_added_to_or_replaced() -> None:
    base = PIPELINE.replace("distill: {", "distill: {neuron: {name: plif, threshold: 2.0}, ")
    assert (
        student("neuron: {tau: 3.0}", base).neuron
        == student("distill: {neuron: {name: plif, tau: 3.0}}", base).neuron
    )
    assert (
        student("neuron: {tau: 3.0}", base).neuron.threshold,
        student("neuron: plif", base).neuron.threshold,
    ) == (2.0, 1.0)
    assert student("distill: {neuron: {name: if}}", base).neuron.threshold == 1.0
    found = made("data: cifar10\n")
    assert found.teach.data == found.distill.data
    assert (found.teach.data.name, found.teach.data.augment) == (
        "cifar10",
        resolve_stage(written("", "stage: teach\ndata: cifar10"), "teach", Flags()).data.augment,
    )
    assert made("data: {name: glyphs, size: 8}").teach.data.classes == 10
    stages = "data: {name: cifar10}\nteach: {data: {augment: []}}\ndistill: {data: {augment: [flip]}}"
    found = made("data: cifar100", stages)
    assert found.teach.data.augment == found.distill.data.augment != (), (
        "options of the data set that was replaced"
    )


def test_the_timesteps_were_for_other_data_where_these_are_events() -> None:
    assert student("data: {name: n-mnist, frames: 7}").model.T == 7
    assert student("distill: {data: {name: n-mnist, frames: 7}}").model.T == 7
    assert student("data: {name: n-mnist, frames: 7}\nmodel: {T: 7}").model.T == 7
    assert "5 differs from data.frames, 7" in refused("data: {name: n-mnist, frames: 7}\nmodel: {T: 5}")
    assert student("data: cifar10").model.T == 6


def test_teachers() -> None:
    plain = "distill: {teacher: {run: a.pt, model: {name: resnet20, width: 8}, size: 16}}"
    assert to_plain(student("teacher: {run: b.pt}", plain).teacher) == {
        "run": "b.pt",
        "model": {"name": "resnet20", "width": 8},
        "size": 16,
    }
    assert to_plain(student("distill: {teacher: {model: {width: 4}}}", plain).teacher)["model"] == {
        "name": "resnet20",
        "width": 4,
    }
    assert to_plain(student("distill: {teacher: {model: resnet8}}", plain).teacher)["model"] == {
        "name": "resnet8"
    }
    assert to_plain(student("teacher: runs/x", plain).teacher) == {"run": "runs/x"}
    assert to_plain(student("teacher: null", plain).teacher) == {}
    assert to_plain(student("distill: {teacher: {run: runs/y}}", "distill: {teacher: runs/x}").teacher) == {
        "run": "runs/y"
    }


def test_what_a_stage_says_wins_over_a_key_beside_it_as_in_any_recipe() -> None:
    found = made("seed: 3\ntrain: {lr: 0.5}")
    assert (found.teach.seed, found.distill.seed, found.teach.train.lr) == (100, 3, 0.5)


@pytest.mark.parametrize("child", ["train: {epochs: 3}", "train: {epochs: 3}\ndistill: {train: {epochs: 4}}"])
def test_a_key_beside_the_stages_that_changes_nothing_is_refused(child: str) -> None:
    said = refused(child)
    assert "child.yaml: train.epochs: 3 would change nothing, because what base.yaml says for teach" in said
    assert "write it in the section of the stage that is meant" in said


def test_such_a_key_with_the_same_value_is_not() -> None:
    base = "teach: {model: {name: resnet20, width: 4}}\ndistill: {model: {name: resnet20, width: 8}}"
    assert student("model: {name: resnet20, T: 3}", base).model.T == 3
    assert "model.name: 'vgg11' would change nothing" in refused("model: vgg11", base)


def test_null_takes_a_section_away() -> None:
    found = made("eval: null\ntrain: null\ndistill: {loss: null}\n")
    assert (
        found.eval,
        found.distill.loss.name,
        found.distill.train.epochs,
        found.distill.train.batch_size,
    ) == (None, "none", 5, 128)
    assert made("teach: null").teach is None
    assert made("distill: null").distill is None
    assert student("loss: null").loss.name == "none"
    assert student("distill: {model: null}").model.width == 8, "the shared one is left"
    assert student("neuron: null", "neuron: plif\ndistill: {neuron: {tau: 3.0}}").neuron.name == "lif"
    assert resolve_tasks(written("compare: null\nsweep: null", SWEPT)).compare is None


def test_null_within_a_section_is_a_value() -> None:
    assert student("distill: {model: {width: null}}").model.width is None
    assert student("", "teach: {}\ndistill: {}\ntrain: {epochs: 3}\n").train.epochs == 3
    assert "seed: None" in refused("seed: null")


@pytest.mark.parametrize("key", ["compare", "loss", "teacher", "distill.neuron", "teach.model"])
def test_null_where_the_base_says_nothing_is_refused(key: str) -> None:
    stage, _, inner = key.rpartition(".")
    said = refused(
        f"{stage}: {{{inner}: null}}" if stage else f"{key}: null",
        PIPELINE.replace("loss: {name: hta-kl, head: strict}, ", ""),
    )
    assert (
        f"child.yaml: {key}: null takes away what base.yaml says there, and it says nothing; remove the line"
        in said
    )


@pytest.mark.parametrize(
    ("child", "base", "said"),
    [
        ("stage: teach", ONE_STAGE, "stage: 'teach', and base.yaml, which it extends, is of stage 'distill'"),
        (
            "distill: {seed: 1}",
            ONE_STAGE,
            "distill: a pipeline's section, and base.yaml, which it extends, is a recipe of one stage ('distill')",
        ),
        ("teach: {}", ONE_STAGE, "teach: a pipeline's section"),
        ("export: {}", ONE_STAGE, "export: a pipeline's section"),
        (
            "stage: distill",
            PIPELINE,
            "stage: 'distill', and base.yaml, which it extends, is a pipeline (it has the section 'teach')",
        ),
        ("distil: {}", PIPELINE, "unknown key 'distil'; did you mean 'distill'?"),
        ("train: {epoch: 3}", PIPELINE, "unknown key 'train.epoch'; did you mean 'train.epochs'?"),
        (
            "",
            PIPELINE.replace("augment", "augmnt"),
            "unknown key 'data.augmnt'; did you mean 'data.augment'?",
        ),
        ("", "seed: 1", "names no stage"),
        ("distill: 3", PIPELINE, "distill: 3 is not a mapping"),
        ("distill: {seed: 1}", "distill: 3", "distill: 3 is not a mapping"),
        ("extends_: x", PIPELINE, "unknown key 'extends_'"),
        ("distill: {extends: x.yaml}", PIPELINE, "unknown key 'extends'"),
    ],
)
def test_forms_and_keys_that_are_refused(child: str, base: str, said: str) -> None:
    assert said in refused(child, base)
