"""The networks, one entry each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snnkd.catalog.registry import Registry, SectionEntry
from snnkd.schema import model

LIBRARIES = ("torchvision", "timm")
"""Whose networks can be teachers, by the name before the colon."""


@dataclass(frozen=True, kw_only=True)
class ModelEntry(SectionEntry):
    """A network. `small` is a setting at which it keeps its topology and trains within a test."""

    family: str = ""
    source: tuple[str, ...] = ()
    """Keys of references.bib, first the paper that it is named after."""
    small: Mapping[str, Any]
    ann_only: bool = False
    """Has no spiking form."""


def _resnet(
    name: str,
    help: str,
    source: str = "he2016resnet",
    family: str = "resnet",
    options: type = model.ResNetConfig,
) -> ModelEntry:
    return _network(name, help, "snnkd.models.resnet:build", options, family, source, {"width": 4})


def _vgg(name: str, help: str, source: str = "simonyan2015vgg", width: int = 4) -> ModelEntry:
    return _network(name, help, "snnkd.models.vgg:build", model.VGGConfig, "vgg", source, {"width": width})


def _network(
    name: str, help: str, target: str, options: type, family: str, source: str, small: Mapping[str, Any]
) -> ModelEntry:
    keys = tuple(source.split())
    return ModelEntry(name, help, target, options=options, family=family, source=keys, small=small)


def _library(name: str) -> ModelEntry:
    help, target = f"a classifier of {name} as an ANN", "snnkd.models.libraries:build"
    return ModelEntry(name, help, target, "NAME", options=model.ModelConfig, ann_only=True, small={})


# fmt: off
MODELS = Registry("model", [
    _resnet("resnet8", "residual, 3 blocks; small, the default"),
    _resnet("resnet18", "[2, 2, 2, 2] blocks, 64 channels and up"),
    _resnet("resnet19", "[3, 3, 2] blocks, 128 up, hidden layer", "zheng2021tdbn he2016resnet",
            options=model.ResNet19Config),
    _resnet("resnet20", "[3, 3, 3] blocks, 16 up (He et al.'s)"),
    _resnet("resnet20w", "[2, 2, 2, 2], spiking papers' wide one", "guo2022imloss he2016resnet"),
    _resnet("resnet32", "[5, 5, 5] blocks, 16 channels and up"),
    _resnet("resnet34", "[3, 4, 6, 3] blocks, 64 channels and up"),
    _resnet("resnet56", "[9, 9, 9] blocks, 16 channels and up"),
    _resnet("resnet110", "[18, 18, 18] blocks, 16 channels and up"),
    _resnet("resnet8x4", "resnet8, four times as wide, stem of 32", "tian2020crd he2016resnet"),
    _resnet("resnet32x4", "resnet32, four times as wide, stem of 32", "tian2020crd he2016resnet"),
    _resnet("wrn-40-2", "18 blocks, 32 up, norm before the neuron", "zagoruyko2016wrn", "wrn"),
    _resnet("sew-resnet18", "resnet18 that adds after the neuron", "fang2021sew", "sew-resnet"),
    _resnet("sew-resnet34", "resnet34 that adds after the neuron", "fang2021sew", "sew-resnet"),
    _resnet("ms-resnet18", "resnet18, neuron before the convolution", "hu2021msresnet", "ms-resnet"),
    _resnet("ms-resnet34", "resnet34, neuron before the convolution", "hu2021msresnet", "ms-resnet"),
    _vgg("cnn7", "7 convolutions, accurate for its MACs", "jordan2024airbench"),
    _vgg("vgg8", "5 convolutions, the last two not pooled", "tian2020crd simonyan2015vgg", width=8),
    _vgg("vgg11", "8 convolutions with batch norm"),
    _vgg("vgg13", "10 convolutions with batch norm"),
    _vgg("vgg16", "13 convolutions with batch norm"),
    _network("spikformer", "spiking self-attention without softmax", "snnkd.models.spikformer:build",
             model.SpikformerConfig, "spikformer", "zhou2023spikformer",
             small={"dim": 32, "depth": 2, "heads": 4}),
    _network("qkformer", "three stages, Q-K attention in the first two", "snnkd.models.qkformer:build",
             model.QKFormerConfig, "qkformer", "zhou2024qkformer",
             small={"dim": 32, "depth": 3, "heads": 4}),
    *map(_library, LIBRARIES),
], user=ModelEntry("MODULE:FUNCTION", "your own function that returns a network",
                   "snnkd.models.user:build", options=model.UserModel, small={}))
