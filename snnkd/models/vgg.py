"""VGG-11, 13 and 16 with batch norm for small images (16x16 and larger): Simonyan and Zisserman 2015 (arXiv
1409.1556).

Configurations A, B and D: five groups of 3x3 convolutions. A 2x2 pooling stands between the groups; the
fifth, with which the original ends, is the mean over all positions, and one linear layer on it stands in
place of the three of the original, as in code for CIFAR, spiking (Guo et al. 2023, MPBN, ICCV) and not. The
poolings average: an average of spikes is what a synapse can add up, and it makes MACs of the convolution
after it. An ANN may take the maximum.
"""

from __future__ import annotations

from torch import Tensor, nn

from snnkd.models.activation import Activation
from snnkd.models.blocks import (
    check_size,
    encode_images,
    full_precision,
    init_weights,
    repeat_over_time,
    run_block,
)
from snnkd.models.features import Features
from snnkd.schema.model import VGGConfig

GROUPS = {"vgg11": (1, 1, 2, 2, 2), "vgg13": (2, 2, 2, 2, 2), "vgg16": (2, 2, 3, 3, 3)}
"""Convolutions of each group."""
WIDTH = 64
TIMES = (1, 2, 4, 8, 8)
"""Channels of each group as multiples of the first's."""


class Layer(nn.Module):
    """A 3x3 convolution with norm and activation."""

    def __init__(self, inputs: int, outputs: int, activation: Activation) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.act = activation()

    def forward(self, x: Tensor, T: int) -> Tensor:
        out: Tensor = self.act(self.norm(self.conv(x)), T)
        return out


class Group(nn.Module):
    """A pooling, where there is one, and convolutions of one size."""

    recompute = False
    """Whether the backward pass computes it again (see models/blocks.py)."""

    def __init__(self, pool: nn.Module | None, layers: list[Layer]) -> None:
        super().__init__()
        self.pool = pool
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, T: int) -> Tensor:
        x = x if self.pool is None else self.pool(x)
        for layer in self.layers:
            x = layer(x, T)
        return x


class VGG(nn.Module):
    """Images `[B, C, H, W]` to logits `[T, B, classes]`; tensors stay `[T*B, ...]` between.

    `last` makes the last activation before the classifier; `largest`: the poolings take the maximum.
    """

    def __init__(
        self,
        groups: tuple[int, ...],
        width: int,
        channels: int,
        classes: int,
        activation: Activation,
        last: Activation,
        largest: bool,
    ) -> None:
        super().__init__()
        self.repeat_input = False
        """Compute the stem T times, as published code does; only a benchmark has a reason to."""
        self.conv = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.act = activation()
        self.groups = nn.ModuleList()
        inputs = width
        for i, (count, times) in enumerate(zip(groups, TIMES, strict=True)):
            layers: list[Layer] = []
            for j in range(1 if i == 0 else 0, count):  # the very first convolution is the stem
                final = (i, j) == (len(groups) - 1, count - 1)
                layers.append(Layer(inputs, width * times, last if final else activation))
                inputs = width * times
            pool = None if i == 0 else nn.MaxPool2d(2) if largest else nn.AvgPool2d(2)
            self.groups.append(Group(pool, layers))
        self.head = nn.Linear(inputs, classes)
        init_weights(self)

    def forward(self, images: Tensor, T: int, features: Features | None = None) -> Tensor:
        features = features or Features(())
        x = (
            self._stem(repeat_over_time(images, T))
            if self.repeat_input
            else encode_images(self._stem, images, T)
        )
        x = self.act(x, T)
        for i, group in enumerate(self.groups):
            x = run_block(group, x, T)
            features.offer(f"stage{i + 1}", lambda x=x: x)  # type: ignore[misc]
        features.offer("class_map", lambda: full_precision(self.head, x.movedim(1, -1)).movedim(-1, 1))
        output = x.mean((2, 3))
        features.offer("output", lambda: output)
        return full_precision(self.head, output).unflatten(0, (T, -1))

    def _stem(self, images: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(images))
        return out


def build(
    config: VGGConfig, activation: Activation, last: Activation, classes: int, shape: tuple[int, int, int]
) -> VGG:
    """The member `config.name` for images of `shape` (channels, height, width). Raises UsageError for images
    it can't take.
    """
    check_size(config.name, shape, 2 ** (len(TIMES) - 1))
    return VGG(
        GROUPS[config.name], config.width or WIDTH, shape[0], classes, activation, last, config.pool == "max"
    )
