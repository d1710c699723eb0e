"""Cost of a recipe and presence of its data and teacher: the facts of `snnkd check`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snnkd.catalog.data import DATA
from snnkd.catalog.hub import is_address
from snnkd.catalog.models import LIBRARIES, MODELS
from snnkd.console import Console
from snnkd.data import ImageSet, check_fit, load_data
from snnkd.environment import pick_device
from snnkd.errors import FileError, UsageError
from snnkd.measure.counting import Counter
from snnkd.models import Specification, build_network
from snnkd.models.activation import ReLU
from snnkd.models.hub import PRETRAINED
from snnkd.recipe.describe import describe_model
from snnkd.recipe.resolve import Pipeline
from snnkd.runs.find import finished_runs
from snnkd.runs.folder import runs_folder
from snnkd.schema.data import SubsetConfig
from snnkd.schema.events import frames_in
from snnkd.schema.model import ModelConfig
from snnkd.schema.run import DistillRecipe, StageRecipe
from snnkd.teachers import is_trained_on

NOMINAL_INPUT = (3, 32, 32)
"""Channels, height and width for which listed sizes are given: those of CIFAR."""
NOMINAL_CLASSES = 100
PROCESS_BYTES = 900 * 2**20
"""A process with torch and SpikingJelly; this and the factors fit peaks of resnet8 and resnet20 on a CPU."""
TRAINING_FACTOR = 3
"""Memory of a training step over its layer outputs: what backward keeps, temporaries, the allocator."""
EVALUATION_FACTOR = 14
"""Memory of an evaluation batch over its largest layer output; about 7 for a teacher."""


def facts(pipeline: Pipeline) -> list[dict[str, Any]]:
    """Per stage: parameters, MACs per image, steps, training memory in bytes, and what is missing."""
    return [_stage_facts(stage, pipeline) for stage in pipeline.stages]


def _stage_facts(recipe: StageRecipe, pipeline: Pipeline) -> dict[str, Any]:
    facts: dict[str, Any] = {"stage": recipe.stage, "data": recipe.data.name, "model": recipe.model.name}
    pick_device(recipe.execution.device)
    data = None
    try:
        data = load_data(recipe.data, Console(quiet=True), fetch=None)
    except FileError as error:
        facts |= {"data_present": False, "missing": str(error)}
        nominal = getattr(error, "nominal", None) or DATA[recipe.data.name].nominal
        if nominal is None:
            return facts
        classes, shape, images = nominal
        if isinstance(recipe.data, SubsetConfig):
            classes, images = _nominal_subset(recipe.data, classes, images)
        images -= round(images * recipe.data.val_fraction)
    else:
        check_fit(recipe.train, data, recipe.data.augment)
        classes, shape, images = data.classes, data.shape, len(data.train)
        facts |= {"data_present": True, "data_sha256": data.sha256}
    T = recipe.model.T or 1
    facts |= {
        "train_images": images,
        "classes": classes,
        "shape": list(shape),
        "steps": images // recipe.train.batch_size * recipe.train.epochs,
    }
    facts |= _network_facts(recipe, classes, shape, T)
    if isinstance(recipe, DistillRecipe):
        facts["T"] = T
        facts["teacher_present"], facts["teacher"] = (
            _teacher_present(recipe, data, pipeline),
            recipe.teacher.run,
        )
    return facts


def _nominal_subset(data: SubsetConfig, classes: int, images: int) -> tuple[int, int]:
    """Classes and training images of a subset, assuming classes of equal size."""
    subset_classes = data.classes or classes
    per_class = images // classes
    return subset_classes, subset_classes * min(data.train_per_class or per_class, per_class)


def _network_facts(recipe: StageRecipe, classes: int, shape: tuple[int, int, int], T: int) -> dict[str, Any]:
    # a teacher takes all event frames of a sample together, a student one per timestep
    frames = None if isinstance(recipe, DistillRecipe) else frames_in(recipe.data)
    sizes = _sizes(recipe.model, classes, shape, frames)
    execution, outputs = recipe.execution, sizes.output_bytes * T
    training = TRAINING_FACTOR * outputs * recipe.train.batch_size // execution.accumulate
    evaluation = EVALUATION_FACTOR * sizes.largest_output * T * execution.eval_batch_size
    weights = 3 * 4 * sizes.parameters  # with gradients and momentum
    memory = PROCESS_BYTES + weights + max(training, evaluation)
    return {"parameters": sizes.parameters, "macs": sizes.macs, "memory_bytes": memory}


@dataclass(frozen=True)
class Sizes:
    """Size of a network: parameters, MACs and bytes of layer outputs per image and timestep."""

    parameters: int
    macs: int
    output_bytes: int
    largest_output: int
    """Bytes of the largest layer output."""


def _sizes(model: ModelConfig, classes: int, shape: tuple[int, int, int], frames: int | None = None) -> Sizes:
    """Count on the ANN of the same topology with one image; an SNN runs its layers T times."""
    # user code and libraries may compute with tensor values in constructors, which meta tensors lack
    needs_values = MODELS.is_user_defined(model.name) or model.name.partition(":")[0] in LIBRARIES
    device = "cpu" if needs_values else "meta"
    with torch.device(device):
        network = build_network(
            Specification(model=model, neuron=None, classes=classes, shape=shape, frames=frames)
        ).eval()
    outputs: list[int] = []

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
        outputs.append(output.numel() * output.element_size())

    saved = (nn.Conv2d, nn.BatchNorm2d, nn.Linear, ReLU)
    layers = [module for module in network.modules() if isinstance(module, saved)]
    handles = [layer.register_forward_hook(hook) for layer in layers]
    with torch.inference_mode(), Counter(network) as counter:
        network(torch.zeros(network.specification.batch_shape(1), device=device))
    for handle in handles:
        handle.remove()
    parameters = sum(p.numel() for p in network.parameters())
    macs = counter.counts.macs_once + counter.counts.macs_per_step
    return Sizes(parameters, macs, sum(outputs), max(outputs, default=0))


def model_facts() -> list[dict[str, Any]]:
    """Describe every model with its size at NOMINAL_INPUT; None if it needs an argument or other images."""
    facts = []
    for entry in MODELS:
        size = None if entry.argument else _nominal_size(entry.name)
        counts = {"parameters": size and size.parameters, "macs": size and size.macs}
        facts.append(describe_model(entry) | counts)
    return facts


@cache
def _nominal_size(name: str) -> Sizes | None:
    try:
        return _sizes(MODELS[name].options(name=name), NOMINAL_CLASSES, NOMINAL_INPUT)
    except UsageError:
        return None


def _teacher_present(recipe: DistillRecipe, data: ImageSet | None, pipeline: Pipeline) -> bool | None:
    """Whether the teacher exists or this recipe trains it; None if the loss needs none, or a hub has it."""
    if not recipe.needs_teacher:
        return None
    named = recipe.teacher.run
    if named is not None and (named == PRETRAINED or is_address(named)):
        return None
    if named is not None and named != "latest":
        path = Path(named)
        return (
            path.is_file()
            if recipe.teacher.model or path.suffix == ".safetensors"
            else (path / "config.json").is_file()
        )
    return pipeline.teach is not None or (
        data is not None
        and any(is_trained_on(run, data) for run in finished_runs("teach", runs_folder(), Console()))
    )
