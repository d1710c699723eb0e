"""`extends:`: what a recipe's own keys become over another's, chains of files, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from snnkd.errors import PlaceError, RequestError, SnnkdError
from snnkd.recipe import Flags, Pipeline, read_recipe, resolve_stage, resolve_tasks, shipped
from snnkd.recipe.extends import MOST_BASES
from snnkd.recipe.laying import lay
from snnkd.recipe.shipped import first_comment
from snnkd.recipe.sweep import Tasks, not_swept, tasks_of
from snnkd.recipe.text import to_plain

PIPELINE = """\
data: {name: glyphs, classes: 10, augment: []}
train: {epochs: 2, batch_size: 50}
model: {name: resnet20, T: 6, width: 8}
teach: {seed: 100, train: {epochs: 9}}
distill: {model: {width: 4}, loss: {name: hta-kl, head: strict}, train: {epochs: 5}}
eval: {T: 3}
"""
SWEPT = PIPELINE + "sweep: {distill.loss: [none, kl], seed: [0, 1, 2], distill.model.T: [2, 4]}\ncompare: {baseline: kl}\n"
ONE_STAGE = "stage: distill\ndata: {name: glyphs, noise: 0.2}\nmodel: {name: vgg11, width: 8, T: 2}\nloss: tet\n"


def written(child: str, base: str = PIPELINE) -> str:
    Path("base.yaml").write_text(base)
    Path("child.yaml").write_text(f"extends: base.yaml\n{child}")
    return "child.yaml"


def made(child: str, base: str = PIPELINE) -> Pipeline:
    """The first task of `child` over `base`."""
    return resolve_tasks(written(child, base)).all[0].pipeline


def student(child: str, base: str = PIPELINE) -> Any:
    return made(child, base).distill


def axes(child: str, base: str = SWEPT) -> dict[str, list[Any]]:
    return resolve_tasks(written(child, base)).axes


def refused(child: str, base: str = PIPELINE, error: type[SnnkdError] = RequestError) -> str:
    with pytest.raises(SnnkdError) as caught:
        resolve_tasks(written(child, base))
    assert type(caught.value) is error, caught.value
    assert str(caught.value).splitlines() == [str(caught.value)]
    return str(caught.value)


def shown(tasks: Tasks) -> list[str]:
    return [f"{task.line} {task.pipeline!r}" for task in tasks.all]


# keys


@pytest.mark.parametrize(
    "base", [PIPELINE, SWEPT, ONE_STAGE, "teach:\ndistill: {loss: enof, neuron: plif}\n", "data: cifar10\nteach: {}\n"]
)
def test_an_empty_child_is_its_base(base: str) -> None:
    child = written("", base)
    assert shown(resolve_tasks(child)) == shown(resolve_tasks("base.yaml"))
    assert "extends" not in read_recipe(child)


def test_sections_are_laid_key_by_key_and_lists_replace() -> None:
    found = made("data: {augment: [crop, flip], noise: 0.3}\nteach: {train: {lr: 0.5}}\neval: {split: val}\ncompare: {baseline: hta-kl}\n")
    assert (found.teach.data, found.distill.data.augment) == (found.distill.data, ("crop", "flip"))
    assert (found.distill.data.classes, found.distill.data.noise) == (10, 0.3)
    assert (found.teach.train.lr, found.teach.train.epochs, found.distill.train.lr) == (0.5, 9, 0.1)
    assert (found.eval.split, found.eval.T) == ("val", 3)


def test_a_recipe_of_one_stage() -> None:
    found = student("model: {T: 3}\nseed: 5\ntrain: {epochs: 7}\n", ONE_STAGE)
    assert (found.model.name, found.model.width, found.model.T, found.seed, found.train.epochs) == ("vgg11", 8, 3, 5, 7)
    assert (found.loss.name, found.data.noise) == ("tet", 0.2)
    assert student("stage: distill\n", ONE_STAGE) == student("", ONE_STAGE)


@pytest.mark.parametrize("place", ["loss: {}", "distill: {{loss: {}}}"])
def test_a_loss_replaces_the_whole_loss_wherever_it_stands(place: str) -> None:
    for base in (PIPELINE, PIPELINE.replace("loss: {name: hta-kl, head: strict}, ", "") + "loss: {name: hta-kl, head: strict}\n"):
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
    assert student("distill: {loss: tet}", own).neuron.last == "relu", "it belonged to no loss of the student's"
    assert "'enof' has neuron.last: relu, the recipe says 'spike'" in refused(
        f"{place.format('enof')}\nneuron: {{last: spike}}\n", complete
    )


@pytest.mark.parametrize(
    ("child", "expected"),
    [
        ("distill: {model: resnet8}", ("resnet8", None, 6)),
        ("distill: {model: {name: resnet8, width: 5}}", ("resnet8", 5, 6)),
        ("model: {width: 7}\ndistill: {model: resnet8}", ("resnet8", 7, 6)),  # as in any recipe that says both
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
    assert [(task.pipeline.teach.model.width, task.pipeline.distill.model.width) for task in found.all] == [(3, 3), (5, 5)]
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
    assert (found.model.name, found.model.width, found.model.T, found.neuron.name) == ("resnet20", None, 3, "if")
    found = student("teach: null\ntrain: {epochs: 1}\n")
    assert found.train.epochs == 1, "the student is alone once the teacher is taken away"


def test_data_and_neurons_are_added_to_or_replaced() -> None:
    base = PIPELINE.replace("distill: {", "distill: {neuron: {name: plif, threshold: 2.0}, ")
    assert student("neuron: {tau: 3.0}", base).neuron == student("distill: {neuron: {name: plif, tau: 3.0}}", base).neuron
    assert (student("neuron: {tau: 3.0}", base).neuron.threshold, student("neuron: plif", base).neuron.threshold) == (2.0, 1.0)
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
    assert found.teach.data.augment == found.distill.data.augment != (), "options of the data set that was replaced"


def test_the_timesteps_were_for_other_data_where_these_are_events() -> None:
    assert student("data: {name: n-mnist, frames: 7}").model.T == 7
    assert student("distill: {data: {name: n-mnist, frames: 7}}").model.T == 7
    assert student("data: {name: n-mnist, frames: 7}\nmodel: {T: 7}").model.T == 7
    assert "5 timesteps for 7 event frames" in refused("data: {name: n-mnist, frames: 7}\nmodel: {T: 5}")
    assert student("data: cifar10").model.T == 6


def test_teachers() -> None:
    plain = "distill: {teacher: {run: a.pt, model: {name: resnet20, width: 8}, size: 16}}"
    assert to_plain(student("teacher: {run: b.pt}", plain).teacher) == {
        "run": "b.pt",
        "model": {"name": "resnet20", "width": 8},
        "size": 16,
    }
    assert to_plain(student("distill: {teacher: {model: {width: 4}}}", plain).teacher)["model"] == {"name": "resnet20", "width": 4}
    assert to_plain(student("distill: {teacher: {model: resnet8}}", plain).teacher)["model"] == {"name": "resnet8"}
    assert to_plain(student("teacher: runs/x", plain).teacher) == {"run": "runs/x"}
    assert to_plain(student("teacher: null", plain).teacher) == {}
    assert to_plain(student("distill: {teacher: {run: runs/y}}", "distill: {teacher: runs/x}").teacher) == {"run": "runs/y"}


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


# null


def test_null_takes_a_section_away() -> None:
    found = made("eval: null\ntrain: null\ndistill: {loss: null}\n")
    assert (found.eval, found.distill.loss.name, found.distill.train.epochs, found.distill.train.batch_size) == (None, "none", 5, 128)
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
    said = refused(f"{stage}: {{{inner}: null}}" if stage else f"{key}: null", PIPELINE.replace("loss: {name: hta-kl, head: strict}, ", ""))
    assert f"child.yaml: {key}: null takes away what base.yaml says there, and it says nothing; remove the line" in said


# sweeps


def test_axes_are_laid_by_key_in_the_bases_order() -> None:
    assert list(axes("sweep: {distill.train.lr: [1, 2], seed: [7]}").items()) == [
        ("distill.loss", ["none", "kl"]), ("seed", [7]), ("distill.model.T", [2, 4]), ("distill.train.lr", [1, 2]),
    ]  # fmt: skip
    assert list(axes("sweep: {seed: null}")) == ["distill.loss", "distill.model.T"]
    assert axes("sweep: null\ncompare: null") == {}
    assert axes("sweep: {seed: null, distill.loss: null, distill.model.T: null}\ncompare: null") == {}
    assert axes("sweep: {seed: [1, 2]}", PIPELINE) == {"seed": [1, 2]}
    assert axes("seed: 9\nsweep: {seed: [1, 2]}")["seed"] == [1, 2], "in one file as in any recipe"


FIXED = {
    "distill: {loss: kl}": "distill.loss",
    "loss: kl": "distill.loss",
    "loss: null": "distill.loss",
    "loss: {name: hta-kl, head: cover}": "distill.loss",
    "seed: 1": "seed",
    "model: {T: 4}": "distill.model.T",
    "distill: {model: {T: 4}}": "distill.model.T",
    "distill: null": "distill.loss",
}


@pytest.mark.parametrize(("child", "axis"), FIXED.items())
def test_a_key_that_the_base_sweeps_may_not_be_fixed_beside_it(child: str, axis: str) -> None:
    said = refused(child, SWEPT)
    assert said.startswith(f"child.yaml: {child.partition(':')[0]}")
    assert f"base.yaml sweeps '{axis}', and every task would overwrite it; take that out of the sweep (sweep: {{{axis}: null}})" in said


@pytest.mark.parametrize(("child", "axis"), list(FIXED.items())[:-1])
def test_the_remedy_of_that_is_one(child: str, axis: str) -> None:
    assert axis not in axes(f"{child}\nsweep: {{{axis}: null}}\ncompare: {{baseline: null}}")


@pytest.mark.parametrize(
    ("child", "sweep", "fixed"),
    [
        ("distill: {loss: kl}", "loss: [none, kl]", True),
        ("teach: {seed: 7}", "seed: [0, 1]", False),
        ("distill: {seed: 7}", "teach.seed: [0, 1]", False),
        ("seed: 7", "distill.seed: [0, 1]", True),  # teach.seed is the base's own: it would change nothing
        ("data: {noise: 0.3}", "data: [glyphs, cifar10]", True),
        ("data: {noise: 0.3}", "data.classes: [5, 10]", False),
        ("model: {T: 3}", "distill.model: [resnet8, resnet20]", False),
        ("model: {width: 3}", "distill.model: [resnet8, resnet20]", False),
        ("distill: {model: {width: 3}}", "distill.model: [resnet8, resnet20]", True),
        ("model: resnet8", "distill.model.T: [1, 2]", False),
        ("loss: {name: hta-kl, delta: 0.3}", "distill.loss.head: [strict, cover]", False),
        ("loss: {name: hta-kl, head: strict}", "distill.loss.head: [strict, cover]", True),
        ("distill: {loss: {terms: [{divergence: hta-kl, head: strict}]}}", "distill.loss.terms.0.head: [top1, cover]", True),
        ("eval: {T: 2}", "eval.T: [1, 3]", True),
        ("eval: null", "eval.T: [1, 3]", True),
        ("data: {augment: [crop]}", "data.augment: [[], [flip]]", True),
        ("train: {lr: 0.3}", "train.weight_decay: [0, 1]", False),
    ],
)
def test_what_is_fixed_beside_a_swept_key(child: str, sweep: str, fixed: bool) -> None:
    base = f"{PIPELINE}sweep: {{{sweep}}}\n"
    if not fixed:
        assert len(axes(child, base)) == 1
    elif child == "seed: 7":
        assert "seed: 7 would change nothing, because what base.yaml says for teach and distill wins" in refused(child, base)
    else:
        assert f"base.yaml sweeps '{sweep.partition(':')[0]}'" in refused(child, base)


def test_what_a_child_fixes_is_in_every_task_of_the_bases_sweep() -> None:
    found = resolve_tasks(
        written("loss: {name: hta-kl, delta: 0.3}\nmodel: resnet8", f"{PIPELINE}sweep: {{distill.loss.head: [strict, cover]}}")
    )
    assert [(t.pipeline.distill.loss.terms[0].head, t.pipeline.distill.loss.terms[0].delta) for t in found.all] == [
        ("strict", 0.3),
        ("cover", 0.3),
    ]
    found = resolve_tasks(written("model: {T: 3}", f"{PIPELINE}sweep: {{distill.model: [resnet8, resnet20]}}"))
    assert [(t.pipeline.distill.model.name, t.pipeline.distill.model.T) for t in found.all] == [("resnet8", 3), ("resnet20", 3)]


@pytest.mark.parametrize(
    ("child", "base", "said"),
    [
        ("sweep: {sede: null}", SWEPT, "null takes 'sede' out of the base's sweep, and base.yaml does not sweep it; did you mean 'seed'?"),
        ("sweep: {seed: null}", PIPELINE, "and base.yaml does not sweep it; it has no sweep"),
        ("sweep: null", PIPELINE, "null takes the base's sweep away, and base.yaml has none"),
        ("sweep: 3", SWEPT, "sweep: 3 is not a mapping"),
        ("sweep: {seed: [1]}", PIPELINE + "sweep: 3", "sweep: 3 is not a mapping"),
        ("", PIPELINE + "sweep:", "sweep: None is not a mapping"),
        ("sweep: {}", PIPELINE, "sweep: {} is not a mapping"),
        ("sweep: {seed: 3}", SWEPT, "the values of 'seed' are 3"),
        ("teach: null\nsweep: {teach.seed: [1, 2]}", SWEPT, "needs a section 'teach'"),
    ],
)
def test_sweeps_that_are_refused(child: str, base: str, said: str) -> None:
    assert said in refused(child, base)


# files


def test_names_and_paths_are_looked_up_from_the_file_that_says_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = tmp_path / "shelf"
    (shelf / "deep").mkdir(parents=True)
    (shelf / "top.yaml").write_text("extends: deep/mid.yml\nseed: 3\n")
    (shelf / "deep" / "mid.yml").write_text("extends: ../root.yaml\ntrain: {momentum: 0.5}\n")
    (shelf / "root.yaml").write_text("extends: glyphs\ndata: {noise: 0.25}\n")
    for name in ("shelf/top.yaml", f"{shelf}/top.yaml"):
        found = resolve_tasks(name).all[0].pipeline
        assert (found.distill.seed, found.teach.train.momentum, found.distill.data.noise, found.distill.train.epochs) == (3, 0.5, 0.25, 16)


def test_shipped_recipes_extend_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "full.yaml").write_text(PIPELINE)
    (folder / "short.yaml").write_text("extends: full\ntrain: {lr: 0.5}\n")
    (folder / "shorter.yaml").write_text("extends: ./short.yaml\nseed: 7\n")
    monkeypatch.setattr(shipped, "recipes_folder", lambda: folder)
    found = resolve_tasks("shorter").all[0].pipeline
    assert (found.distill.seed, found.distill.train.lr) == (7, 0.5)
    Path("child.yaml").write_text("extends: shortr")
    with pytest.raises(RequestError, match=r"^child.yaml: extends: unknown recipe 'shortr'; did you mean 'shorter'\?$"):
        read_recipe("child.yaml")


def chain(count: int) -> str:
    """A recipe with so many bases: each changes the seed, every second one the learning rate."""
    Path("0.yaml").write_text(PIPELINE)
    for i in range(1, count + 1):
        Path(f"{i}.yaml").write_text(f"extends: {i - 1}.yaml\nseed: {i}\n" + (f"train: {{lr: {i}}}\n" if i % 2 else ""))
    return f"{count}.yaml"


def test_a_chain_is_laid_from_its_base() -> None:
    found = resolve_tasks(chain(MOST_BASES)).all[0].pipeline.distill
    assert (found.seed, found.train.lr) == (10, 9.0)
    with pytest.raises(RequestError, match=r"^1.yaml: extends: 0.yaml would be base 11 of 11.yaml; at most 10 follow each other$"):
        read_recipe(chain(MOST_BASES + 1))


def test_circles_are_refused() -> None:
    Path("a.yaml").write_text("extends: b.yaml")
    Path("b.yaml").write_text("extends: ./sub/../a.yaml")
    Path("sub").mkdir()
    with pytest.raises(
        RequestError, match=r"^b.yaml: extends: a.yaml -> b.yaml -> sub/../a.yaml is a circle; one of them must stand by itself$"
    ):
        read_recipe("a.yaml")
    Path("own.yaml").write_text("extends: own.yaml")
    with pytest.raises(RequestError, match=r"own\.yaml -> own\.yaml is a circle"):
        read_recipe("./own.yaml")


@pytest.mark.parametrize("value", ["3", "null", "[a.yaml]", "{a: 1}", "true", '"a\\0.yaml"', '"a\\nb.yaml"'])
def test_extends_that_is_no_name(value: str) -> None:
    Path("child.yaml").write_text(f"extends: {value}\n{PIPELINE}")
    with pytest.raises(RequestError, match=r"^child.yaml: extends: .* is not the name of a recipe or a path to one$"):
        read_recipe("child.yaml")


@pytest.mark.parametrize(
    ("value", "error", "said"),
    [
        ("glyhps", RequestError, "child.yaml: extends: unknown recipe 'glyhps'; did you mean 'glyphs'?"),
        ("base", RequestError, "child.yaml: extends: unknown recipe 'base'; for the file write ./base"),
        ("zzzzzzzz", RequestError, "child.yaml: extends: unknown recipe 'zzzzzzzz'; "),
        ("''", RequestError, "child.yaml: extends: unknown recipe ''; "),
        ("gone.yaml", PlaceError, "child.yaml extends gone.yaml: gone.yaml: no such file or directory"),
        ("sub/gone", PlaceError, "child.yaml extends sub/gone: sub/gone: no such file or directory"),
        ("./", PlaceError, "child.yaml extends ./: .: is a directory"),
        (f"./{'x' * 300}", PlaceError, "file name too long"),
        (
            "tagged.yaml",
            PlaceError,
            "child.yaml extends tagged.yaml: tagged.yaml: line 1: the tag '!!python/none' is not allowed".replace(
                "!!", "tag:yaml.org,2002:"
            ),
        ),
        ("list.yaml", PlaceError, "child.yaml extends list.yaml: list.yaml: a recipe is a mapping of keys to sections, this is list"),
        ("onward.yaml", PlaceError, "onward.yaml extends gone.yaml: gone.yaml: no such file or directory"),
    ],
)
def test_bases_that_cannot_be_read(value: str, error: type[SnnkdError], said: str) -> None:
    for name, content in {
        "base": PIPELINE,
        "tagged.yaml": "a: !!python/none x",
        "list.yaml": "[1]",
        "onward.yaml": "extends: gone.yaml",
    }.items():
        Path(name).write_text(content)
    Path("child.yaml").write_text(f"extends: {value}\n")
    with pytest.raises(SnnkdError) as caught:
        read_recipe("child.yaml")
    assert type(caught.value) is error
    assert said in str(caught.value)
    assert len(str(caught.value)) < 700


# forms


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
        ("stage: distill", PIPELINE, "stage: 'distill', and base.yaml, which it extends, is a pipeline (it has the section 'teach')"),
        ("distil: {}", PIPELINE, "unknown key 'distil'; did you mean 'distill'?"),
        ("train: {epoch: 3}", PIPELINE, "unknown key 'train.epoch'; did you mean 'train.epochs'?"),
        ("", PIPELINE.replace("augment", "augmnt"), "unknown key 'data.augmnt'; did you mean 'data.augment'?"),
        ("", "seed: 1", "names no stage"),
        ("distill: 3", PIPELINE, "distill: 3 is not a mapping"),
        ("distill: {seed: 1}", "distill: 3", "distill: 3 is not a mapping"),
        ("extends_: x", PIPELINE, "unknown key 'extends_'"),
        ("distill: {extends: x.yaml}", PIPELINE, "unknown key 'extends'"),
    ],
)
def test_forms_and_keys_that_are_refused(child: str, base: str, said: str) -> None:
    assert said in refused(child, base)


def test_a_base_may_be_a_part() -> None:
    part = "data: {classes: 10}\nsweep: {seed: [1, 2]}\n"
    found = resolve_tasks(written("teach: {}\ndistill: {loss: kl}", part))
    assert ([task.pipeline.distill.seed for task in found.all], found.all[0].pipeline.teach.data.classes) == ([1, 2], 10)
    assert resolve_tasks(written("stage: teach", part)).all[1].pipeline.teach.seed == 2


def test_code_in_a_base_is_refused_as_in_any_recipe() -> None:
    for base in ("distill: {loss: 'mine:f'}", "data: 'mine:f'\ndistill: {}", "distill: {}\nsweep: {distill.loss: ['mine:f']}"):
        Path("child.yaml").write_text("extends: mid.yaml")
        Path("mid.yaml").write_text("extends: base.yaml")
        Path("base.yaml").write_text(base)
        with pytest.raises(RequestError, match="'mine:f' is code; it runs only when the command line names it: add --code mine:f"):
            resolve_tasks("child.yaml")
    assert student("loss: kl", "distill: {loss: 'mine:f'}").loss.name == "kl", "what is replaced runs nowhere"


def test_reading_does_not_import_torch() -> None:
    code = (
        f"import sys; from snnkd.recipe import resolve_tasks; resolve_tasks({written('loss: null')!r}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# properties: small recipes in which each key may stand beside the stages or in one

PLAIN = {"seed": st.integers(0, 3), "train.epochs": st.integers(1, 4), "train.lr": st.sampled_from([0.1, 0.2, 0.3]),
         "data.noise": st.sampled_from([0.1, 0.2]), "model.width": st.integers(2, 5),
         "model.name": st.sampled_from(["resnet8", "resnet20", "vgg11"])}  # fmt: skip
STUDENTS = {
    **PLAIN,
    "model.T": st.integers(2, 5),
    "neuron.tau": st.sampled_from([2.0, 3.0]),
    "loss": st.sampled_from(["none", "kl", "tet"]),
}
SAME = {path: values for path, values in STUDENTS.items() if not path.endswith(".name")}
Said = dict[str, Any]


def nested(said: Said) -> Said:
    made: Said = {}
    for path, value in said.items():
        *parents, last = path.split(".")
        holder = made
        for key in parents:
            holder = holder.setdefault(key, {})
        holder[last] = value
    return made


def keys(values: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Said]:
    """Some of them, often few: with many, nearly every two recipes would be refused."""
    return st.sets(st.sampled_from(sorted(values)), max_size=4).flatmap(
        lambda chosen: st.fixed_dictionaries({k: values[k] for k in sorted(chosen)})
    )


@st.composite
def pipelines(draw: st.DrawFn) -> tuple[Said, dict[str, Said]]:
    """What is said by dotted path, beside the stages and in each of them."""
    return draw(keys(STUDENTS)), {"teach": draw(keys(PLAIN)), "distill": draw(keys(STUDENTS))}


def document(recipe: tuple[Said, dict[str, Said]]) -> Said:
    return {**nested(recipe[0]), **{stage: nested(said) for stage, said in recipe[1].items()}}


def laid(base: Said, own: Said) -> tuple[Said | None, str]:
    """What the two make together, or why not."""
    try:
        return lay(base, own, "base"), ""
    except RequestError as error:
        return None, str(error)


def value_at(stage: Any, path: str) -> Any:
    held = to_plain(stage)
    for key in path.split("."):
        held = held.get(key)
    return held["name"] if path == "loss" else held


@settings(max_examples=300, deadline=None)
@given(pipelines(), pipelines())
def test_nothing_is_said_in_vain(base: tuple[Said, dict[str, Said]], own: tuple[Said, dict[str, Said]]) -> None:
    whole, refusal = laid(document(base), document(own))
    if whole is None:
        path = refusal.partition(":")[0]
        assert "would change nothing" in refusal
        in_own, in_base = ({stage for stage in said if path in said[stage]} for said in (own[1], base[1]))
        assert in_own | in_base == {"teach", "distill"}
        assert in_base
        return
    found = tasks_of(whole, "whole").all[0].pipeline
    stages = {"teach": found.teach, "distill": found.distill}
    for stage, said in own[1].items():
        assert {path: value_at(stages[stage], path) for path in said} == said
    for path, value in own[0].items():
        takers = [stage for stage in stages if path in (PLAIN if stage == "teach" else STUDENTS)]
        if any(path not in own[1][stage] for stage in takers):
            assert value in [value_at(stages[stage], path) for stage in takers]
    before = tasks_of(document(base), "base").all[0].pipeline
    for stage, held in stages.items():  # options of another network do not reach this one; T does
        now, then = to_plain(held)["model"], to_plain(getattr(before, stage))["model"]
        said = own[0] | own[1][stage]
        assert "width" not in now or now["name"] == then["name"] or "model.width" in said
        assert now.get("T") == said.get("model.T", then.get("T")) or stage == "teach"
    for stage, held in stages.items():  # what the child leaves alone stays
        for path, value in base[1][stage].items():
            anew = any(f"{path.partition('.')[0]}.name" in said for said in (own[0], *own[1].values()))
            if path not in own[1][stage] and path not in own[0] and not anew:
                assert value_at(held, path) == value


@settings(max_examples=60, deadline=None)
@given(keys(SAME), keys(SAME), keys(SAME))
def test_laying_is_associative_where_no_section_starts_anew(first: Said, second: Said, third: Said) -> None:
    a, b, c = ({"stage": "distill", **nested(each)} for each in (first, second, third))
    assert lay(lay(a, b, "ab"), c, "c") == lay(a, lay(b, c, "bc"), "c")
    assert lay(a, {}, "a") == a
    assert lay(a, a, "a") == a


@settings(max_examples=60, deadline=None)
@given(pipelines(), st.lists(st.sampled_from(["seed", "distill.train.lr", "data.noise"]), unique=True))
def test_nothing_over_a_recipe_is_that_recipe(base: tuple[Said, dict[str, Said]], swept: list[str]) -> None:
    whole = document(base) | ({"sweep": {key: [1, 2] for key in swept}} if swept else {})
    assert lay(whole, {}, "base") == whole


ANY_KEY = st.sampled_from(
    ["name", "T", "data", "model", "neuron", "teacher", "loss", "train", "teach", "distill", "sweep", "eval", "compare", "stage", "seed",
     "schema", "epochs", "terms", "head", "run", "distill.loss", "model.T", "", "..", "extends"]
) | st.integers(0, 1)  # fmt: skip
ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 5) | st.sampled_from(["kl", "resnet20", "runs/x", "mine:f", "n-mnist", "", "npz:a"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(ANY_KEY, inner, max_size=3),
    max_leaves=6,
)
DOCUMENTS = st.dictionaries(ANY_KEY.filter(lambda key: isinstance(key, str) and key != "extends"), ODD, max_size=6)


@settings(max_examples=300, deadline=None)
@given(DOCUMENTS, DOCUMENTS)
def test_any_two_documents_are_laid_or_refused_in_one_line(base: Said, own: Said) -> None:
    before = yaml.safe_dump([base, own])
    whole, refusal = laid(base, own)
    if whole is not None:
        try:
            tasks_of(whole, "whole")
        except RequestError as error:
            refusal = str(error)
    assert "\n" not in refusal
    assert yaml.safe_dump([base, own]) == before, "both stay as they are"


# what the commands of one stage say of a sweep, and what a recipe says of itself


def test_a_command_of_one_stage_says_what_it_takes_of_a_sweep() -> None:
    Path("r.yaml").write_text(
        PIPELINE + "sweep: {distill.loss: [none, kl], seed: [0, 1, 2], model.T: [2, 4], model: [resnet8], distill.loss.head: [strict]}"
    )
    (line,) = not_swept("r.yaml", resolve_stage("r.yaml", "distill", Flags(seed=5)), "bench")
    assert line == (
        "r.yaml has a sweep of 12 tasks, which `snnkd bench` does not run: here distill.loss=hta-kl head=strict, seed=5, model.T=6, "
        "model=resnet20, distill.loss.head=strict, as its sections and the flags say; `snnkd run r.yaml --task K` runs one"
    )
    (line,) = not_swept("r.yaml", resolve_stage("r.yaml", "teach", Flags()), "teach")
    assert "here seed=100, model=resnet20, as" in line
    Path("r.yaml").write_text("teach: {}\ndistill: {}\nsweep: {distill.loss: [kl]}")
    (line,) = not_swept("r.yaml", resolve_stage("r.yaml", "teach", Flags()), "teach")
    assert "has a sweep of 1 task, which `snnkd teach` does not run: none of its keys is this stage's; `snnkd run" in line
    assert not_swept("glyphs", resolve_stage("glyphs", "teach", Flags()), "teach") == []


def test_a_sweep_that_no_command_could_run_is_refused_by_each() -> None:
    Path("r.yaml").write_text("teach: {}\nsweep: {sede: [0]}")
    with pytest.raises(RequestError, match="did you mean 'seed'"):
        not_swept("r.yaml", resolve_stage("r.yaml", "teach", Flags()), "teach")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("# snnkd run x\n# What it is. And more.\n# Further.\nseed: 1\n# not this.", "What it is. And more."),
        ("# snnkd run x --task K\n#   sbatch --array=0-3 job.sh\n#\n# Told on\n#   two lines.\nseed: 1", "Told on two lines."),
        ("# First, by He et al.\n#\n# Then.\nseed: 1", "First, by He et al."),
        ("# Without an end\n#\n# Other.\nseed: 1", "Without an end"),
        ("seed: 1\n# inside.", ""),
        ("", ""),
    ],
)
def test_what_a_shipped_recipe_says_of_itself(text: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.yaml").write_text(text)
    monkeypatch.setattr(shipped, "recipes_folder", lambda: tmp_path)
    assert first_comment("x") == told
