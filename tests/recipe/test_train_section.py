"""The train section: defaults by optimizer, and keys that would have no effect."""

import pytest

from snnkd.errors import UsageError
from snnkd.recipe import resolve_stage
from snnkd.runs.folder import identity
from snnkd.schema.run import TrainConfig


def train(*settings: str) -> TrainConfig:
    return resolve_stage(
        "glyphs", "teach", settings=["train={}", *(f"train.{setting}" for setting in settings)]
    ).train


def test_defaults_follow_the_optimizer():
    assert (train().lr, train().weight_decay) == (0.1, 5e-4)
    assert (train("optimizer=adam").lr, train("optimizer=adam").weight_decay) == (1e-3, 0)
    assert (train("optimizer=adamw").lr, train("optimizer=adamw").weight_decay) == (1e-3, 1e-2)
    assert train("optimizer=adamw", "lr=0.002").lr == 0.002


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("betas=[0.5, 0.9]",), "train.betas: (0.5, 0.9) has no effect with train.optimizer sgd; remove it"),
        (
            ("optimizer=adamw", "nesterov=true"),
            "train.nesterov: True has no effect with train.optimizer adamw",
        ),
        (("optimizer=adam", "momentum=0.5"), "train.momentum: 0.5 has no effect with train.optimizer adam"),
        (("milestones=[3]",), "train.milestones: (3,) has no effect with train.schedule cosine"),
        (("schedule=constant", "final_lr=0.01"), "train.final_lr: 0.01 has no effect"),
        (("schedule=one-cycle", "warmup_epochs=1"), "train.warmup_epochs: 1 has no effect"),
        (
            ("peak=0.5",),
            "train.peak: 0.5 has no effect with train.schedule cosine; remove it, or choose one-",
        ),
        (("optimizer=adamw", "lr=0.1"), "train.lr: 0.1 is too high for adamw; set it to 0.05 at most"),
        (("nesterov=true", "momentum=0"), "train.nesterov: true needs train.momentum above 0"),
        (("optimizer=adam", "betas=[0.9]"), "train.betas: [0.9] must be two numbers"),
        (("optimizer=adam", "betas=[0.9, 1]"), "train.betas: [0.9, 1.0] must be two numbers"),
        (("final_lr=0.2",), "train.final_lr: 0.2 exceeds train.lr, 0.1"),
        (("epochs=3", "warmup_epochs=4"), "train.warmup_epochs: 4 exceeds train.epochs, 3"),
        (("schedule=multistep",), "train.milestones: empty; multistep needs epochs"),
        (("schedule=multistep", "milestones=[3, 2]"), "train.milestones: [3, 2] must increase"),
        (("schedule=multistep", "epochs=5", "milestones=[5]"), "train.milestones: [5] must increase"),
        (("schedule=multistep", "warmup_epochs=2", "milestones=[2]"), "train.milestones: [2] must increase"),
        (("optimizer=lion",), "train.optimizer: 'lion' is not one of sgd, adam, adamw"),
    ],
)
def test_what_contradicts_or_has_no_effect_is_refused(settings, message):
    with pytest.raises(UsageError) as refusal:
        train(*settings)
    assert str(refusal.value).startswith(message)
    assert len(str(refusal.value).split()) <= 20


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("nesterov=true", {"nesterov": True}),
        ("schedule=linear", {"schedule": "linear"}),
        ("clip_grad_norm=1", {"clip_grad_norm": 1.0}),
        ("norm_lr_factor=64", {"norm_lr_factor": 64.0}),
    ],
)
def test_the_keys_are_part_of_the_identity(setting, value):
    """At their defaults, keys that 0.1.0 lacked are not: its runs keep their names."""
    base, changed = (
        identity(resolve_stage("glyphs", "teach", settings=settings), "sha", None)["train"]
        for settings in ([], [f"train.{setting}"])
    )
    assert changed == {**base, **value}
    assert set(base) == {
        "epochs", "batch_size", "lr", "momentum", "weight_decay", "schedule", "warmup_epochs", "label_smoothing",
        "select", "ema", "init",
    }  # fmt: skip
