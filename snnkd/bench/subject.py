"""The benchmark's subject: student and ANN teacher of one topology, random weights, random images."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from snnkd.catalog.data import DATA
from snnkd.console import Console
from snnkd.context import RunContext
from snnkd.data import ImageSet, Split, load_data
from snnkd.errors import UsageError
from snnkd.losses.outputs import Loss
from snnkd.models import Specification, build_network
from snnkd.models.files import LoadedNetwork
from snnkd.schema.data import DataConfig, GlyphsConfig
from snnkd.schema.events import frames_in
from snnkd.schema.run import DistillRecipe
from snnkd.seeds import derive
from snnkd.stage import Stage, first_network, make_job, make_stage_objective
from snnkd.training.compiling import Mode
from snnkd.training.loop import Job
from snnkd.training.optimizer import make_optimizer
from snnkd.training.step import backward, make_learner

BATCHES = 8
"""Different batches; then they repeat."""


@dataclass
class Subject:
    """A training job ready to run steps."""

    stage: Stage
    job: Job
    learner: nn.Module
    optimizer: torch.optim.Optimizer
    at: int = 0

    def batch(self) -> tuple[Tensor, Tensor]:
        """The next batch."""
        images, labels = self.job.batches.batch(*divmod(self.at, self.job.batches.steps))
        self.at += 1
        return images, labels

    def step(self) -> list[Loss]:
        """Run one training step: data, teacher, student, loss, backward, update; no logging."""
        torch.manual_seed(derive(self.job.seed, "noise", 0, self.at))
        images, labels = self.batch()
        self.optimizer.zero_grad(set_to_none=True)
        losses = backward(self.job, self.learner, images, labels, epoch=0)
        self.optimizer.step()
        return losses


DataShape = tuple[int, tuple[int, int, int]]
"""Number of classes, and `(C, H, W)` of an image."""


def make_stage(recipe: DistillRecipe, device: torch.device, data_shape: DataShape | None = None) -> Stage:
    """A stage on random data of `data_shape` (default: the recipe's) with a random teacher.

    Reads no file, except for data sets whose shape only the file gives.
    """
    data = _random_data(recipe, data_shape or _data_shape(recipe.data))
    specification = Specification(
        model=replace(recipe.model, T=None), neuron=None, classes=data.classes, shape=data.shape
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(recipe.seed, "teacher"))
        teacher = LoadedNetwork(build_network(specification), {}, "", Path())
    for buffer, values in zip(
        (teacher.network.mean, teacher.network.std), data.channel_statistics(), strict=True
    ):
        buffer.copy_(torch.tensor(values))
    return Stage(
        recipe=recipe,
        data=data,
        teacher=teacher,
        device=device,
        context=RunContext(console=Console(quiet=True)),
    )


def make_subject(stage: Stage, compile: Mode) -> Subject:
    """A new subject; weights and batches depend only on the recipe's seed."""
    recipe = stage.recipe
    network = first_network(recipe, stage.data, stage.teacher).to(stage.device)
    # a copy, since a baseline may change the teacher's memory layout
    stage = replace(stage, teacher=copy.deepcopy(stage.teacher))
    job = make_job(stage, network, make_stage_objective(stage, network), compile)
    learner = make_learner(job).train()
    return Subject(stage, job, learner, make_optimizer((network, job.objective), recipe.train))


def _random_data(recipe: DistillRecipe, data_shape: DataShape) -> ImageSet:
    classes, shape = data_shape
    generator = torch.Generator().manual_seed(derive(recipe.seed, "images"))
    count = BATCHES * recipe.train.batch_size
    images = torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, classes, (count,), generator=generator)
    split = Split(images, labels)
    return ImageSet(recipe.data.name, classes, split, Split(images[:2], labels[:2]), None, "")


def _data_shape(config: DataConfig) -> DataShape:
    if frames_in(config):
        raise UsageError(
            f"data.name: {config.name}; bench needs still images, not event frames; choose another --data"
        )
    if isinstance(config, GlyphsConfig):
        return config.classes, (config.channels, config.size, config.size)
    nominal = DATA[config.name].nominal
    if nominal is None:
        data = load_data(config, Console(quiet=True))
        return data.classes, data.shape
    classes, shape, _ = nominal
    return getattr(config, "classes", None) or classes, shape
