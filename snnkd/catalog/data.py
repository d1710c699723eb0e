"""The data sets, one entry each."""

from __future__ import annotations

import os
from dataclasses import dataclass

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


def _published(
    name: str, help: str, options: type, module: str, nominal: Nominal, source: str, licence: str = ""
) -> DataEntry:
    target = f"snnkd.data.sets.{module}:load"
    return DataEntry(name, help, target, options=options, nominal=nominal, source=source, licence=licence)


def _name_at(path: str) -> str | None:
    """The data set that a path of the user's pictures or arrays would be given as."""
    place = os.path.expanduser(path)
    if os.path.isdir(place):
        return f"imagefolder:{path}"
    return f"npz:{path}" if os.path.isfile(place) and path.endswith(".npz") else None


# fmt: off
DATA = Registry("data set", [
    DataEntry("glyphs", "generated 16x16 characters, up to 100 look-alike classes; no download",
              "snnkd.data.sets.glyphs:load", options=data.GlyphsConfig),
    _published("cifar10", "CIFAR-10, 32x32 RGB, 10 classes", data.PhotoConfig, "cifar",
               (10, (3, 32, 32), 50_000), "https://www.cs.toronto.edu/~kriz/cifar.html"),
    _published("cifar100", "CIFAR-100, 32x32 RGB, 100 classes", data.PhotoConfig, "cifar",
               (100, (3, 32, 32), 50_000), "https://www.cs.toronto.edu/~kriz/cifar.html"),
    _published("tiny-imagenet", "Tiny ImageNet, 64x64 RGB, 200 classes; memory-mapped", data.PhotoConfig,
               "tiny_imagenet", (200, (3, 64, 64), 100_000), "http://cs231n.stanford.edu/tiny-imagenet-200.zip"),
    _published("mnist", "MNIST, digits, 28x28 grey, 10 classes", data.DigitConfig, "mnist_svhn",
               (10, (1, 28, 28), 60_000), "http://yann.lecun.com/exdb/mnist/"),
    _published("fashion-mnist", "Fashion-MNIST, clothes, 28x28 grey, 10 classes", data.PhotoConfig,
               "mnist_svhn", (10, (1, 28, 28), 60_000),
               "https://github.com/zalandoresearch/fashion-mnist", licence="MIT"),
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
