"""The sweep of a recipe that extends another."""

from __future__ import annotations

import pytest
from recipe.children import PIPELINE, SWEPT, axes, refused, written

from snnkd.recipe import resolve_tasks


def test_axes_merge_by_key_in_the_order_of_the_base() -> None:
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
    "distill: {loss: {delta: 0.3}}": "distill.loss",
    "distill: {loss: null}\nloss: kl": "distill.loss",
    "seed: 1": "seed",
    "model: {T: 4}": "distill.model.T",
    "distill: {model: {T: 4}}": "distill.model.T",
}


@pytest.mark.parametrize(("child", "axis"), FIXED.items())
def test_a_key_that_the_base_sweeps_has_no_effect(child: str, axis: str) -> None:
    assert (
        f"no effect, base.yaml sweeps {axis}; remove the key, or the axis (sweep: {{{axis}: null}})"
        in refused(child, SWEPT)
    )


@pytest.mark.parametrize(("child", "axis"), FIXED.items())
def test_it_has_one_without_the_axis(child: str, axis: str) -> None:
    assert axis not in axes(f"{child}\nsweep: {{{axis}: null}}\ncompare: {{baseline: null}}")


@pytest.mark.parametrize(
    ("child", "sweep", "message"),
    [
        ("loss: kl", "distill.loss: [none, kl]", "loss: no effect, base.yaml sweeps distill.loss"),
        ("teach: {seed: 7}", "seed: [0, 1]", ""),
        ("distill: {seed: 7}", "teach.seed: [0, 1]", ""),
        ("seed: 7", "distill.seed: [0, 1]", "seed: no effect, base.yaml sweeps distill.seed"),
        ("data: {noise: 0.3}", "data: [glyphs, cifar10]", "data.noise: no effect, base.yaml sweeps data;"),
        ("data: {noise: 0.3}", "data.classes: [5, 10]", ""),
        ("model: {T: 3}", "distill.model: [resnet8, resnet20]", ""),
        ("distill: {model: {T: 3}}", "distill.model: [resnet8, resnet20]", ""),
        ("model: {width: 3}", "distill.model: [resnet8, resnet20]", ""),
        (
            "distill: {model: {width: 3}}",
            "distill.model: [resnet8, resnet20]",
            "distill.model.width: no effect, base.yaml sweeps distill.model;",
        ),
        ("model: resnet8", "distill.model.T: [1, 2]", ""),
        ("distill: {loss: {delta: 0.3}}", "distill.loss.head: [strict, cover]", ""),
        (
            "distill: {loss: {head: strict}}",
            "distill.loss.head: [strict, cover]",
            "distill.loss.head: no effect, base.yaml sweeps distill.loss.head",
        ),
        ("eval: {T: 2}", "eval.T: [1, 3]", "eval.T: no effect, base.yaml sweeps eval.T"),
        ("eval: null", "eval.T: [1, 3]", "sweep: the key 'eval.T' needs a section 'eval'"),
        ("distill: null", "distill.seed: [1, 3]", "sweep: the key 'distill.seed' needs a section 'distill'"),
        ("data: {augment: [crop]}", "data.augment: [[], [flip]]", "data.augment: no effect"),
        ("train: {lr: 0.3}", "train.weight_decay: [0, 1]", ""),
        ("distill: {loss: kl}", "loss: [none, kl]", "resolve to the same run"),
    ],
)
def test_what_is_fixed_beside_a_swept_key(child: str, sweep: str, message: str) -> None:
    base = f"{PIPELINE}sweep: {{{sweep}}}\n"
    if message:
        assert message in refused(child, base)
    else:
        assert len(axes(child, base)) == 1


def test_what_a_child_fixes_is_in_every_task_of_the_bases_sweep() -> None:
    found = resolve_tasks(
        written(
            "distill: {loss: {delta: 0.3}}\nmodel: resnet8",
            f"{PIPELINE}sweep: {{distill.loss.head: [strict, cover]}}",
        )
    )
    assert [
        (t.pipeline.distill.loss.terms[0].head, t.pipeline.distill.loss.terms[0].delta) for t in found.all
    ] == [
        ("strict", 0.3),
        ("cover", 0.3),
    ]
    found = resolve_tasks(
        written("model: {T: 3}", f"{PIPELINE}sweep: {{distill.model: [resnet8, resnet20]}}")
    )
    assert [(t.pipeline.distill.model.name, t.pipeline.distill.model.T) for t in found.all] == [
        ("resnet8", 3),
        ("resnet20", 3),
    ]


@pytest.mark.parametrize(
    ("child", "base", "message"),
    [
        (
            "sweep: {sede: null}",
            SWEPT,
            "sweep.sede: null removes a key of base.yaml, which does not set it; did you mean 'sweep.seed'?",
        ),
        ("sweep: {seed: null}", PIPELINE, "sweep.seed: null removes a key of base.yaml"),
        ("sweep: null", PIPELINE, "sweep: null removes a key of base.yaml"),
        ("sweep: 3", SWEPT, "sweep: 3 is not a mapping"),
        ("", PIPELINE + "sweep: 3", "sweep: 3 is not a mapping"),
        ("", PIPELINE + "sweep:", "sweep: None is not a mapping"),
        ("sweep: {}", PIPELINE, "sweep: {} is not a mapping"),
        ("sweep: {seed: 3}", SWEPT, "the values of 'seed' are 3"),
        ("teach: null\nsweep: {teach.seed: [1, 2]}", SWEPT, "needs a section 'teach'"),
    ],
)
def test_sweeps_that_are_refused(child: str, base: str, message: str) -> None:
    assert message in refused(child, base)
