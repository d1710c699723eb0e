"""Batches as functions of (seed, epoch, step), the hold-out, and the channel statistics."""

import itertools

import numpy as np
import pytest
import torch

from snnkd import distributed
from snnkd.data import check_fit
from snnkd.data.augment.mixing import mix, mixing_of, with_partner
from snnkd.data.augment.pipeline import augment
from snnkd.data.augment.rng import BatchRng
from snnkd.data.imageset import ImageSet, from_arrays, hold_out
from snnkd.data.loader import TrainBatches, measure_batches, to_float
from snnkd.data.split import Split
from snnkd.errors import UsageError
from snnkd.schema.augment import OPERATIONS, FlipConfig, MixupConfig, Operation
from snnkd.schema.run import TrainConfig

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)


def numbered(count: int = 23) -> Split:
    """Image i is filled with i + 1 and has label i."""
    labels = torch.arange(count)
    return Split((labels + 1).to(torch.uint8).view(-1, 1, 1, 1).expand(count, 1, 8, 8).contiguous(), labels)


def batches(
    seed: int = 0, operations: tuple[Operation, ...] = ("crop", "flip"), split: Split | None = None
) -> TrainBatches:
    return TrainBatches(split or numbered(), 5, operations, seed, CPU, 23)


EVERY = tuple(OPERATIONS)
"""All that there is, each once, what mixes images last."""


