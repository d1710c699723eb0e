"""What a recipe that extends another becomes, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from recipe.children import ONE_STAGE, PIPELINE, SWEPT, made, refused, shown, student, written

from snnkd.recipe import read_recipe, resolve_stage, resolve_tasks
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


def test_mappings_merge_and_everything_else_replaces() -> None:
    found = made(
        "data: {augment: [crop, flip], noise: 0.3}\nteach: {train: {lr: 0.5}}\neval: {split: val}\ncompare: "
        "{baseline: hta-kl}\n"
    )
    assert (found.teach.data, found.distill.data.augment) == (found.distill.data, ("crop", "flip"))
    assert (found.distill.data.classes, found.distill.data.noise) == (10, 0.3)
    assert (found.teach.train.lr, found.teach.train.epochs, found.distill.train.lr) == (0.5, 9, 0.1)
    assert (found.eval.split, found.eval.T) == ("val", 3)
    assert made("teach: {seed: 3}", "teach:\n").teach.seed == 3, "an empty section has no keys"


def test_a_recipe_of_one_stage() -> None:
    found = student("model: {T: 3}\nseed: 5\ntrain: {epochs: 7}\n", ONE_STAGE)
    model = (found.model.name, found.model.width, found.model.T)
    assert (*model, found.seed, found.train.epochs) == ("vgg11", 8, 3, 5, 7)
    assert (found.loss.name, found.data.noise) == ("tet", 0.2)
    assert student("stage: distill\n", ONE_STAGE) == student("", ONE_STAGE)


@pytest.mark.parametrize(
    ("child", "name", "head", "delta"),
    [
        ("distill: {loss: {delta: 0.2}}", "hta-kl", "strict", 0.2),
        ("distill: {loss: hta-kl}", "hta-kl", "strict", 0.5),
        ("distill: {loss: {name: hta-kl, head: top1}}", "hta-kl", "top1", 0.5),
        ("distill: {loss: kl}", "kl", ..., ...),
        ("distill: {loss: {name: kl, temperature: 3}}", "kl", ..., ...),
        ("distill: {loss: {terms: [{divergence: hta-kl}]}}", "hta-kl", "strict", 0.5),
        ("distill: {loss: null}\nloss: kl", "kl", ..., ...),
    ],
)
def test_a_loss_merges_like_any_section(child: str, name: str, head: Any, delta: Any) -> None:
    loss = student(child).loss
    term = loss.terms[0] if loss.terms else ...
    assert (loss.name, getattr(term, "head", ...), getattr(term, "delta", ...)) == (name, head, delta)


def test_another_loss_replaces_terms_without_a_name() -> None:
    terms = "distill: {loss: {hard: {weight: 0.5}, terms: [{divergence: kl}, {penalty: tvd}]}}"
    loss = student("distill: {loss: tet}", terms.replace("{penalty: tvd}", "{divergence: rkl}")).loss
    assert loss == student("", "distill: {loss: tet}").loss


def test_what_a_method_fixes_outside_its_loss_may_not_be_contradicted() -> None:
    base = "distill: {loss: kl, neuron: {last: spike, tau: 3.0}}\n"
    assert "neuron.last: 'spike', but the loss 'enof' needs relu" in refused("distill: {loss: enof}", base)
    found = student("distill: {loss: enof, neuron: {last: null}}", base)
    assert (found.neuron.last, found.neuron.tau) == ("relu", 3.0)


@pytest.mark.parametrize(
    ("child", "expected"),
    [
        ("distill: {model: resnet8}", ("resnet8", None, 6)),
        ("distill: {model: {name: resnet8, width: 5}}", ("resnet8", 5, 6)),
        ("distill: {model: {name: spikformer, dim: 96}}", ("spikformer", ..., 6)),
        ("teach: {model: vgg11}", ("resnet20", 4, 6)),
        ("distill: {model: {name: resnet20, T: 3}}", ("resnet20", 4, 3)),
        ("distill: {model: resnet20}", ("resnet20", 4, 6)),
        ("distill: {model: {T: 3}}", ("resnet20", 4, 3)),
        ("model: {T: 3}", ("resnet20", 4, 3)),
        ("model: resnet8", ("resnet8", 4, 6)),  # distill.model.width is of no network by name
        ("model: {name: resnet20, width: 5}", ("resnet20", 4, 6)),
        ("model: vgg11\ndistill: {model: {width: 7}}", ("vgg11", 7, 6)),
    ],
)
def test_another_name_starts_a_model_over_but_for_the_timesteps(
    child: str, expected: tuple[Any, ...]
) -> None:
    model = student(child).model
    assert (model.name, getattr(model, "width", ...), model.T) == expected


def test_a_section_without_a_name_has_the_default_name() -> None:
    base = "data: {classes: 10}\nmodel: {width: 4}\nteach: {}"
    assert made("data: glyphs\nmodel: resnet8", base) == made("", base)
    found = made("data: cifar100\nmodel: resnet20", base).teach
    assert (found.data.classes, found.model.width) == (None, None)


LEAKY = "model: {name: resnet20, width: 8}\nteach: {}\ndistill: {model: {T: 4}, loss: kl}\n"


@pytest.mark.parametrize(
    ("child", "base"),
    [
        ("teach: {model: resnet18}", LEAKY),
        ("distill: {model: {T: 2}}\nteach: {model: resnet18}", LEAKY),
        ("teach: {model: resnet18}", LEAKY.replace("model: {T: 4}, ", "") + "sweep: {model.T: [2, 4]}\n"),
        ("", LEAKY.replace("teach: {}", "teach: {model: resnet18}")),
    ],
)
def test_options_of_one_network_do_not_reach_another(child: str, base: str) -> None:
    found = made(child, base)
    assert found.teach is not None
    assert found.distill is not None
    assert (found.teach.model.name, found.teach.model.width) == ("resnet18", None)  # type: ignore[attr-defined]
    assert (found.distill.model.name, found.distill.model.width) == ("resnet20", 8)  # type: ignore[attr-defined]
    assert (2 if "T: 2" in child or "sweep" in base else 4) == found.distill.model.T


def test_options_of_a_shared_section_without_a_name_are_for_every_stage() -> None:
    found = made(
        "", "model: {width: 8, T: 2}\nteach: {model: resnet18}\ndistill: {loss: kl, model: resnet20}"
    )
    assert to_plain(found.teach.model) == {"name": "resnet18", "width": 8}
    assert to_plain(found.distill.model) == {"name": "resnet20", "width": 8, "T": 2}


def test_a_subset_of_one_data_set_is_not_one_of_another() -> None:
    base = "data: {name: cifar100, classes: 20, train_per_class: 100}\nteach: {}\ndistill: {loss: kl}\n"
    found = made("data: {augment: [flip]}\ndistill: {data: {name: cifar10}}", base)
    assert found.teach is not None
    assert found.distill is not None
    assert (found.teach.data.classes, found.teach.data.augment) == (20, ("flip",))  # type: ignore[attr-defined]
    assert (found.distill.data.classes, found.distill.data.train_per_class) == (None, None)  # type: ignore[attr-defined]


@pytest.mark.parametrize("where", ["{}", "distill: {{{}}}"])
def test_another_run_of_a_teacher_has_another_checksum(where: str) -> None:
    """The base's checksum would find the base's teacher instead."""
    base = "distill: {loss: kl}\n" + where.format("teacher: {run: runs/one, sha256: 1234}")
    base = "distill: {loss: kl, teacher: {run: runs/one, sha256: 1234}}" if where != "{}" else base
    found = student(where.format("teacher: {run: runs/two}"), base)
    assert (found.teacher.run, found.teacher.sha256) == ("runs/two", None)
    assert student(where.format("teacher: {run: runs/one}"), base).teacher.sha256 == "1234"


def test_teachers() -> None:
    plain = "distill: {loss: kl, teacher: {run: a.pt, model: {name: resnet20, width: 8}, size: 16}}"
    assert to_plain(student("distill: {teacher: {model: {width: 4}}}", plain).teacher) == {
        "run": "a.pt",
        "model": {"name": "resnet20", "width": 4},
        "size": 16,
    }
    found = student("distill: {teacher: {model: resnet8}}", plain).teacher
    assert to_plain(found)["model"] == {"name": "resnet8"}
    assert to_plain(student("distill: {teacher: runs/x}", plain).teacher) == {"run": "runs/x"}
    assert to_plain(student("distill: {teacher: null}", plain).teacher) == {}
    found = student(
        "distill: {teacher: {run: b.pt}}",
        "distill: {loss: kl, teacher: {model: resnet20, size: 16}}",
    ).teacher
    assert to_plain(found) == {"run": "b.pt", "model": {"name": "resnet20"}, "size": 16}


def test_data_and_neurons() -> None:
    base = PIPELINE.replace("distill: {", "distill: {neuron: {name: plif, threshold: 2.0}, ")
    found = student("distill: {neuron: {tau: 3.0}}", base).neuron
    assert (found.name, found.tau, found.threshold) == ("plif", 3.0, 2.0)
    assert student("distill: {neuron: {name: if}}", base).neuron.threshold == 1.0
    found = made("data: cifar10\n")
    assert found.teach.data == found.distill.data
    plain = resolve_stage(written("", "stage: teach\ndata: cifar10"), "teach")
    assert (found.teach.data.name, found.teach.data.augment) == ("cifar10", plain.data.augment)
    assert made("data: {name: glyphs, size: 8}").teach.data.classes == 10


def test_the_timesteps_of_other_data_do_not_fit_event_frames() -> None:
    events = "data: {name: n-mnist, frames: 7}"
    assert "6 differs from data.frames, 7" in refused(events)
    assert student(f"{events}\nmodel: {{T: null}}").model.T == 7


def test_a_stage_overrides_a_shared_key_as_in_any_recipe() -> None:
    found = made("seed: 3\ntrain: {lr: 0.5}")
    assert (found.teach.seed, found.distill.seed, found.teach.train.lr) == (100, 3, 0.5)


OVERRIDDEN = {
    "train: {epochs: 3}": "train.epochs: no effect, teach.train.epochs of base.yaml overrides it; write teach.train.epochs",
    "train: {epochs: 3}\ndistill: {train: {epochs: 4}}": "train.epochs: no effect, teach.train.epochs of base.yaml overrides it",
    "loss: kl": "loss: no effect, distill.loss of base.yaml overrides it; write distill.loss",
    "loss: {name: hta-kl, head: top1}": "loss.head: no effect, distill.loss.head of base.yaml overrides it",
    "distill: {model: vgg11}\nteach: null\nmodel: {width: 3}": "model.width: no effect, distill.model.width of base.yaml overrides it",
}


@pytest.mark.parametrize(("child", "message"), OVERRIDDEN.items())
def test_a_shared_key_without_effect_is_refused(child: str, message: str) -> None:
    assert f"child.yaml: {message}" in refused(child)


def test_a_shared_key_with_the_value_of_the_stages_is_not_refused() -> None:
    base = (
        "teach: {model: {name: resnet20, width: 4}}\ndistill: {loss: kl, model: {name: resnet20, width: 8}}"
    )
    assert student("model: {name: resnet20, T: 3}", base).model.T == 3
    assert "model: no effect, teach.model of base.yaml overrides it" in refused("model: vgg11", base)


def test_null_removes() -> None:
    found = made("eval: null\ntrain: null\ndistill: {loss: {head: null}}\n")
    assert (found.eval, found.distill.loss.terms[0].head) == (None, "top1")
    assert (found.distill.train.epochs, found.distill.train.batch_size) == (5, 128)
    assert made("teach: null").teach is None
    assert made("distill: null").distill is None
    assert student("distill: {model: null}").model.width == 8, "the shared one remains"
    assert student("distill: {model: {width: null}}").model.width == 8
    assert (
        student("neuron: null", "neuron: plif\ndistill: {loss: kl, neuron: {tau: 3.0}}").neuron.name == "lif"
    )
    assert resolve_tasks(written("compare: null\nsweep: null", SWEPT)).compare is None
    assert student("", "teach: {}\ndistill: {loss: kl}\ntrain: {epochs: 3}\n").train.epochs == 3


@pytest.mark.parametrize(
    "key",
    [
        "compare",
        "seed",
        "loss",
        "teacher",
        "distill.neuron",
        "teach.model",
        "model.pool",
        "distill.model.name",
    ],
)
def test_null_for_a_key_that_the_base_does_not_set_is_refused(key: str) -> None:
    head, *rest = key.split(".")
    text = f"{head}: " + "".join(f"{{{part}: " for part in rest) + "null" + "}" * len(rest)
    message = refused(text)
    assert message.startswith(f"child.yaml: {key}: null removes a key of base.yaml, which does not set it; ")


@pytest.mark.parametrize(
    ("child", "base", "message"),
    [
        ("stage: teach", ONE_STAGE, "model.T: 2, but a teacher has no timesteps"),
        ("distill: {seed: 1}", ONE_STAGE, "distill: the base base.yaml is a recipe of one stage"),
        ("teach: {}", ONE_STAGE, "teach: the base base.yaml is a recipe of one stage"),
        ("export: {}", ONE_STAGE, "export: the base base.yaml is a recipe of one stage"),
        (
            "stage: distill",
            PIPELINE,
            "stage: the base base.yaml is a pipeline; write a section 'distill' instead",
        ),
        ("distil: {}", PIPELINE, "unknown key 'distil'; did you mean 'distill'?"),
        ("train: {epoch: 3}", PIPELINE, "unknown key 'train.epoch'; did you mean 'train.epochs'?"),
        (
            "train: {epohcs: null}",
            PIPELINE,
            "train.epohcs: null removes a key of base.yaml, which does not set it; did you mean "
            "'train.epochs'?",
        ),
        (
            "",
            PIPELINE.replace("augment", "augmnt"),
            "unknown key 'data.augmnt'; did you mean 'data.augment'?",
        ),
        ("", "seed: 1", "no stage; add"),
        ("distill: 3", PIPELINE, "distill: 3 is not a mapping"),
        ("", "distill: 3", "distill: 3 is not a mapping"),
        ("extends_: x", PIPELINE, "unknown key 'extends_'"),
        ("distill: {extends: x.yaml}", PIPELINE, "unknown key 'extends'"),
    ],
)
def test_forms_and_keys_that_are_refused(child: str, base: str, message: str) -> None:
    assert message in refused(child, base)
