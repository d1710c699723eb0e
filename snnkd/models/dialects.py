"""Names that other code gives the same layers: a table of dialects, and how well a file's tensors fit one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from snnkd.catalog.models import MODELS

Tensors = Mapping[str, Tensor]
_BLOCK = re.compile(r"(?:stages\.(\d+)|groups\.(\d+)\.layers)\.(\d+)\.(.+)")
_COUNTERS = ("total_ops", "total_params")
"""Names of thop's counters, which are floating point."""


@dataclass(frozen=True)
class Dialect:
    """Names of the modules of one code base, by ours.

    `block.X` names module X of a residual block, or of a layer of VGG, as a template: {group}, {stage} and
    {next} count its stage from 0, 1 and 2, {block} counts it within its stage from 0.
    """

    source: str
    """Whose names these are."""
    modules: Mapping[str, str]
    option_a: bool = False
    """Shortcuts that change shape have no weights: they subsample and pad channels with zeros on both sides
    (He et al. 2016, option A)."""
    biased: bool = False
    """Convolutions have a bias, from which the norm after them subtracts its mean."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Keys of `teacher.model` that the files' networks need."""

    def translate(self, name: str) -> str | None:
        """The dialect's name of our tensor `name`; None for a tensor that it does not have."""
        module, _, tensor = name.rpartition(".")
        block = _BLOCK.fullmatch(module)
        template = self.modules.get(f"block.{block[4]}" if block else module)
        if template is None:
            return None
        if block:
            group = int(block[1] or block[2])
            template = template.format(group=group, stage=group + 1, next=group + 2, block=block[3])
        return f"{template}.{tensor}"


class Own(Dialect):
    """Our own names."""

    def translate(self, name: str) -> str | None:
        return name


OWN = Own("snnkd", {})
_STEM = {"conv": "conv1", "norm": "bn1"}
_BASIC_BLOCK = {
    f"block.{ours}": f"layer{{stage}}.{{block}}.{theirs}"
    for ours, theirs in (("conv1", "conv1"), ("norm1", "bn1"), ("conv2", "conv2"), ("norm2", "bn2"))
}
_TORCHVISION = {
    f"block.shortcut.{index}": f"layer{{stage}}.{{block}}.downsample.{index}" for index in range(2)
}
_KUANGLIU = {f"block.shortcut.{index}": f"layer{{stage}}.{{block}}.shortcut.{index}" for index in range(2)}
_WEIAICUNZAI = {
    f"block.{ours}": f"conv{{next}}_x.{{block}}.{theirs}"
    for ours, theirs in (
        ("conv1", "residual_function.0"),
        ("norm1", "residual_function.1"),
        ("conv2", "residual_function.3"),
        ("norm2", "residual_function.4"),
        ("shortcut.0", "shortcut.0"),
        ("shortcut.1", "shortcut.1"),
    )
}
_WRN = {
    f"block.{ours}": f"block{{stage}}.layer.{{block}}.{theirs}"
    for ours, theirs in (
        ("norm1", "bn1"),
        ("conv1", "conv1"),
        ("norm2", "bn2"),
        ("conv2", "conv2"),
        ("shortcut", "convShortcut"),
    )
}
_DIALECTS = {
    "resnet": (
        Dialect(
            "chenyaofo/pytorch-cifar-models, RepDistiller, mdistiller and timm",
            _STEM | _BASIC_BLOCK | _TORCHVISION | {"head": "fc"},
        ),
        Dialect("kuangliu/pytorch-cifar", _STEM | _BASIC_BLOCK | _KUANGLIU | {"head": "linear"}),
        Dialect(
            "weiaicunzai/pytorch-cifar100",
            {"conv": "conv1.0", "norm": "conv1.1"} | _WEIAICUNZAI | {"head": "fc"},
        ),
        Dialect("akamaster/pytorch_resnet_cifar10", _STEM | _BASIC_BLOCK | {"head": "linear"}, option_a=True),
    ),
    "wrn": (
        Dialect(
            "xternalz/WideResNet-pytorch, RepDistiller and mdistiller",
            _WRN | {"conv": "conv1", "last_norm": "bn1", "head": "fc"},
        ),
    ),
    # not of the other VGGs: RepDistiller's lack a pooling at 32x32, too
    "vgg8": (
        Dialect(
            "RepDistiller and mdistiller",
            {"conv": "block0.0", "norm": "block0.1", "head": "classifier"}
            | {"block.conv": "block{group}.0", "block.norm": "block{group}.1"},
            biased=True,
            options={"pool": "max"},
        ),
    ),
}
"""Dialects by network or family of the catalogue; only of networks that compute the same function."""


