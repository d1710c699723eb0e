"""Recipes that extend another, as the tests of `extends:` write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from snnkd.errors import SnnkdError, UsageError
from snnkd.recipe import Pipeline, resolve_tasks
from snnkd.recipe.sweep import Tasks

PIPELINE = """\
data: {name: glyphs, classes: 10, augment: []}
train: {epochs: 2, batch_size: 50}
model: {name: resnet20, T: 6, width: 8}
teach: {seed: 100, train: {epochs: 9}}
distill: {model: {width: 4}, loss: {name: hta-kl, head: strict}, train: {epochs: 5}}
eval: {T: 3}
"""
SWEPT = (
    PIPELINE
    + "sweep: {distill.loss: [none, kl], seed: [0, 1, 2], distill.model.T: [2, 4]}\ncompare: {baseline: kl}\n"
)
ONE_STAGE = (
    "stage: distill\ndata: {name: glyphs, noise: 0.2}\nmodel: {name: vgg11, width: 8, T: 2}\nloss: tet\n"
)


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


def refused(child: str, base: str = PIPELINE, error: type[SnnkdError] = UsageError) -> str:
    with pytest.raises(SnnkdError) as caught:
        resolve_tasks(written(child, base))
    assert type(caught.value) is error, caught.value
    assert str(caught.value).splitlines() == [str(caught.value)]
    return str(caught.value)


def shown(tasks: Tasks) -> list[str]:
    return [f"{task.line} {task.pipeline!r}" for task in tasks.all]
