"""Classifiers of torchvision and timm as ANN teachers."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from snnkd.catalog.hub import is_address
from snnkd.errors import FileError, SnnkdError, UsageError, did_you_mean
from snnkd.models.activation import Activation, ReLU
from snnkd.models.plain import PlainNetwork
from snnkd.schema.model import ModelConfig

CHANNELS = 3
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class NativeInput:
    """Preprocessing of a library's own weights: image size in pixels, mean and standard deviation in 0..1."""

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class LibraryNetwork(PlainNetwork):
    """A classifier of images with three channels; those with one are repeated."""

    def forward(self, images: Tensor, T: int) -> Tensor:
        return super().forward(images.expand(-1, CHANNELS, -1, -1) if images.shape[1] == 1 else images, T)


def build(
    config: ModelConfig, activation: Activation, last: Activation, classes: int, shape: tuple[int, int, int]
) -> LibraryNetwork:
    """Build `torchvision:NAME` or `timm:NAME` with fresh weights.

    Raises UsageError for an unknown name, a spiking student, or images with other than 1 or 3 channels.
    """
    if activation is not ReLU:
        raise UsageError(f"model.name: {config.name} has no spiking form; use it as a teacher only")
    if shape[0] not in (1, CHANNELS):
        raise UsageError(f"model.name: {config.name} expects images of 1 or 3 channels, not {shape[0]}")
    return LibraryNetwork(_create(config.name, classes), config.name)


def _create(name: str, classes: int) -> nn.Module:
    check_name(name)
    library, _, member = name.partition(":")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about changing initialisations; these weights are replaced
        if library == "torchvision":
            from torchvision import models

            network: nn.Module = models.get_model(member, weights=None, num_classes=classes)
            return network
        import timm

        try:
            network = timm.create_model(member, pretrained=False, num_classes=classes)
        except SnnkdError:
            raise
        except Exception as error:  # of the arguments in a config.json of the hub
            reason = " ".join(str(error).split())[:120]
            raise FileError(f"{name}: timm cannot build it: {type(error).__name__}: {reason}") from error
    return network


def check_name(name: str) -> None:
    """Raise UsageError if `name` is not a classifier of its library, or the library cannot be imported."""
    library, _, member = name.partition(":")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            known = _known(library)
    except ImportError as error:
        raise UsageError(
            f"model.name: {name} needs {library}, which cannot be imported ({error}): pip install {library}"
        ) from error
    if member not in known and not (library == "timm" and is_address(member)):
        raise UsageError(f"{library} has no classifier {member!r}{did_you_mean(member, known)}")


def _known(library: str) -> list[str]:
    if library == "timm":
        import timm

        return list(timm.list_models())
    from torchvision import models

    return list(models.list_models(module=models))


def check_image_size(network: nn.Module, shape: tuple[int, ...], key: str) -> None:
    """Raise UsageError naming `key` if the network cannot train on a batch of `shape` `[B, C, H, W]`."""
    trial = copy.deepcopy(network)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            trial.train()(torch.zeros(shape))
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UsageError(
            f"{key}: the network does not accept {shape[-2]}x{shape[-1]} images: {reason}"
        ) from error


def native_input(body: LibraryNetwork) -> NativeInput:
    """Preprocessing of the library's pretrained weights; ImageNet's statistics where none are recorded."""
    library, _, member = body.name.partition(":")
    if library == "timm":
        from timm.data import resolve_model_data_config

        known = resolve_model_data_config(body.network)
        return NativeInput(int(known["input_size"][-1]), tuple(known["mean"]), tuple(known["std"]))
    from torchvision import models

    # transforms is a partial function; of several weights, IMAGENET1K_V1 are the customary ones
    keywords = {weights.name: weights.transforms.keywords for weights in models.get_model_weights(member)}
    preset: dict[str, Any] = keywords.get("IMAGENET1K_V1") or next(iter(keywords.values()), {})
    size = int(getattr(body.network, "image_size", None) or preset.get("crop_size", 224))
    return NativeInput(size, IMAGENET_MEAN, IMAGENET_STD)
