"""What data sets and models there are, one entry each; the losses are in methods.py."""

from __future__ import annotations

from snnkd.recipe import data_schema, event_schema, model_schema
from snnkd.registry import Entry, Registry


def _images(
    name: str, help: str, options: type, module: str, nominal: tuple[int, tuple[int, int, int], int], *, source: str, licence: str = ""
) -> Entry:
    """A published data set: `nominal` is its classes, shape and training images; `licence` as far as its makers state one."""
    details = (("nominal", nominal), ("source", source), ("licence", licence))
    return Entry(name, help, options, f"snnkd.data.{module}:load", details=details)


DATA = Registry(
    "data set",
    [
        Entry("glyphs", "generated 16x16 characters, up to 100 look-alike classes; no download",
              data_schema.GlyphsConfig, "snnkd.data.glyphs:load"),
        _images("cifar10", "CIFAR-10, 32x32 RGB, 10 classes", data_schema.PhotoConfig, "cifar", (10, (3, 32, 32), 50_000),
                source="https://www.cs.toronto.edu/~kriz/cifar.html"),
        _images("cifar100", "CIFAR-100, 32x32 RGB, 100 classes", data_schema.PhotoConfig, "cifar", (100, (3, 32, 32), 50_000),
                source="https://www.cs.toronto.edu/~kriz/cifar.html"),
        _images("tiny-imagenet", "Tiny ImageNet, 64x64 RGB, 200 classes; mapped into memory", data_schema.PhotoConfig, "tiny_imagenet",
                (200, (3, 64, 64), 100_000), source="http://cs231n.stanford.edu/tiny-imagenet-200.zip"),
        _images("mnist", "MNIST, digits, 28x28 grey, 10 classes", data_schema.DigitConfig, "digits", (10, (1, 28, 28), 60_000),
                source="http://yann.lecun.com/exdb/mnist/"),
        _images("fashion-mnist", "Fashion-MNIST, clothes, 28x28 grey, 10 classes", data_schema.PhotoConfig, "digits",
                (10, (1, 28, 28), 60_000), source="https://github.com/zalandoresearch/fashion-mnist", licence="MIT"),
        _images("svhn", "SVHN, house numbers, 32x32 RGB, 10 classes", data_schema.DigitConfig, "digits", (10, (3, 32, 32), 73_257),
                source="http://ufldl.stanford.edu/housenumbers/"),
        Entry("imagefolder", "your own pictures, PATH/train/CLASS/*.jpg and PATH/test (or val)",
              data_schema.ImageFolderConfig, "snnkd.data.imagefolder:load", argument="PATH"),
        _images("n-mnist", "N-MNIST, events of 34x34 pixels, 10 classes", event_schema.NMNISTConfig, "events", (10, (2, 34, 34), 60_000),
                source="https://www.garrickorchard.com/datasets/n-mnist"),
        _images("cifar10-dvs", "CIFAR10-DVS, events of 128x128 pixels, 10 classes; split by snnkd", event_schema.SplitEventConfig, "events",
                (10, (2, 128, 128), 9_000), source="https://doi.org/10.3389/fnins.2017.00309"),
        _images("dvs128-gesture", "DVS128 Gesture, events of 128x128 pixels, 11 classes", event_schema.GestureConfig, "events",
                (11, (2, 128, 128), 1_176), source="https://ibm.ent.box.com/s/3hiq58ww1pbbjrinh367ykfdf60xsfm8/folder/50167556794"),
        Entry("npz", "your own uint8 images in one file, key names as in MedMNIST",
              data_schema.PartConfig, "snnkd.data.npz:load", argument="PATH"),
    ],
    user=Entry("MODULE:FUNCTION", "your own function that returns the arrays", data_schema.UserData, "snnkd.data.user:load"),
)  # fmt: skip

LIBRARIES = ("torchvision", "timm")
"""Whose networks can be teachers, by the name before the colon."""

RESNET = (model_schema.ResNetConfig, "snnkd.models.resnet:build")
VGG = (model_schema.VGGConfig, "snnkd.models.vgg:build")


def _network(name: str, help: str, made: tuple[type, str], *, family: str, source: str) -> Entry:
    """`made`: its options and its function; `source`: keys of the references, first the paper that it is named after."""
    return Entry(name, help, *made, details=(("family", family), ("source", tuple(source.split()))))


MODELS = Registry(
    "model",
    [
        _network("resnet8", "residual, 3 blocks; small, the default", RESNET, family="resnet", source="he2016resnet"),
        _network("resnet18", "[2, 2, 2, 2] blocks, 64 channels and up", RESNET, family="resnet", source="he2016resnet"),
        _network("resnet19", "[3, 3, 2] blocks, 128 up, hidden layer", RESNET, family="resnet", source="zheng2021tdbn he2016resnet"),
        _network("resnet20", "[3, 3, 3] blocks, 16 up (He et al.'s)", RESNET, family="resnet", source="he2016resnet"),
        _network("resnet20w", "[2, 2, 2, 2], spiking papers' wide one", RESNET, family="resnet", source="guo2022imloss he2016resnet"),
        _network("resnet34", "[3, 4, 6, 3] blocks, 64 channels and up", RESNET, family="resnet", source="he2016resnet"),
        _network("sew-resnet18", "resnet18 that adds after the neuron", RESNET, family="sew-resnet", source="fang2021sew"),
        _network("sew-resnet34", "resnet34 that adds after the neuron", RESNET, family="sew-resnet", source="fang2021sew"),
        _network("ms-resnet18", "resnet18, neuron before the convolution", RESNET, family="ms-resnet", source="hu2021msresnet"),
        _network("ms-resnet34", "resnet34, neuron before the convolution", RESNET, family="ms-resnet", source="hu2021msresnet"),
        _network("vgg11", "8 convolutions with batch norm", VGG, family="vgg", source="simonyan2015vgg"),
        _network("vgg13", "10 convolutions with batch norm", VGG, family="vgg", source="simonyan2015vgg"),
        _network("vgg16", "13 convolutions with batch norm", VGG, family="vgg", source="simonyan2015vgg"),
        _network("spikformer", "spiking self-attention without softmax", (model_schema.SpikformerConfig, "snnkd.models.spikformer:build"),
                 family="spikformer", source="zhou2023spikformer"),
        _network("qkformer", "three stages, Q-K attention in the first two", (model_schema.QKFormerConfig, "snnkd.models.qkformer:build"),
                 family="qkformer", source="zhou2024qkformer"),
        Entry("torchvision", "a classifier of torchvision as an ANN",
              model_schema.ModelConfig, "snnkd.models.libraries:build", argument="NAME", details=(("ann_only", True),)),
        Entry("timm", "a classifier of timm as an ANN",
              model_schema.ModelConfig, "snnkd.models.libraries:build", argument="NAME", details=(("ann_only", True),)),
    ],
    user=Entry("MODULE:FUNCTION", "your own function that returns a network", model_schema.UserModel, "snnkd.models.user:build"),
)  # fmt: skip
