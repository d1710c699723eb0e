"""The keys of `train:` for the first epochs: fewer timesteps, smaller images."""

from __future__ import annotations

from collections.abc import Sequence

from snnkd.catalog.neurons import check_timesteps
from snnkd.errors import UsageError, counted
from snnkd.recipe.loss_section import find_trait
from snnkd.schema.events import frames_in
from snnkd.schema.loss import FeatureTerm
from snnkd.schema.run import DistillRecipe, StageRecipe

SMALLEST = 4
"""Pixels of the smallest images."""


def check_first_epochs(recipe: StageRecipe) -> None:
    """Raise UsageError for values that the epochs, the data, the neuron or the loss do not allow."""
    train = recipe.train
    for key, values in {"first_T": train.first_T, "first_sizes": train.first_sizes}.items():
        _check_values(f"train.{key}", values, train.epochs, recipe)
    if train.first_T:
        _check_first_timesteps(recipe)
    if train.first_sizes and isinstance(recipe, DistillRecipe):
        features = [term.feature for term in recipe.loss.terms if isinstance(term, FeatureTerm)]
        if features:
            raise UsageError(
                f"train.first_sizes: {features[0]} compares features with a teacher that sees full images; "
                "remove the key"
            )


def _check_values(key: str, values: Sequence[int], epochs: int, recipe: StageRecipe) -> None:
    if not values:
        return
    if len(values) >= epochs:
        raise UsageError(
            f"{key}: {counted(len(values), 'value')} for train.epochs {epochs}; "
            "give fewer than there are epochs"
        )
    low = 1 if key.endswith("T") else SMALLEST
    if min(values) < low:
        raise UsageError(f"{key}: {min(values)} must be at least {low}")
    if frames_in(recipe.data):
        raise UsageError(f"{key}: not for event data, whose frames are fixed; remove the key")


def _check_first_timesteps(recipe: StageRecipe) -> None:
    if not isinstance(recipe, DistillRecipe):
        raise UsageError("train.first_T: a teacher has no timesteps; remove the key")
    T = recipe.model.T
    assert T is not None
    for value in recipe.train.first_T:
        if value > T:
            raise UsageError(f"train.first_T: {value} exceeds model.T, {T}; give at most {T}")
        check_timesteps(recipe.neuron, T, value, "train.first_T")
    key = find_trait(recipe.loss, "needs_timesteps") if min(recipe.train.first_T) == 1 else None
    if key:
        raise UsageError(f"train.first_T: {key} compares timesteps; give at least 2")
