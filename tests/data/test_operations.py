"""Each image operator against torchvision's on the same parameters, image by image."""

import math

import pytest
import torch
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as reference

from snnkd.data.augment.operations import OPERATORS, apply_operators
from snnkd.data.augment.policies import standard_table, wide_table

SHAPES = [(3, 32, 32), (1, 16, 16), (3, 24, 40), (1, 9, 7), (3, 15, 33)]


def images(count, shape, smooth, seed=0):
    """Noise, or images in which neighbours are alike; with some that are of one level, or nearly."""
    generator = torch.Generator().manual_seed(seed)
    channels, height, width = shape
    if smooth:
        coarse = torch.rand(count, channels, height // 4 + 1, width // 4 + 1, generator=generator)
        return (255 * F.interpolate(coarse, (height, width), mode="bilinear")).to(torch.uint8)
    made = torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)
    made[0] = 7
    if count > 2:
        made[1, 0], made[2, :, : height // 2] = 0, 250
    return made


def torchvisions(name, image, m):
    """What torchvision's own policies call for an operator and its magnitude."""
    slant = math.degrees(math.atan(m))
    calls = {
        "identity": lambda: image,
        "shear_x": lambda: reference.affine(image, 0.0, [0, 0], 1.0, [slant, 0.0], center=[0, 0]),
        "shear_y": lambda: reference.affine(image, 0.0, [0, 0], 1.0, [0.0, slant], center=[0, 0]),
        "translate_x": lambda: reference.affine(image, 0.0, [int(m), 0], 1.0, [0.0, 0.0]),
        "translate_y": lambda: reference.affine(image, 0.0, [0, int(m)], 1.0, [0.0, 0.0]),
        "rotate": lambda: reference.rotate(image, m),
        "brightness": lambda: reference.adjust_brightness(image, 1 + m),
        "color": lambda: reference.adjust_saturation(image, 1 + m),
        "contrast": lambda: reference.adjust_contrast(image, 1 + m),
        "sharpness": lambda: reference.adjust_sharpness(image, 1 + m),
        "posterize": lambda: reference.posterize(image, int(m)),
        "solarize": lambda: reference.solarize(image, m),
        "autocontrast": lambda: reference.autocontrast(image),
        "equalize": lambda: reference.equalize(image),
        "invert": lambda: reference.invert(image),
    }
    return calls[name]()


def all_magnitudes(name, shape):
    found = []
    for table in (standard_table(10, *shape[1:]), standard_table(31, *shape[1:]), wide_table(31)):
        values, signed = table[name]
        found += [sign * value for value in values or (0.0,) for sign in ((1, -1) if signed else (1,))]
    return sorted(set(found))


BLENDS = ("color", "contrast", "sharpness")
"""torch's kernels round a multiply-add once where the processor fuses it, as ours do, and twice elsewhere: a
level apart."""


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("name", OPERATORS)
def test_operators_are_torchvisions(name, smooth):
    fused = torch.backends.cpu.get_cpu_capability() != "DEFAULT"
    for shape in SHAPES:
        magnitudes = all_magnitudes(name, shape)
        given = images(len(magnitudes), shape, smooth)
        before = given.clone()
        made = OPERATORS[name](given, magnitudes)
        assert made.dtype == torch.uint8
        assert given.equal(before)
        wanted = torch.stack(
            [torchvisions(name, image, m) for image, m in zip(given, magnitudes, strict=True)]
        )
        difference = (made.int() - wanted.int()).abs().max()
        assert difference <= (1 if name in BLENDS and not fused else 0), f"{name} {shape}"


@pytest.mark.parametrize("name", sorted(set(OPERATORS) - {"identity"}))
def test_operators_do_something(name):
    given, strength = images(3, (3, 16, 16), True), {"posterize": 4, "solarize": 100.0, "rotate": 20.0}
    strength |= {"translate_x": 3.0, "translate_y": 3.0}
    assert not OPERATORS[name](given, [strength.get(name, 0.5)] * 3).equal(given)


def test_images_that_are_no_image_long_still_pass():
    """Sharpness needs a pixel with neighbours; torchvision leaves smaller images as they are."""
    tiny = images(2, (1, 2, 5), False)
    assert OPERATORS["sharpness"](tiny, [0.9, -0.9]).equal(tiny)


def test_each_image_gets_its_own_operator_and_stays_in_its_place():
    names = list(OPERATORS) * 3
    given = images(len(names), (3, 16, 16), True)
    magnitudes = [
        4.0 if name == "posterize" else 100.0 if name == "solarize" else 0.3 + 0.01 * i
        for i, name in enumerate(names)
    ]
    made = apply_operators(given, names, magnitudes)
    for image, name, m, found in zip(given, names, magnitudes, made, strict=True):
        assert found.equal(OPERATORS[name](image[None], [m])[0])
    assert apply_operators(given, ["identity"] * len(names), magnitudes) is given
