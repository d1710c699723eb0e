"""Setup of a stage: its run directory, and the initial network and objective."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from snnkd import distributed
from snnkd.console import Console
from snnkd.context import RunContext
from snnkd.data import ImageSet
from snnkd.errors import UsageError
from snnkd.losses.objective import NetworkInfo, Objective, make_objective
from snnkd.models import Network, Specification, build_network
from snnkd.models.activation import neuron_parameters
from snnkd.models.blocks import enable_recompute
from snnkd.models.features import feature_shapes
from snnkd.models.files import LoadedNetwork
from snnkd.models.libraries import LibraryNetwork, check_image_size
from snnkd.models.plain import plain_body
from snnkd.models.weights import WeightFile, load_weights
from snnkd.runs.folder import identity, run_name, runs_folder
from snnkd.schema.loss import LossConfig
from snnkd.schema.run import DistillRecipe, ExecutionConfig, StageRecipe, TrainConfig
from snnkd.seeds import derive


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage: recipe, data, teacher, device and context, which determine its run directory."""

    recipe: StageRecipe
    data: ImageSet
    teacher: LoadedNetwork | None
    initial: WeightFile | None = None
    """Weights for `train.init` from a run or file."""
    device: torch.device
    context: RunContext

    @cached_property
    def identity(self) -> dict[str, Any]:
        teacher = self.teacher.sha256 if self.teacher else None
        initial = self.initial.sha256 if self.initial else None
        return identity(self.recipe, self.data.sha256, teacher, self.data.class_names, initial)

    @property
    def folder(self) -> Path:
        """The run directory: `--out`, else by identity."""
        return self.context.out or runs_folder() / run_name(self.recipe, self.identity)


def check_execution(train: TrainConfig, execution: ExecutionConfig, device: torch.device) -> None:
    """Raise UsageError for a batch size or execution key that the ranks and the device do not allow."""
    parts = distributed.world_size() * execution.accumulate
    if train.batch_size % parts or train.batch_size < 2 * parts:
        factors = f"{distributed.world_size()} processes x execution.accumulate {execution.accumulate}"
        raise UsageError(
            f"train.batch_size: {train.batch_size} must be a multiple of {parts} ({factors}), "
            f"at least {2 * parts}"
        )
    if execution.sync_norm and device.type == "cpu":
        raise UsageError(
            "execution.sync_norm: true works on GPUs only (no SyncBatchNorm in gloo); set it to false"
        )


def random_network(recipe: StageRecipe, data: ImageSet) -> Network:
    """The recipe's network, initialised from its own random stream, normalising by the training images."""
    neuron = recipe.neuron if isinstance(recipe, DistillRecipe) else None
    specification = Specification(
        model=recipe.model, neuron=neuron, classes=data.classes, shape=data.shape, frames=data.frames
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(recipe.seed, "initialisation"))
        network = build_network(specification)
    mean, std = data.channel_statistics()
    network.mean.copy_(torch.tensor(mean))
    network.std.copy_(torch.tensor(std))
    return network


def initial_network(stage: Stage) -> Network:
    """`random_network` with the weights of `train.init`, and the layers of `train.freeze` frozen.

    Raises UsageError for a teacher of another architecture, an unknown layer, and a network without blocks to
    recompute, FileError for weights of another network.
    """
    recipe, data, teacher = stage.recipe, stage.data, stage.teacher
    network = random_network(recipe, data)
    if isinstance(network.body, LibraryNetwork):
        check_image_size(network, network.specification.batch_shape(2), f"data.size: {recipe.model.name}")
    network.any_size = bool(recipe.train.first_sizes)
    for size in sorted(set(recipe.train.first_sizes)):
        _check_smaller(network, size)
    if recipe.train.init == "teacher":
        assert teacher is not None
        _copy_weights(teacher.network, network)
    if stage.initial is not None:
        _load_initial(network, stage.initial, stage.context.console)
    network.freeze(recipe.train.freeze)
    if recipe.execution.activation_checkpointing and not enable_recompute(network):
        raise UsageError(
            "execution.activation_checkpointing: "
            f"{recipe.model.name} has no blocks to recompute; set it to false"
        )
    return network


def _check_smaller(network: Network, size: int) -> None:
    channels, height, width = network.specification.shape
    if size >= min(height, width):
        raise UsageError(
            f"train.first_sizes: {size} must be below the images' {height}x{width}; remove or lower it"
        )
    check_image_size(network, (2, channels, size, size), "train.first_sizes")


def _load_initial(network: Network, file: WeightFile, console: Console) -> None:
    specification = network.specification
    body = plain_body(network.body)
    source = load_weights(
        body, file, specification.model, specification.classes, own=tuple(neuron_parameters(body)), head=True
    )
    names = f", in names of {source.names}" if source.names else ""
    left_out = f", without {', '.join(source.left_out)}" if source.left_out else ""
    console.log(f"initial weights: {file.path}{names}{left_out}")


def _copy_weights(teacher: Network, student: Network) -> None:
    initial, weights = student.body.state_dict(), teacher.body.state_dict()
    for key in neuron_parameters(student.body):
        weights.setdefault(key, initial[key])  # an ANN has none
    if {key: value.shape for key, value in initial.items()} != {
        key: value.shape for key, value in weights.items()
    }:
        name = teacher.specification.model.name
        raise UsageError(
            f"train.init: teacher: weights of {name} do not fit the student's "
            f"{student.specification.model.name}; use --model {name} with the teacher's width"
        )
    student.body.load_state_dict(weights)


def initial_objective(stage: Stage, network: Network) -> Objective:
    """The objective of the stage's loss; aligners are initialised from their own random stream."""
    recipe, teacher = stage.recipe, stage.teacher.network if stage.teacher else None
    loss = recipe.loss if isinstance(recipe, DistillRecipe) else LossConfig()
    features = any(hasattr(term, "feature") for term in loss.terms)
    info = NetworkInfo(
        classes=stage.data.classes,
        student=_features_of(network) if features else {},
        teacher=_features_of(teacher.to(stage.device)) if features and teacher else {},
        teacher_head=getattr(teacher.body, "head", None) if teacher else None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(recipe.seed, "aligner"))
        return make_objective(loss, recipe.train.label_smoothing, info).to(stage.device)


def _features_of(network: Network) -> dict[str, tuple[int, ...]]:
    """Shapes of features by name; empty for a user's network whose forward has no `features` parameter."""
    if "features" not in inspect.signature(network.body.forward).parameters:
        return {}
    return feature_shapes(network, network.specification.shape, network.specification.frames)
