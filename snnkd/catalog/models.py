"""The networks, one entry each."""

from __future__ import annotations

from snnkd.catalog.registry import Entry, Registry
from snnkd.schema import model

LIBRARIES = ("torchvision", "timm")
"""Whose networks can be teachers, by the name before the colon."""

RESNET = (model.ResNetConfig, "snnkd.models.resnet:build")
VGG = (model.VGGConfig, "snnkd.models.vgg:build")


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
        _network("spikformer", "spiking self-attention without softmax", (model.SpikformerConfig, "snnkd.models.spikformer:build"),
                 family="spikformer", source="zhou2023spikformer"),
        _network("qkformer", "three stages, Q-K attention in the first two", (model.QKFormerConfig, "snnkd.models.qkformer:build"),
                 family="qkformer", source="zhou2024qkformer"),
        Entry("torchvision", "a classifier of torchvision as an ANN",
              model.ModelConfig, "snnkd.models.libraries:build", argument="NAME", details=(("ann_only", True),)),
        Entry("timm", "a classifier of timm as an ANN",
              model.ModelConfig, "snnkd.models.libraries:build", argument="NAME", details=(("ann_only", True),)),
    ],
    user=Entry("MODULE:FUNCTION", "your own function that returns a network", model.UserModel, "snnkd.models.user:build"),
)  # fmt: skip
