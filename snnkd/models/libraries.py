"""Networks of torchvision and timm, as ANNs: teachers, also of other sizes than the data."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from snnkd.errors import UsageError, did_you_mean
from snnkd.models.activation import Activation, ReLU
from snnkd.schema.model import ModelConfig

CHANNELS = 3
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class NativeInput:
    """How a library's own weights were trained to see an image: height and width, mean and standard deviation, white being 1."""

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class LibraryNetwork(nn.Module):
    """`network`, which answers images `[B, 3, H, W]` with `[B, classes]`, as a body that answers `[1, B, classes]`."""

    def __init__(self, network: nn.Module, name: str) -> None:
        super().__init__()
        self.network = network
        self.name = name

    def forward(self, images: Tensor, T: int) -> Tensor:
        """`images` of one channel are shown on all three. An ANN has one timestep, so that `T` is 1."""
        answer = self.network(images.expand(-1, CHANNELS, -1, -1) if images.shape[1] == 1 else images)
        if not isinstance(answer, Tensor) or answer.ndim != 2:
            raise UsageError(
                f"model.name: {self.name} does not answer with one row of logits an image; choose a plain classifier"
            )
        return answer[None]


def build(
    config: ModelConfig, activation: Activation, last: Activation, classes: int, shape: tuple[int, int, int]
) -> LibraryNetwork:
    """`torchvision:NAME` or `timm:NAME` with fresh weights. Raises UsageError for an unknown name, a student, other channels."""
    if activation is not ReLU:
        raise UsageError(f"model.name: {config.name} has no spiking form; it can be a teacher only")
    if shape[0] not in (1, CHANNELS):
        raise UsageError(
            f"model.name: {config.name} takes images of 3 channels (or 1, shown on all three), not {shape[0]}"
        )
    return LibraryNetwork(_create(config.name, classes), config.name)


def _create(name: str, classes: int) -> nn.Module:
    check_name(name)
    library, _, member = name.partition(":")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of initialisations that will change, in weights that are replaced
        if library == "timm":
            import timm

            made: nn.Module = timm.create_model(member, pretrained=False, num_classes=classes)
        else:
            from torchvision import models

            made = models.get_model(member, weights=None, num_classes=classes)
    return made


def check_name(name: str) -> None:
    """Raise UsageError when `name` is no classifier of its library, or the library cannot be imported."""
    library, _, member = name.partition(":")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            known = _known(library)
    except ImportError as error:
        raise UsageError(
            f"model.name: {name} needs {library}, which cannot be imported ({error}): pip install {library}"
        ) from error
    if member not in known:
        raise UsageError(f"{library} has no classifier {member!r}{did_you_mean(member, known)}")


def _known(library: str) -> list[str]:
    if library == "timm":
        import timm

        return list(timm.list_models())
    from torchvision import models

    return list(models.list_models(module=models))


def check_image_size(network: nn.Module, shape: tuple[int, ...], key: str) -> None:
    """Raise UsageError naming `key` when the network, built for another size, cannot look at a batch of `shape` or train on it."""
    trial = copy.deepcopy(network)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            trial.train()(torch.zeros(shape))
    except (RuntimeError, AssertionError, ValueError) as error:
        said = " ".join(str(error).split())[:120]
        raise UsageError(
            f"{key}: the network cannot look at images of {shape[-2]}x{shape[-1]}: {said}"
        ) from error


def native_input(body: LibraryNetwork) -> NativeInput:
    """How the weights that the library itself offers for this network see an image; ImageNet's statistics where it does not say."""
    library, _, member = body.name.partition(":")
    if library == "timm":
        from timm.data import resolve_model_data_config

        known = resolve_model_data_config(body.network)
        return NativeInput(int(known["input_size"][-1]), tuple(known["mean"]), tuple(known["std"]))
    from torchvision import models

    # how they crop is a function made with arguments; of several weights, those that were there first are the usual ones
    offered = {weights.name: weights.transforms.keywords for weights in models.get_model_weights(member)}
    usual: dict[str, Any] = offered.get("IMAGENET1K_V1") or next(iter(offered.values()), {})
    size = int(getattr(body.network, "image_size", None) or usual.get("crop_size", 224))
    return NativeInput(size, IMAGENET_MEAN, IMAGENET_STD)
