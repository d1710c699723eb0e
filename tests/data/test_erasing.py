"""Cutout and random erasing: where the rectangles lie, in what colour, and for any number of channels."""

import math

import pytest
import torch
from torchvision.transforms import RandomErasing
from torchvision.transforms.v2 import functional as reference

from snnkd.data.augment.erasing import cutout_boxes, erasing_boxes, paint
from snnkd.data.augment.pipeline import augment, check_shape, fill_colour
from snnkd.data.augment.rng import BatchRng
from snnkd.data.split import Split
from snnkd.errors import UsageError
from snnkd.schema.augment import CutoutConfig, EraseConfig

CPU = torch.device("cpu")
USUAL = {"p": 0.5, "scale": (0.02, 0.33), "ratio": (0.3, 3.3)}


def rng(count, seed=0, part=slice(None)):
    return BatchRng(torch.Generator().manual_seed(seed), count, part, CPU)


def noise(count, channels=3, height=32, width=32):
    return torch.randint(
        0,
        256,
        (count, channels, height, width),
        dtype=torch.uint8,
        generator=torch.Generator().manual_seed(1),
    )


@pytest.mark.parametrize("channels", [1, 3, 8])
@pytest.mark.parametrize("operation", ["cutout", "erase"])
def test_what_is_painted_is_torchvisions_erase_at_the_same_box(operation, channels):
    given, colour = noise(60, channels, 24, 40), torch.arange(10, 10 + channels, dtype=torch.uint8)
    made = augment(given, [operation], rng(60), colour)
    boxes = (
        cutout_boxes(rng(60), 24, 40, 12)
        if operation == "cutout"
        else erasing_boxes(rng(60), 24, 40, **USUAL)
    )
    wanted = [
        reference.erase(image, top, left, bottom - top, right - left, colour.view(-1, 1, 1))
        for image, (top, left, bottom, right) in zip(given, boxes.tolist(), strict=True)
    ]
    assert made.equal(torch.stack(wanted))
    assert made.dtype == torch.uint8
    assert not made.equal(given)


def test_cutout_is_a_square_around_any_pixel_cut_off_at_the_border():
    boxes = cutout_boxes(rng(20_000), 32, 32, 16)
    tops, counts = boxes[:, 0].unique(return_counts=True)
    assert tops.tolist() == list(range(24))
    assert counts[0] / 20_000 == pytest.approx(9 / 32, abs=0.02)  # centres 0 to 8
    assert counts[1:].min() > 450  # one centre each, 625 expected
    sides = boxes[:, 2:] - boxes[:, :2]
    assert sides.max() == 16
    assert sides.min() == 8  # the centre is a pixel of the image
    assert boxes.min() == 0
    assert boxes.max() == 32


def test_cutout_takes_half_the_shorter_side_unless_told():
    white = torch.full((500, 1, 24, 40), 255, dtype=torch.uint8)
    for operation, side in (("cutout", 12), (CutoutConfig(size=5), 5)):
        painted = (augment(white, [operation], rng(500)) == 0).sum((1, 2, 3))
        assert painted.max() == side * side


def test_erasing_follows_torchvisions_rule():
    count, image = 4000, torch.zeros(3, 32, 32)
    boxes = erasing_boxes(rng(count), 32, 32, **USUAL)
    high, wide = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    drawn = high > 0
    assert drawn.float().mean() == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(count))
    assert boxes.min() >= 0
    assert boxes.max() <= 32
    torch.manual_seed(0)
    theirs = torch.tensor(
        [RandomErasing.get_params(image, USUAL["scale"], USUAL["ratio"], [0.0])[:4] for _ in range(2000)]
    ).double()
    for mine, wanted in (
        (high, theirs[:, 2]),
        (wide, theirs[:, 3]),
        (boxes[:, 0], theirs[:, 0]),
        (boxes[:, 1], theirs[:, 1]),
    ):
        found = mine[drawn].double()
        assert float(found.mean()) == pytest.approx(float(wanted.mean()), abs=0.6)
        assert float(found.std()) == pytest.approx(float(wanted.std()), abs=0.5)


def test_erasing_does_nothing_where_nothing_fits():
    boxes = erasing_boxes(rng(50), 8, 8, p=1.0, scale=(1.0, 1.0), ratio=(1.0, 1.0))
    assert (boxes[:, 2:] == boxes[:, :2]).all()
    assert paint(noise(50, 3, 8, 8), boxes, torch.zeros(3, dtype=torch.uint8)).equal(noise(50, 3, 8, 8))


def test_the_options_of_erasing_count():
    given = noise(200)
    for options, low, high in (
        (EraseConfig(p=1, scale_low=0.2, scale_high=0.25), 0.15, 0.3),
        (EraseConfig(p=1, scale_high=0.03), 0.01, 0.05),
    ):
        share = (augment(given, [options], rng(200)) != given).any(1).float().mean((1, 2))
        assert low < share.min()
        assert share.max() < high
    tall = erasing_boxes(rng(200), 32, 32, p=1.0, scale=(0.1, 0.1), ratio=(3.0, 3.3))
    assert ((tall[:, 2] - tall[:, 0]) > 2 * (tall[:, 3] - tall[:, 1])).all()


def test_the_colour_is_the_mean_which_normalisation_makes_0():
    split = Split(noise(50), torch.zeros(50, dtype=torch.int64))
    colour = fill_colour(["crop", "cutout"], split)
    assert colour.tolist() == split.images.double().mean((0, 2, 3)).round().tolist()
    assert fill_colour(["crop"], split) is None
    part = Split(split.images, split.labels[:10], torch.arange(10))  # images that are mapped, not copied
    assert (
        fill_colour([EraseConfig(p=1)], part).tolist()
        == split.images[:10].double().mean((0, 2, 3)).round().tolist()
    )


def test_shapes_that_an_operation_cannot_take_are_refused():
    for name in ("autoaugment", "randaugment", "trivialaugment"):
        with pytest.raises(
            UsageError, match=rf"^data\.augment: {name} needs grey or RGB images, not 2 channels"
        ):
            check_shape(["crop", name], (2, 34, 34))
    check_shape(["crop", "flip", "cutout", "erase", "mixup", "cutmix"], (20, 34, 34))
    with pytest.raises(UsageError, match="size 17 is above the image size 16x16"):
        check_shape([CutoutConfig(size=17)], (1, 16, 16))
    check_shape([CutoutConfig(size=16)], (1, 16, 16))
