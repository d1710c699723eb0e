"""The `data:` section of event data, and the rules that events bring. A field's docstring is its help, `Bounds` its range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from snnkd.errors import UsageError
from snnkd.schema.augment import Augmentation, options_of
from snnkd.schema.data import DataConfig
from snnkd.schema.marks import Bounds
from snnkd.schema.run import DistillRecipe, StageRecipe

SPATIAL = ("crop", "flip", "cutout", "erase")
"""Augmentation that counts of events can go through: it moves pixels or empties them."""
SIDED = {"dvs128-gesture": "its classes tell the left hand from the right"}
"""Data that must not be mirrored, and why."""


@dataclass(frozen=True, kw_only=True)
class EventConfig(DataConfig):
    """`data:` of event data, the keys that all of it has."""

    frames: Annotated[int, Bounds(1, 1024)] = 10
    """Frames that a sample is cut into; a student has one timestep for each (model.T)."""
    split_by: Literal["number", "time"] = "number"
    """What the frames of a sample have in equal shares: events or time."""
    size: Annotated[int, Bounds(8, 128)] = 128
    """Height and width in pixels; below the sensor's, pixels are joined and their events added up."""


@dataclass(frozen=True, kw_only=True)
class NMNISTConfig(EventConfig):
    """`data:` of N-MNIST."""

    size: Annotated[int, Bounds(8, 34)] = 34
    """Height and width in pixels; below the sensor's, pixels are joined and their events added up."""
    augment: tuple[Augmentation, ...] = ("crop",)


@dataclass(frozen=True, kw_only=True)
class SplitEventConfig(EventConfig):
    """`data:` of CIFAR10-DVS, which is published without a split."""

    test_fraction: Annotated[float, Bounds(0, 0.5, open_low=True)] = 0.1
    """Share of each class that is held back for testing."""
    split_seed: Annotated[int, Bounds(0, 2**63 - 1)] = 0
    """Seed of that choice; the run's own seed does not change it."""
    augment: tuple[Augmentation, ...] = ("crop", "flip")


@dataclass(frozen=True, kw_only=True)
class GestureConfig(EventConfig):
    """`data:` of DVS128 Gesture."""

    frames: Annotated[int, Bounds(1, 1024)] = 16
    """Frames that a sample is cut into; a student has one timestep for each (model.T)."""
    augment: tuple[Augmentation, ...] = ("crop",)


def frames_in(data: DataConfig) -> int | None:
    """Event frames of a sample; None for data of still images."""
    return data.frames if isinstance(data, EventConfig) else None


def check_events(recipe: StageRecipe) -> None:
    """Rules over several keys. Raises UsageError."""
    data, model = recipe.data, recipe.model
    if model.event_input is not None and isinstance(recipe, DistillRecipe):
        raise UsageError(
            f"model.event_input: {model.event_input} given for a student, which sees a frame a timestep; the key is a teacher's"
        )
    if not isinstance(data, EventConfig):
        if model.event_input is not None:
            raise UsageError(
                f"model.event_input: {model.event_input} given for {data.name}, whose images are still; remove the key"
            )
        return
    if isinstance(recipe, DistillRecipe) and data.frames != model.T:
        raise UsageError(
            f"model.T: {model.T} timesteps for {data.frames} event frames (data.frames), and each sees one; "
            f"for T = {model.T} add --set data.frames={model.T}, to the teacher's command too"
        )
    for name in (options_of(operation).name for operation in data.augment):
        if name not in SPATIAL:
            raise UsageError(f"data.augment: {name} is not for counts of events; {', '.join(SPATIAL)} are")
        if name == "flip" and data.name in SIDED:
            raise UsageError(f"data.augment: flip is not for {data.name}: {SIDED[data.name]}")
