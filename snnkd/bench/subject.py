"""The benchmark's subject: student and ANN teacher of one topology, random weights, random images."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from snnkd.catalog.data import DATA
from snnkd.console import Console
from snnkd.context import RunContext
from snnkd.data import ImageSet, Split, load_data
from snnkd.data.loader import TrainBatches
from snnkd.errors import UsageError
from snnkd.losses.objective import Objective
from snnkd.losses.outputs import Loss
from snnkd.models import Network, Specification, build_network
from snnkd.models.files import LoadedNetwork
from snnkd.schema.data import DataConfig, GlyphsConfig
from snnkd.schema.events import frames_in
from snnkd.schema.model import ModelConfig
from snnkd.schema.run import StageRecipe
from snnkd.seeds import derive
from snnkd.training.compiling import Mode, compile_network
from snnkd.training.loop import make_batches, make_teacher
from snnkd.training.malloc import keep_freed_memory
from snnkd.training.optimizer import make_optimizer
from snnkd.training.setup import Stage, initial_network, initial_objective
from snnkd.training.step import Teacher, TrainStep, micro_batches

BATCHES = 8
"""Distinct batches, used in turn."""


@dataclass
class Subject:
    """A stage set up for training steps."""

    stage: Stage
    network: Network
    objective: Objective
    batches: TrainBatches
    teacher: Teacher
    train_step: TrainStep
    compile: Mode
    optimizer: torch.optim.Optimizer
    at: int = 0

    def batch(self) -> tuple[Tensor, Tensor]:
        """The next batch."""
        images, labels = self.batches.batch(*divmod(self.at, self.batches.steps))
        self.at += 1
        return images, labels

    def step(self) -> list[Loss]:
        """One training step as in `training.loop.train`, without logging and checkpoints."""
        accumulate = self.stage.recipe.execution.accumulate
        torch.manual_seed(derive(self.stage.recipe.seed, "noise", 0, self.at))
        batch_images, batch_labels = self.batch()
        self.optimizer.zero_grad(set_to_none=True)
        losses = []
        for images, labels, _ in micro_batches(batch_images, batch_labels, accumulate):
            loss = self.loss(images, labels)
            (loss.total / accumulate).backward()
            losses.append(loss)
        self.optimizer.step()
        return losses

    def loss(self, images: Tensor, labels: Tensor) -> Loss:
        """Teacher, student and objective on one batch, in the first epoch."""
        loss: Loss = self.train_step(images, labels, self.teacher(images), 0)
        return loss


DataShape = tuple[int, tuple[int, int, int]]
"""Number of classes, and `(C, H, W)` of an image."""


def make_stage(
    recipe: StageRecipe,
    device: torch.device,
    data_shape: DataShape | None = None,
    teacher_model: ModelConfig | None = None,
) -> Stage:
    """A stage on random data of `data_shape` (default: the recipe's) with a random teacher.

    The teacher is `teacher_model`, by default the ANN of the recipe's network. Reads no files, except for
    data sets whose shape is known only from the file.
    """
    data = _random_data(recipe, data_shape or _data_shape(recipe.data))
    specification = Specification(
        model=teacher_model or replace(recipe.model, T=None),
        neuron=None,
        classes=data.classes,
        shape=data.shape,
        frames=data.frames,
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
    network = initial_network(stage).to(stage.device)
    # the teacher is copied: a baseline may change the memory layout of its weights
    stage = replace(stage, teacher=copy.deepcopy(stage.teacher))
    objective = initial_objective(stage, network)
    if stage.device.type == "cpu" and recipe.execution.keep_memory:
        keep_freed_memory()
    train_step = TrainStep(network, objective, recipe, compile_network(network, compile))
    return Subject(
        stage=stage,
        network=network,
        objective=objective,
        batches=make_batches(stage),
        teacher=make_teacher(stage, objective),
        train_step=train_step.train(),
        compile=compile,
        optimizer=make_optimizer((network, objective), recipe.train),
    )


def _random_data(recipe: StageRecipe, data_shape: DataShape) -> ImageSet:
    classes, image_shape = data_shape
    frames = frames_in(recipe.data)
    shape = image_shape if frames is None else (frames, *image_shape)
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
