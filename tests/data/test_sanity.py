"""Images and labels that no real data set has are doubted before training; ordinary ones are not."""

import dataclasses

import numpy as np
import pytest

from snnkd.console import Console
from snnkd.data import load_data
from snnkd.data.imageset import ImageSet, from_arrays
from snnkd.data.sanity import doubts
from snnkd.schema.data import GlyphsConfig

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
LABELS = np.arange(40) % 2


def image_set(images: np.ndarray = NOISE, labels: np.ndarray = LABELS) -> ImageSet:
    return from_arrays("mine", 2, {"train": (images, labels), "test": (NOISE, LABELS)})


def test_ordinary_images_raise_no_doubt():
    assert doubts(image_set()) == []
    glyphs = GlyphsConfig(classes=10, train_images=100, test_images=50)
    assert doubts(load_data(glyphs, Console(quiet=True))) == []
    strokes = np.zeros_like(NOISE)  # MNIST has 81 % black pixels
    strokes[:, :3] = NOISE[:, :3]
    assert doubts(image_set(strokes)) == []


def test_two_colours_are_no_constant_image():
    images = NOISE.copy()
    images[0] = [10, 20, 30]
    assert doubts(image_set(images)) == ["mine: 1 of 40 sampled training images are constant; view the files"]
    images[0, 0, 0] = [11, 20, 30]
    assert doubts(image_set(images)) == []


@pytest.mark.parametrize(
    ("images", "doubt"),
    [
        (np.full_like(NOISE, 255), "40 of 40 sampled training images are constant"),
        (NOISE[np.arange(40) % 3], "only 3 of 40 sampled training images differ"),
        (
            (NOISE > 1) * np.uint8(255),
            "100.0 % of the pixels of 40 sampled training images are exactly 0 or 255",
        ),
        (NOISE // 255, "no pixel of 40 sampled training images is above 1 of 255"),
        (np.round(NOISE / 255 * 4095 / 65535 * 255), "no pixel of 40 sampled training images is above 16 of"),
    ],
)
def test_doubtful_images(images, doubt):
    images = np.array(images, np.uint8)
    if doubt.startswith("no pixel"):
        images[:, 0, 0] = 1  # no image is constant
        images[:, 0, 1] = 0
    elif "exactly" in doubt:
        images[:, 0, 0], images[:, 0, 1] = 0, 255
    (only,) = doubts(image_set(images))
    assert only.startswith(f"mine: {doubt}")


def test_one_class():
    assert doubts(image_set(labels=np.ones(40, int))) == ["mine: all 40 training images are of class 1"]


def test_test_and_validation_images_are_looked_at():
    data = image_set()
    black = dataclasses.replace(data.test, images=data.test.images * 0)
    (test,) = doubts(dataclasses.replace(data, test=black))
    (val,) = doubts(dataclasses.replace(data, val=black))
    assert "40 of 40 sampled test images" in test
    assert "40 of 40 sampled validation images" in val


def test_training_warns_first(cli):
    np.savez("black.npz", train_images=NOISE * 0, train_labels=LABELS, test_images=NOISE, test_labels=LABELS)
    trained = cli(
        "teach",
        "--data",
        "npz:black.npz",
        "--model",
        "resnet8",
        "--set",
        "model.width=2",
        "--epochs",
        1,
        "--batch-size",
        20,
    )
    assert trained.code == 0
    warning = "warning: npz:black.npz: 40 of 40 sampled training images are constant"
    assert -1 < trained.err.index(warning) < trained.err.index("run: ")
