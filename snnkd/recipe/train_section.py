"""The `train:` section: defaults of the optimizer, and rules between its keys."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from snnkd.errors import UsageError
from snnkd.schema.run import OPTIMIZER_DEFAULTS, OPTIMIZER_KEYS, SCHEDULE_KEYS, StageRecipe, TrainConfig

MAX_ADAM_LR = 0.05
"""Adam moves each weight by about lr a step: above this nothing learns, and 0.1 is a rate meant for sgd."""

DEFAULT_RECIPE = "glyphs"
FITTED_KEYS = ("epochs", "batch_size", "lr")
"""Keys of the default recipe that follow the number of images of other data."""
STEPS = {"teach": 1000, "distill": 1600}
"""Steps of the default recipe on its own data, by stage."""
MIN_BATCH, BATCHES = 8, 10
"""Smallest batch that is chosen, and number of batches in an epoch of few images."""


def fitted_keys(
    recipe: str, stage: StageRecipe, settings: Sequence[str], flags: Mapping[str, Any]
) -> tuple[str, ...]:
    """The FITTED_KEYS that a request leaves open: the default recipe on other data, without the flag or
    setting."""
    if recipe != DEFAULT_RECIPE or stage.data.name == DEFAULT_RECIPE:
        return ()
    paths = {setting.partition("=")[0].strip() for setting in settings}
    given = {key for key in FITTED_KEYS if flags.get(key) is not None or paths & {"train", f"train.{key}"}}
    if "batch_size" in given or "train.optimizer" in paths:
        given.add("lr")
    return tuple(key for key in FITTED_KEYS if key not in given)


def fit_train(train: TrainConfig, keys: Collection[str], stage: str, images: int) -> TrainConfig:
    """`train` with `keys` for this number of training images: a tenth of them in a batch, 8 to the recipe's,
    epochs for the steps of the recipe on its own data, at least the recipe's, and a learning rate in
    proportion to the square root of the batch (Krizhevsky 2014, arXiv 1404.5997): with the recipe's, students
    of 48 pictures diverged in batches of 8."""
    if "batch_size" in keys:
        batch_size = min(train.batch_size, max(MIN_BATCH, images // BATCHES), max(2, images))
        lr = float(f"{train.lr * math.sqrt(batch_size / train.batch_size):.3g}") if "lr" in keys else train.lr
        train = dataclasses.replace(train, batch_size=batch_size, lr=lr)
    if "epochs" in keys and images >= train.batch_size:
        epochs = math.ceil(STEPS[stage] / (images // train.batch_size))
        train = dataclasses.replace(train, epochs=max(train.epochs, epochs))
    return train


def with_optimizer_defaults(values: Any) -> Any:
    """The section with lr and weight_decay of its optimizer where it sets none."""
    if not isinstance(values, Mapping):
        return values
    return {**OPTIMIZER_DEFAULTS.get(str(values.get("optimizer")), {}), **values}


def check_train(train: TrainConfig) -> None:
    """Raise UsageError for keys that contradict each other or would have no effect."""
    _check_unused(train, "optimizer", OPTIMIZER_KEYS)
    _check_unused(train, "schedule", SCHEDULE_KEYS)
    if train.optimizer != "sgd" and train.lr > MAX_ADAM_LR:
        raise UsageError(
            f"train.lr: {train.lr} is too high for {train.optimizer}; set it to {MAX_ADAM_LR} at most"
        )
    if train.nesterov and train.momentum == 0:
        raise UsageError("train.nesterov: true needs train.momentum above 0")
    if len(train.betas) != 2 or not all(0 <= beta < 1 for beta in train.betas):
        raise UsageError(f"train.betas: {list(train.betas)} must be two numbers, at least 0 and below 1")
    if train.warmup_epochs > train.epochs:
        raise UsageError(f"train.warmup_epochs: {train.warmup_epochs} exceeds train.epochs, {train.epochs}")
    if train.final_lr > train.lr:
        raise UsageError(f"train.final_lr: {train.final_lr} exceeds train.lr, {train.lr}")
    if train.schedule == "multistep":
        _check_milestones(train)


def _check_milestones(train: TrainConfig) -> None:
    milestones = list(train.milestones)
    if not milestones:
        raise UsageError("train.milestones: empty; multistep needs epochs, such as [150, 180, 210]")
    if not all(
        low < high for low, high in itertools.pairwise([train.warmup_epochs, *milestones, train.epochs])
    ):
        raise UsageError(
            f"train.milestones: {milestones} must increase, "
            f"between train.warmup_epochs {train.warmup_epochs} and train.epochs {train.epochs}"
        )


def _check_unused(train: TrainConfig, key: str, own_keys: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse a key of another optimizer or schedule that is not at its default."""
    name = getattr(train, key)
    defaults = {field.name: field.default for field in dataclasses.fields(train)}
    for unused in sorted(set().union(*own_keys.values()) - set(own_keys[name])):
        value = getattr(train, unused)
        if value != defaults[unused]:
            users = " or ".join(user for user, keys in own_keys.items() if unused in keys)
            raise UsageError(
                f"train.{unused}: {value} has no effect with train.{key} {name}; remove it, or choose {users}"
            )