def pictures(count: int = 40, channels: int = 3) -> Split:
    pixels = torch.randint(
        0, 256, (count, channels, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(4)
    )
    return Split(pixels, torch.arange(count) % 10)


def image_set(count: int = 40, val: bool = False) -> ImageSet:
    pixels = RNG.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(count)
    splits = {"train": (pixels, labels), "test": (pixels[:10], labels[:10])}
    return from_arrays("some", count, splits | ({"val": (pixels[:5], labels[:5])} if val else {}))


def test_a_batch_is_a_pure_function_of_seed_epoch_and_step():
    places = list(itertools.product(range(3), range(4)))
    here = batches()
    forwards = {place: here.batch(*place) for place in places}
    for place in [*reversed(places), *places[::3]]:
        images, labels = batches().batch(*place)
        assert images.equal(forwards[place][0])
        assert labels.equal(forwards[place][1])
        again = here.batch(*place)
        assert again[0].equal(images)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("operations", [EVERY, EVERY[:-2], *((name,) for name in EVERY)])
def test_with_every_operation_a_batch_is_a_pure_function_and_its_parts_joined_are_the_batch(
    operations, channels, monkeypatch
):
    def made() -> TrainBatches:
        return TrainBatches(pictures(channels=channels), 12, operations, 3, CPU, 10)

    here = made()
    whole = {place: here.batch(*place) for place in itertools.product(range(2), range(3))}
    plain = TrainBatches(pictures(channels=channels), 12, (), 3, CPU)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    for place in reversed(whole):
        for count in (1, 2, 3):
            monkeypatch.setattr(distributed, "world_size", lambda count=count: count)
            parts = []
            for index in range(count):
                monkeypatch.setattr(distributed, "rank", lambda index=index: index)
                parts.append(made().batch(*place))
            assert torch.cat([images for images, _ in parts]).equal(whole[place][0])
            assert torch.cat([labels for _, labels in parts]).equal(whole[place][1])
        assert not whole[place][0].equal(plain.batch(*place)[0])
        assert whole[place][0].isfinite().all()
        assert 0 <= whole[place][0].min() <= whole[place][0].max() <= 1
    assert torch.get_rng_state().equal(before)


def test_no_operation_asks_the_device_for_a_value():
    """Tensors of the device `meta` have none to give, and go together with no other device's."""
    for channels in (1, 3):
        split, meta = pictures(channels=channels), torch.device("meta")
        part = with_partner(40, slice(None))
        rng = BatchRng(torch.Generator().manual_seed(0), 40, part, meta)
        images = split.images.to(meta)[part.to(meta)]
        made = augment(images, EVERY, rng, torch.zeros(channels, dtype=torch.uint8, device=meta))
        mixed, shares = mix(to_float(made), split.labels[part].to(meta), mixing_of(EVERY), 10, rng)
        assert (mixed.device, mixed.shape, shares.shape) == (meta, split.images.shape, (40, 10))


def test_labels_of_mixed_images_are_their_classes_shares():
    operations = ("crop", MixupConfig(p=0.5), "cutmix")
    for step in range(4):
        (images, shares), (_, labels) = (
            batches(operations=operations).batch(0, step),
            batches().batch(0, step),
        )
        assert shares.shape == (5, 23)
        allowed = torch.zeros(5, 23).scatter(1, torch.stack((labels, labels.roll(1)), 1), 1.0)
        assert not shares[allowed == 0].any()
        torch.testing.assert_close(shares.sum(1), torch.ones(5))
        # images are filled with their number: the most of a blend lies between the two
        most = (images.amax((1, 2, 3)) * 255 - 1 - 1e-3).clamp_min(0)
        assert (most <= torch.maximum(labels, labels.roll(1))).all()


def test_the_global_random_state_is_neither_used_nor_changed():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = batches().batch(0, 0)[0]
    assert torch.get_rng_state().equal(before)
    torch.manual_seed(2)
    assert batches().batch(0, 0)[0].equal(first)


@pytest.mark.parametrize("epoch", [0, 1])
def test_an_epoch_shows_an_image_at_most_once_and_leaves_out_the_incomplete_batch(epoch):
    made = batches()
    assert made.steps == 4
    seen = torch.cat([made.batch(epoch, step)[1] for step in range(made.steps)]).tolist()
    assert len(seen) == len(set(seen)) == 20


def test_epochs_leave_out_other_images():
    left_out = {
        frozenset(range(23)) - set(torch.cat([batches().batch(epoch, step)[1] for step in range(4)]).tolist())
        for epoch in range(4)
    }
    assert len(left_out) > 1


def test_labels_stay_with_their_images():
    for epoch, step in itertools.product(range(3), range(4)):
        images, labels = batches().batch(epoch, step)
        assert (images.amax((1, 2, 3)) * 255).round().long().tolist() == (labels + 1).tolist()


def test_another_seed_gives_another_order_and_other_augmentation():
    assert batches(0).batch(0, 0)[1].tolist() != batches(1).batch(0, 0)[1].tolist()
    noise = Split(torch.randint(256, (5, 1, 16, 16), dtype=torch.uint8), torch.arange(5))
    by_label = []
    for seed in (0, 1):
        images, labels = batches(seed, split=noise).batch(0, 0)
        by_label.append(images[labels.argsort()])
    assert not by_label[0].equal(by_label[1])


def test_every_epoch_and_step_augments_anew():
    alike = torch.arange(256).to(torch.uint8).view(1, 1, 16, 16).expand(10, 1, 16, 16)
    made = batches(split=Split(alike, torch.arange(10)))
    seen = {made.batch(epoch, step)[0].numpy().tobytes() for epoch in range(3) for step in range(2)}
    assert len(seen) == 6


def test_augmentation_does_not_change_the_order():
    assert batches(operations=()).batch(2, 1)[1].equal(batches(operations=("crop", "flip")).batch(2, 1)[1])


def test_images_become_floats_from_0_to_1():
    made = to_float(torch.tensor([0, 51, 255], dtype=torch.uint8))
    assert made.dtype == torch.float32
    assert made.tolist() == pytest.approx([0, 0.2, 1])


def test_too_large_a_batch_is_refused():
    data = image_set(23)
    with pytest.raises(
        UsageError, match=r"^train\.batch_size: 24 is above the number of training images, 23$"
    ):
        check_fit(TrainConfig(batch_size=24), data)
    check_fit(TrainConfig(batch_size=23), data)
    assert TrainBatches(data.train, 23, (), 0, CPU).steps == 1


def test_the_best_epoch_needs_validation_images():
    with pytest.raises(UsageError, match=r"data\.val_fraction above 0"):
        check_fit(TrainConfig(batch_size=5, select="best"), image_set())
    check_fit(TrainConfig(batch_size=5, select="best"), image_set(val=True))


def test_measuring_goes_over_all_images_in_order():
    parts = list(measure_batches(numbered(), 10, CPU))
    assert [len(labels) for _, labels in parts] == [10, 10, 3]
    assert torch.cat([labels for _, labels in parts]).tolist() == list(range(23))
    assert torch.cat([images for images, _ in parts]).equal(to_float(numbered().images))


def test_the_hold_out_is_always_the_same_and_disjoint_from_training():
    data = image_set()
    made, again = hold_out(data, 0.25), hold_out(data, 0.25)
    assert (len(made.train), len(made.val), len(made.test)) == (30, 10, 10)
    assert made.val.images.equal(again.val.images)
    assert sorted(made.train.labels.tolist() + made.val.labels.tolist()) == list(range(40))
    assert made.val.labels.tolist() != list(range(10))  # not the first ones
    for split in (made.train, made.val):
        assert split.images.equal(data.train.images[split.labels])
    assert made.sha256 == data.sha256
    assert made.test is data.test
    assert hold_out(data, 0) is data


def test_a_hold_out_that_leaves_nothing_is_refused():
    with pytest.raises(UsageError, match=r"^data\.val_fraction: 0\.01 of 40 images leaves a split empty$"):
        hold_out(image_set(), 0.01)
    with pytest.raises(UsageError, match="has its own"):
        hold_out(image_set(val=True), 0.1)


def test_channel_statistics_are_numpys():
    data = image_set()
    pixels = data.train.images.numpy() / 255
    mean, std = data.channel_statistics()
    assert mean == pytest.approx(pixels.mean((0, 2, 3)), rel=1e-12)
    assert std == pytest.approx(pixels.std((0, 2, 3)), rel=1e-9)


def test_a_constant_channel_does_not_divide_by_zero():
    pixels = np.full((4, 8, 8), 51, np.uint8)
    made = from_arrays("flat", 4, {"train": (pixels, np.arange(4)), "test": (pixels, np.arange(4))})
    assert made.channel_statistics() == (pytest.approx([0.2]), [1e-3])


def test_alternating_flips_show_each_image_both_ways_in_two_epochs():
    ramp = torch.arange(8, dtype=torch.uint8).expand(1000, 1, 8, 8).contiguous()  # rises from left to right
    of = TrainBatches(Split(ramp, torch.arange(1000)), 1000, (FlipConfig(alternate=True),), 0, CPU, 1000)

    def flipped(epoch: int) -> torch.Tensor:
        shown, labels = of.batch(epoch, 0)
        return (shown[:, 0, 0, 0] > 0)[labels.argsort()]

    first, second = flipped(0), flipped(1)
    assert 450 < int(first.sum()) < 550
    assert second.equal(~first)
    assert flipped(2).equal(first)
