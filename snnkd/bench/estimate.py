"""How long a stage will train here, from a few of its steps on random images."""

from __future__ import annotations

import statistics

import torch

from snnkd.bench.clock import seconds
from snnkd.bench.subject import DataShape, make_stage, make_subject
from snnkd.environment import pick_device
from snnkd.limits import check_threads
from snnkd.schema.model import ModelConfig
from snnkd.schema.run import StageRecipe
from snnkd.training.compiling import decide
from snnkd.training.setup import check_execution, random_network

MAX_STEPS = 5
BUDGET = 5.0
"""Seconds after which no further step is timed."""


def step_seconds(recipe: StageRecipe, shape: DataShape, teacher: ModelConfig | None, steps: int) -> float:
    """Median seconds of a training step, of a run of `steps`, compiled as that run would be.

    The teacher has random weights; without `teacher` it is the ANN of the student's topology.
    """
    device = pick_device(recipe.execution.device)
    check_execution(recipe.train, recipe.execution, device)
    if recipe.execution.threads:
        check_threads(recipe.execution.threads, torch.get_num_threads())
        torch.set_num_threads(recipe.execution.threads)
    stage = make_stage(recipe, device, shape, teacher)
    images = steps * recipe.train.batch_size
    subject = make_subject(
        stage, decide(recipe.execution, random_network(recipe, stage.data), images, device)
    )
    subject.step()  # compiles, and fills caches
    times: list[float] = []
    while len(times) < MAX_STEPS and sum(times) < BUDGET:
        times.append(seconds(subject.step, device))
    return statistics.median(times)
