"""The data sets, one entry each."""

from __future__ import annotations

from snnkd.catalog.registry import Entry, Registry
from snnkd.schema import data, events


def _images(
    name: str,
    help: str,
    options: type,
    module: str,
    nominal: tuple[int, tuple[int, int, int], int],
    *,
    source: str,
    licence: str = "",
) -> Entry:
    """A published data set: `nominal` is its classes, shape and training images; `licence` as far as its makers state one."""
    details = (("nominal", nominal), ("source", source), ("licence", licence))
    return Entry(name, help, options, f"snnkd.data.sets.{module}:load", details=details)


DATA = Registry(
    "data set",
    [
        Entry("glyphs", "generated 16x16 characters, up to 100 look-alike classes; no download",
              data.GlyphsConfig, "snnkd.data.sets.glyphs:load"),
        _images("cifar10", "CIFAR-10, 32x32 RGB, 10 classes", data.PhotoConfig, "cifar", (10, (3, 32, 32), 50_000),
                source="https://www.cs.toronto.edu/~kriz/cifar.html"),
        _images("cifar100", "CIFAR-100, 32x32 RGB, 100 classes", data.PhotoConfig, "cifar", (100, (3, 32, 32), 50_000),
                source="https://www.cs.toronto.edu/~kriz/cifar.html"),
        _images("tiny-imagenet", "Tiny ImageNet, 64x64 RGB, 200 classes; mapped into memory", data.PhotoConfig, "tiny_imagenet",
                (200, (3, 64, 64), 100_000), source="http://cs231n.stanford.edu/tiny-imagenet-200.zip"),
        _images("mnist", "MNIST, digits, 28x28 grey, 10 classes", data.DigitConfig, "mnist_svhn", (10, (1, 28, 28), 60_000),
                source="http://yann.lecun.com/exdb/mnist/"),
        _images("fashion-mnist", "Fashion-MNIST, clothes, 28x28 grey, 10 classes", data.PhotoConfig, "mnist_svhn",
                (10, (1, 28, 28), 60_000), source="https://github.com/zalandoresearch/fashion-mnist", licence="MIT"),
        _images("svhn", "SVHN, house numbers, 32x32 RGB, 10 classes", data.DigitConfig, "mnist_svhn", (10, (3, 32, 32), 73_257),
                source="http://ufldl.stanford.edu/housenumbers/"),
        Entry("imagefolder", "your own pictures, PATH/train/CLASS/*.jpg and PATH/test (or val)",
              data.ImageFolderConfig, "snnkd.data.sets.imagefolder:load", argument="PATH"),
        _images("n-mnist", "N-MNIST, events of 34x34 pixels, 10 classes", events.NMNISTConfig, "events", (10, (2, 34, 34), 60_000),
                source="https://www.garrickorchard.com/datasets/n-mnist"),
        _images("cifar10-dvs", "CIFAR10-DVS, events of 128x128 pixels, 10 classes; split by snnkd", events.SplitEventConfig, "events",
                (10, (2, 128, 128), 9_000), source="https://doi.org/10.3389/fnins.2017.00309"),
        _images("dvs128-gesture", "DVS128 Gesture, events of 128x128 pixels, 11 classes", events.GestureConfig, "events",
                (11, (2, 128, 128), 1_176), source="https://ibm.ent.box.com/s/3hiq58ww1pbbjrinh367ykfdf60xsfm8/folder/50167556794"),
        Entry("npz", "your own uint8 images in one file, key names as in MedMNIST",
              data.PartConfig, "snnkd.data.sets.npz:load", argument="PATH"),
    ],
    user=Entry("MODULE:FUNCTION", "your own function that returns the arrays", data.UserData, "snnkd.data.sets.user:load"),
)  # fmt: skip
