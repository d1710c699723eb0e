"""The policies' tables and draws against torchvision's, and a batch against torchvision's operators one by
one."""

import math
from collections import Counter

import pytest
import torch
from test_operations import images, torchvisions
from torchvision import transforms

from snnkd.data.augment import policies
from snnkd.data.augment.pipeline import augment
from snnkd.data.augment.policies import (
    CIFAR10,
    SAMPLED,
    autoaugment,
    randaugment,
    standard_table,
    trivialaugment,
    wide_table,
)
from snnkd.data.augment.rng import BatchRng
from snnkd.schema.augment import RandAugmentConfig, TrivialAugmentConfig

CPU = torch.device("cpu")
POLICIES = {
    "autoaugment": autoaugment,
    "randaugment": lambda d, h, w: randaugment(d, h, w, 2, 9, 31),
    "trivialaugment": lambda d, h, w: trivialaugment(d, 31),
}


def rng(count, seed=0, part=slice(None)):
    return BatchRng(torch.Generator().manual_seed(seed), count, part, CPU)


def ours(name):
    """torchvision's name of an operator as ours."""
    return {
        "ShearX": "shear_x",
        "ShearY": "shear_y",
        "TranslateX": "translate_x",
        "TranslateY": "translate_y",
    }.get(name, name.lower())


def plain(space):
    return {
        ours(name): (tuple(values.tolist()) if values.ndim else (), signed)
        for name, (values, signed) in space.items()
    }


@pytest.mark.parametrize(("height", "width"), [(32, 32), (16, 16), (24, 40)])
def test_tables_are_torchvisions(height, width):
    auto = transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10)._augmentation_space(
        10, (height, width)
    )
    made = standard_table(10, height, width)
    assert {name: made[name] for name in made if name != "identity"} == plain(auto)
    for bins in (31, 11):
        theirs = plain(transforms.RandAugment()._augmentation_space(bins, (height, width)))
        drawn = list(standard_table(bins, height, width).items())[:SAMPLED]
        assert drawn == list(theirs.items())  # in its order, too
        wide = plain(transforms.TrivialAugmentWide()._augmentation_space(bins))
        assert list(wide_table(bins).items())[:SAMPLED] == list(wide.items())


def test_sub_policies_are_torchvisions():
    theirs = transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10).policies
    assert [[(ours(name), p, bin or 0) for name, p, bin in pair] for pair in theirs] == [
        list(pair) for pair in CIFAR10
    ]


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 16, 16)])
@pytest.mark.parametrize("policy", POLICIES)
def test_a_batch_is_torchvisions_operators_one_image_after_another(policy, shape):
    count = 200
    given = images(count, shape, True)
    steps = POLICIES[policy](rng(count), *shape[1:])
    made = augment(given, [policy], rng(count))
    changed = 0
    for i, image in enumerate(given):
        wanted = image
        for step in steps:
            wanted = torchvisions(step.names[i], wanted, step.magnitudes[i])
        assert made[i].equal(wanted), [(step.names[i], step.magnitudes[i]) for step in steps]
        changed += not wanted.equal(image)
    assert changed > count / 2


def test_autoaugment_draws_pairs_probabilities_and_signs():
    count = 50_000
    first, second = autoaugment(rng(count), 32, 32)
    seen = Counter(zip(first.names, second.names, strict=True))
    table = standard_table(10, 32, 32)
    wanted = Counter()
    for (a, p, _), (b, q, _) in CIFAR10:
        for x, px in ((a, p), ("identity", 1 - p)):
            for y, qy in ((b, q), ("identity", 1 - q)):
                wanted[x, y] += px * qy / len(CIFAR10)
    assert all(wanted[pair] > 0 for pair in seen)
    for pair, share in wanted.items():
        assert seen[pair] / count == pytest.approx(share, abs=5 * math.sqrt(share / count) + 1e-9)
    turns = Counter(m for name, m in zip(first.names, first.magnitudes, strict=True) if name == "rotate")
    assert set(turns) == {table["rotate"][0][2], -table["rotate"][0][2]}
    assert 0.9 < turns[table["rotate"][0][2]] / turns[-table["rotate"][0][2]] < 1.1


def test_randaugment_draws_so_many_of_one_magnitude():
    steps = randaugment(rng(14_000), 32, 32, 3, 20, 31)
    assert len(steps) == 3
    for step in steps:
        seen = Counter(step.names)
        assert len(seen) == 14
        assert min(seen.values()) > 850
        assert {abs(m) for name, m in zip(step.names, step.magnitudes, strict=True) if name == "rotate"} == {
            20.0
        }
    assert steps[0].names != steps[1].names
    assert {m for name, m in zip(steps[0].names, steps[0].magnitudes, strict=True) if name == "rotate"} == {
        20.0,
        -20.0,
    }


def test_trivialaugment_draws_one_of_any_magnitude():
    (step,) = trivialaugment(rng(20_000), 31)
    turns = {m for name, m in zip(step.names, step.magnitudes, strict=True) if name == "rotate"}
    assert len(turns) == 61  # 31 magnitudes both ways, of which one is 0
    assert max(turns) == 135
    assert len(set(step.names)) == 14


def test_options_reach_the_policies(monkeypatch):
    seen = []

    def step(rng, *given):
        seen.append(given)
        return []

    monkeypatch.setattr(policies, "randaugment", step)
    monkeypatch.setattr(policies, "trivialaugment", step)
    given = images(4, (3, 8, 8), True)
    augment(
        given,
        [
            RandAugmentConfig(ops=3, magnitude=4, bins=7),
            TrivialAugmentConfig(bins=5),
            "randaugment",
            "trivialaugment",
        ],
        rng(4),
    )
    assert seen == [(8, 8, 3, 4, 7), (5,), (8, 8, 2, 9, 31), (31,)]