def dialects(model: str) -> tuple[Dialect, ...]:
    """The dialects in which weights of `model` exist, our own first."""
    family = "" if MODELS.is_user_defined(model) else MODELS[model].family
    return OWN, *_DIALECTS.get(model, _DIALECTS.get(family, ()))


@dataclass(frozen=True)
class Misfit:
    """A tensor by the file's name: its shape in the file and in the network, None where it is absent."""

    name: str
    given: torch.Size | None
    expected: torch.Size | None

    def __str__(self) -> str:
        if self.given is None:
            return f"{self.name} is missing"
        if self.expected is None:
            return f"{self.name} is unexpected"
        return f"{self.name} is {list(self.given)}, not {list(self.expected)}"


@dataclass(frozen=True)
class Fit:
    """The tensors of a file by our names, as `dialect` names them, and those that do not fit."""

    dialect: Dialect
    tensors: dict[str, Tensor]
    biases: dict[str, Tensor]
    """Biases of convolutions, by the name of the mean of the norm after them, which is less by them."""
    misfits: list[Misfit]
    common: int
    """Tensors of the file that have a name of the network."""

    @property
    def distance(self) -> tuple[bool, int, int]:
        """Orders fits: without misfits first, then most names in common, then fewest misfits."""
        return bool(self.misfits), -self.common, len(self.misfits) if self.common else 0


def best_fit(tensors: Tensors, expected: Tensors, model: str) -> Fit:
    """The nearest fit over the dialects and the prefixes that all names share."""
    fits = (
        _fit(unwrapped, expected, dialect)
        for unwrapped in _unwrappings(tensors)
        for dialect in dialects(model)
    )
    return min(fits, key=lambda fit: fit.distance)


def _unwrappings(tensors: Tensors) -> Iterator[Tensors]:
    """`tensors`, then without each prefix that all names but counters share, such as `module.`."""
    while True:
        yield tensors
        names = [name for name in tensors if not _is_counter(name, tensors[name])]
        prefixes = {name[: name.find(".") + 1] for name in names}
        if len(prefixes) != 1 or "" in prefixes:
            return
        tensors = {name.removeprefix(next(iter(prefixes))): tensor for name, tensor in tensors.items()}


def _is_counter(name: str, tensor: Tensor) -> bool:
    """Whether a tensor counts batches, operations or averaged networks, which no output depends on."""
    return tensor.numel() == 1 and (not tensor.is_floating_point() or name.rpartition(".")[2] in _COUNTERS)


def _fit(tensors: Tensors, expected: Tensors, dialect: Dialect) -> Fit:
    """Every tensor of the file is used once, or is a misfit unless it is a counter."""
    named, misfits, rest = {}, [], dict(tensors)
    for name, own in expected.items():
        theirs = dialect.translate(name)
        tensor = rest.pop(theirs, None) if theirs is not None else _padding(name, own, dialect)
        if tensor is not None and tensor.shape == own.shape:
            named[name] = tensor
        elif tensor is not None or not name.endswith("num_batches_tracked"):  # old files lack this counter
            misfits.append(Misfit(theirs or name, None if tensor is None else tensor.shape, own.shape))
    biases = _take_biases(named, rest, dialect) if dialect.biased else {}
    misfits += [
        Misfit(name, tensor.shape, None) for name, tensor in rest.items() if not _is_counter(name, tensor)
    ]
    return Fit(dialect, named, biases, misfits, len(tensors) - len(rest))


def _take_biases(named: Tensors, rest: dict[str, Tensor], dialect: Dialect) -> dict[str, Tensor]:
    """Remove from `rest` the biases of convolutions before norms whose mean is in `named`."""
    biases = {}
    for name in named:
        bias = dialect.translate(name.replace("norm.running_mean", "conv.bias"))
        if name.endswith("norm.running_mean") and bias in rest and rest[bias].shape == named[name].shape:
            biases[name] = rest.pop(bias)
    return biases


def _padding(name: str, own: Tensor, dialect: Dialect) -> Tensor | None:
    """Weights with which our shortcut, a strided 1x1 convolution and norm, subsamples and pads exactly."""
    if not dialect.option_a or ".shortcut." not in name:
        return None
    if name.endswith("running_var"):
        return torch.full_like(own, 1 - torch.nn.BatchNorm2d(1).eps)  # the norm adds eps
    if own.ndim == 1:
        return torch.ones_like(own) if name.endswith(".weight") else torch.zeros_like(own)
    if own.ndim == 0:
        return torch.zeros_like(own)
    outputs, inputs = own.shape[:2]
    weight = torch.zeros_like(own)
    weight[(outputs - inputs) // 2 :][:inputs] = torch.eye(inputs)[..., None, None]
    return weight
