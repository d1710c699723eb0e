"""What data sets and models there are, one entry each; the losses are in methods.py."""

from __future__ import annotations

from snnkd.recipe import data_schema, model_schema
from snnkd.registry import Entry, Registry

DATA = Registry(
    "data set",
    [
        Entry("glyphs", "generated 16x16 characters, up to 100 look-alike classes; no download",
              data_schema.GlyphsConfig, "snnkd.data.glyphs:load"),
        Entry("cifar10", "CIFAR-10, 32x32 RGB, 10 classes; torchvision fetches and verifies it",
              data_schema.PhotoConfig, "snnkd.data.cifar:load", details=(("nominal", (10, (3, 32, 32), 50_000)),)),
        Entry("cifar100", "CIFAR-100, 32x32 RGB, 100 classes; torchvision fetches and verifies it",
              data_schema.PhotoConfig, "snnkd.data.cifar:load", details=(("nominal", (100, (3, 32, 32), 50_000)),)),
        Entry("npz", "your own uint8 images in one file, key names as in MedMNIST",
              data_schema.DataConfig, "snnkd.data.npz:load", argument="PATH"),
    ],
    user=Entry("MODULE:FUNCTION", "your own function that returns the arrays", data_schema.UserData, "snnkd.data.user:load"),
)  # fmt: skip

MODELS = Registry(
    "model",
    [
        Entry("resnet8", "residual, 3 blocks, 16-32-64 channels; small, the default",
              model_schema.ResNetConfig, "snnkd.models.resnet:build"),
        Entry("resnet18", "residual, [2, 2, 2, 2] blocks, 64-128-256-512 channels",
              model_schema.ResNetConfig, "snnkd.models.resnet:build"),
        Entry("resnet19", "residual, [3, 3, 2] blocks, 128-256-512 channels, hidden layer 256",
              model_schema.ResNetConfig, "snnkd.models.resnet:build"),
        Entry("resnet20", "residual, [3, 3, 3] blocks, 16-32-64 channels (He et al.'s for CIFAR)",
              model_schema.ResNetConfig, "snnkd.models.resnet:build"),
    ],
    user=Entry("MODULE:FUNCTION", "your own function that returns a network", model_schema.UserModel, "snnkd.models.user:build"),
)  # fmt: skip
