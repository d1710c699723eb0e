"""Augmentation against torchvision and by its rules."""

import pytest
import torch
from torchvision.transforms import functional as reference

from snnkd.data.augment.pipeline import augment, crop, flip
from snnkd.data.augment.rng import BatchRng


def images(count: int = 40, channels: int = 3, height: int = 32, width: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(1, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator)


def generator_of(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rng(count: int, seed: int = 7, part: slice = slice(None)) -> BatchRng:
    return BatchRng(generator_of(seed), count, part, torch.device("cpu"))


@pytest.mark.parametrize(
    ("channels", "height", "width"), [(3, 32, 32), (1, 16, 16), (3, 24, 40), (1, 8, 8), (2, 5, 6)]
)
def test_crop_is_torchvisions_pad_and_crop_at_the_same_offsets(channels, height, width):
    given = images(40, channels, height, width)
    made = crop(given, rng(40))
    pad_y, pad_x = max(1, height // 8), max(1, width // 8)
    generator = generator_of()
    tops = torch.randint(2 * pad_y + 1, (40, 1, 1), generator=generator).flatten().tolist()
    lefts = torch.randint(2 * pad_x + 1, (40, 1, 1), generator=generator).flatten().tolist()
    wanted = [
        reference.crop(reference.pad(image, [pad_x, pad_y]), top, left, height, width)
        for image, top, left in zip(given, tops, lefts, strict=True)
    ]
    assert made.dtype == torch.uint8
    assert made.equal(torch.stack(wanted))
    assert {0, 2 * pad_y} <= set(tops)  # both ends are reached


def test_crop_pads_32_by_4():
    corner = torch.zeros(400, 1, 32, 32, dtype=torch.uint8)
    corner[:, :, 16, 16] = 255
    places = crop(corner, rng(400)).flatten(1).argmax(1)
    assert {int(place) // 32 for place in places} == set(range(12, 21))
    assert {int(place) % 32 for place in places} == set(range(12, 21))


def test_flip_mirrors_half_of_the_images_exactly():
    given = images(2000, 1, 4, 4)
    made = flip(given, rng(2000))
    kept = (made == given).flatten(1).all(1)
    mirrored = (made == given.flip(-1)).flatten(1).all(1)
    assert bool((kept | mirrored).all())
    assert 900 < int(mirrored.sum()) < 1100
    assert int((kept & mirrored).sum()) < 5


def test_images_are_augmented_independently_and_stay_in_their_places():
    marked = torch.arange(1, 51, dtype=torch.uint8).view(-1, 1, 1, 1).expand(50, 1, 16, 16)
    made = augment(marked, ("crop", "flip"), rng(50))
    assert made.amax((1, 2, 3)).tolist() == list(range(1, 51))
    assert len({tuple((image == 0).flatten().tolist()) for image in made}) > 10


def test_order_matters_nothing_is_nothing_and_seeds_differ():
    given = images()
    assert augment(given, (), rng(40)) is given
    assert augment(given, ("crop", "flip"), rng(40)).equal(augment(given, ("crop", "flip"), rng(40)))
    assert not augment(given, ("crop", "flip"), rng(40)).equal(augment(given, ("flip", "crop"), rng(40)))
    assert not augment(given, ("crop",), rng(40, seed=1)).equal(augment(given, ("crop",), rng(40, seed=2)))
    assert given.equal(images())  # the data themselves are untouched


def test_the_parts_of_several_processes_are_the_whole_batch():
    given, names = images(), ("crop", "flip")
    parts = [
        augment(given[part], names, rng(40, part=part))
        for part in (slice(0, 10), slice(10, 20), slice(20, 40))
    ]
    assert torch.cat(parts).equal(augment(given, names, rng(40)))
