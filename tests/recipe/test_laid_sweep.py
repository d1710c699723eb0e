"""The sweep of a recipe that extends another."""

from __future__ import annotations

import pytest
from recipe.children import PIPELINE, SWEPT, axes, refused, written

from snnkd.recipe import resolve_tasks


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
    assert (
        f"base.yaml sweeps '{axis}', and every task would overwrite it; take that out of the sweep (sweep: {{{axis}: null}})"
        in said
    )


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
        (
            "distill: {loss: {terms: [{divergence: hta-kl, head: strict}]}}",
            "distill.loss.terms.0.head: [top1, cover]",
            True,
        ),
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
        assert (
            "seed: 7 would change nothing, because what base.yaml says for teach and distill wins"
            in refused(child, base)
        )
    else:
        assert f"base.yaml sweeps '{sweep.partition(':')[0]}'" in refused(child, base)


def test_what_a_child_fixes_is_in_every_task_of_the_bases_sweep() -> None:
    found = resolve_tasks(
        written(
            "loss: {name: hta-kl, delta: 0.3}\nmodel: resnet8",
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
    ("child", "base", "said"),
    [
        (
            "sweep: {sede: null}",
            SWEPT,
            "null takes 'sede' out of the base's sweep, and base.yaml does not sweep it; did you mean 'seed'?",
        ),
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
