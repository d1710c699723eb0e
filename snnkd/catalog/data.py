"""The data sets, one entry each."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snnkd.catalog.registry import Registry, SectionEntry
from snnkd.schema import data, events

Nominal = tuple[int, tuple[int, int, int], int]
"""Classes, shape `(C, H, W)` and training images of a published data set."""


@dataclass(frozen=True, kw_only=True)
class DataEntry(SectionEntry):
    """A data set; `nominal`, `source` and `licence` are those of a published one."""

    nominal: Nominal | None = None
    source: str = ""
    """Web page."""
    licence: str = ""
    """As far as its makers state one."""
    class_names: tuple[str, ...] = ()
    """Names of the classes by number, where the files do not carry them."""


CHARACTERS = (
    "0123456789"
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    "abcdefghijklmnopqrstuvwxyz"
    "αβγδεζηθικλμνξπρστυφχψω"  # without omicron, which these fonts draw exactly as o
    "ΓΔΘΛΞΠΣΦΨΩ"
    "|!/?&"
)
"""The classes of glyphs by number."""
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel
can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur
dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion
lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree
pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea
seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table
tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman
worm
"""
FASHION = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


def _published(
    name: str,
    help: str,
    options: type,
    module: str,
    nominal: Nominal,
    source: str,
    licence: str = "",
    class_names: tuple[str, ...] = (),
) -> DataEntry:
    return DataEntry(
        name,
        help,
        f"snnkd.data.sets.{module}:load",
        options=options,
        nominal=nominal,
        source=source,
        licence=licence,
        class_names=class_names,
    )


def _name_at(path: str) -> str | None:
    """The data set that a path of the user's pictures or arrays would be given as."""
    place = os.path.expanduser(path)
    if os.path.isdir(place):
        return f"imagefolder:{path}"
    return f"npz:{path}" if os.path.isfile(place) and path.endswith(".npz") else None


# fmt: off
DATA = Registry("data set", [
    DataEntry("glyphs", "generated 16x16 characters, up to 100 look-alike classes; no download",
              "snnkd.data.sets.glyphs:load", options=data.GlyphsConfig, class_names=tuple(CHARACTERS)),
    _published("cifar10", "CIFAR-10, 32x32 RGB, 10 classes", data.PhotoConfig, "cifar",
               (10, (3, 32, 32), 50_000), "https://www.cs.toronto.edu/~kriz/cifar.html", class_names=CIFAR10),
    _published("cifar100", "CIFAR-100, 32x32 RGB, 100 classes", data.PhotoConfig, "cifar",
               (100, (3, 32, 32), 50_000), "https://www.cs.toronto.edu/~kriz/cifar.html",
               class_names=tuple(_CIFAR100.split())),
    _published("tiny-imagenet", "Tiny ImageNet, 64x64 RGB, 200 classes; memory-mapped", data.PhotoConfig,
               "tiny_imagenet", (200, (3, 64, 64), 100_000), "http://cs231n.stanford.edu/tiny-imagenet-200.zip"),
    _published("mnist", "MNIST, digits, 28x28 grey, 10 classes", data.DigitConfig, "mnist_svhn",
               (10, (1, 28, 28), 60_000), "http://yann.lecun.com/exdb/mnist/"),
    _published("fashion-mnist", "Fashion-MNIST, clothes, 28x28 grey, 10 classes", data.PhotoConfig,
               "mnist_svhn", (10, (1, 28, 28), 60_000),
               "https://github.com/zalandoresearch/fashion-mnist", licence="MIT", class_names=FASHION),
    _published("svhn", "SVHN, house numbers, 32x32 RGB, 10 classes", data.DigitConfig, "mnist_svhn",
               (10, (3, 32, 32), 73_257), "http://ufldl.stanford.edu/housenumbers/"),
    DataEntry("imagefolder", "your own pictures, PATH/train/CLASS, PATH/test and PATH/val, or PATH/CLASS",
              "snnkd.data.sets.imagefolder:load", argument="PATH", options=data.ImageFolderConfig),
    _published("n-mnist", "N-MNIST, events of 34x34 pixels, 10 classes", events.NMNISTConfig, "events",
               (10, (2, 34, 34), 60_000), "https://www.garrickorchard.com/datasets/n-mnist"),
    _published("cifar10-dvs", "CIFAR10-DVS, events of 128x128 pixels, 10 classes; split by snnkd",
               events.SplitEventConfig, "events", (10, (2, 128, 128), 9_000), "https://doi.org/10.3389/fnins.2017.00309"),
    _published("dvs128-gesture", "DVS128 Gesture, events of 128x128 pixels, 11 classes", events.GestureConfig,
               "events", (11, (2, 128, 128), 1_176),
               "https://ibm.ent.box.com/s/3hiq58ww1pbbjrinh367ykfdf60xsfm8/folder/50167556794"),
    DataEntry("npz", "your own uint8 images in one file, key names as in MedMNIST",
              "snnkd.data.sets.npz:load", argument="PATH", options=data.NpzConfig),
], user=DataEntry("MODULE:FUNCTION", "your own function that returns the arrays",
                  "snnkd.data.sets.user:load", options=data.UserData), name_at=_name_at)


def class_names_of(config: Mapping[str, Any]) -> list[str] | None:
    """Names of a network's outputs from its config.json: of its own data, else the published ones.

    None where neither is known.
    """
    if config.get("class_names"):
        return list(config["class_names"])
    data = config.get("data")
    name = data.get("name") if isinstance(data, Mapping) else None
    published = next((entry.class_names for entry in DATA if entry.name == name), ())
    classes = config.get("classes", 0)
    return list(published[:classes]) if 0 < classes <= len(published) else None
