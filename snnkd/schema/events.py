"""The `data:` section of event data, and its rules. A field's docstring is its help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from snnkd.errors import UsageError
from snnkd.schema.augment import Augmentation, options_of
from snnkd.schema.data import DataConfig, NpzConfig, UserData
from snnkd.schema.marks import Bounds
from snnkd.schema.run import DistillRecipe, StageRecipe

SPATIAL = ("crop", "flip", "cutout", "erase")
"""Augmentations that apply to event counts: they move pixels or set them to 0."""
NO_FLIP = {"dvs128-gesture": "its classes distinguish the left hand from the right"}
"""Data sets that must not be mirrored, with the reason."""


@dataclass(frozen=True, kw_only=True)
class EventConfig(DataConfig):
    """`data:`, keys of all event data."""

    frames: Annotated[int, Bounds(1, 1024)] = 10
    """Frames per sample; a student has one timestep for each (model.T)."""
    split_by: Literal["number", "time"] = "number"
    """How the events of a sample are split into frames: by equal number of events, or by equal time."""
    size: Annotated[int, Bounds(8, 128)] = 128
    """Height and width in pixels; below the sensor's, the events of neighbouring pixels are summed."""


@dataclass(frozen=True, kw_only=True)
class NMNISTConfig(EventConfig):
    """`data:` of N-MNIST."""

    size: Annotated[int, Bounds(8, 34)] = 34
    """Height and width in pixels; below the sensor's, the events of neighbouring pixels are summed."""
    augment: tuple[Augmentation, ...] = ("crop",)


@dataclass(frozen=True, kw_only=True)
class SplitEventConfig(EventConfig):
    """`data:` of CIFAR10-DVS, published without a split."""

    test_fraction: Annotated[float, Bounds(0, 0.5, open_low=True)] = 0.1
    """Fraction of each class in the test split."""
    split_seed: Annotated[int, Bounds(0, 2**63 - 1)] = 0
    """Seed of the split; the run's seed does not change it."""
    augment: tuple[Augmentation, ...] = ("crop", "flip")


@dataclass(frozen=True, kw_only=True)
class GestureConfig(EventConfig):
    """`data:` of DVS128 Gesture."""

    frames: Annotated[int, Bounds(1, 1024)] = 16
    """Frames per sample; a student has one timestep for each (model.T)."""
    augment: tuple[Augmentation, ...] = ("crop",)


def frames_in(data: DataConfig) -> int | None:
    """Event frames per sample; None for still images."""
    return data.frames if isinstance(data, (EventConfig, NpzConfig, UserData)) else None


def check_events(recipe: StageRecipe) -> None:
    """Check the keys that depend on event data. Raises UsageError."""
    data, model = recipe.data, recipe.model
    if model.event_input is not None and isinstance(recipe, DistillRecipe):
        raise UsageError(
            f"model.event_input: {model.event_input} applies to teachers, not students; remove the key"
        )
    frames = frames_in(data)
    if frames is None:
        if model.event_input is not None:
            raise UsageError(
                f"model.event_input: {model.event_input} applies to event data, not {data.name}; remove it"
            )
        return
    if isinstance(recipe, DistillRecipe) and frames != model.T:
        # the frames of a file are fixed, those of events are cut as the recipe says
        cut = isinstance(data, EventConfig)
        remedy = f"--set data.frames={model.T}, to the teacher's command too" if cut else f"--T {frames}"
        raise UsageError(f"model.T: {model.T} differs from data.frames, {frames}; add {remedy}")
    for name in (options_of(operation).name for operation in data.augment):
        if name not in SPATIAL:
            raise UsageError(f"data.augment: {name} does not apply to event counts; use {', '.join(SPATIAL)}")
        if name == "flip" and data.name in NO_FLIP:
            raise UsageError(f"data.augment: flip does not apply to {data.name}: {NO_FLIP[data.name]}")
