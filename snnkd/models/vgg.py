"""VGG-8, 11, 13, 16 with batch norm for images from 16x16 on (Simonyan and Zisserman 2015), and cnn7.

VGG's configurations A, B and D (arXiv 1409.1556): five groups of 3x3 convolutions with 2x2 pooling between
them. The original's fifth pooling is a global average and its three linear layers are one, as in CIFAR code,
spiking (Guo et al. 2023, MPBN, ICCV) or not. Pooling averages, since synapses can add up averaged spikes; the
convolution after it then counts MACs. An ANN may use max pooling.

vgg8 is RepDistiller's (Tian et al. 2020, arXiv 1910.10699): one convolution a group, and no fourth pooling
for images below 64x64.

cnn7 spends its operations as the networks of CIFAR speed records do (Jordan 2024, arXiv 2404.00498): one
convolution at full resolution, then pairs of them behind each pooling, as much work at 16x16, 8x8 and 4x4,
and convolutions whose first filters pass their inputs on at the start. At width 32 it is 43 M MACs for an
image of 32x32, a thirteenth of resnet18's.
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

CONVOLUTIONS = {
    "cnn7": (1, 2, 2, 2),
    "vgg8": (1, 1, 1, 1, 1),
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
}
"""Convolutions per group."""
WIDTHS = {"cnn7": 32, "vgg8": 64, "vgg11": 64, "vgg13": 64, "vgg16": 64}
MULTIPLIERS = (1, 2, 4, 8, 8)
"""Channels per group, as multiples of the width."""


class Layer(nn.Module):
    """3x3 convolution with batch norm and activation."""

    def __init__(self, inputs: int, outputs: int, activation: Activation) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.act = activation()

    def forward(self, x: Tensor, T: int) -> Tensor:
        out: Tensor = self.act(self.norm(self.conv(x)), T)
        return out


class ConvGroup(nn.Module):
    """Optional pooling, then convolutions at one resolution."""

    recompute = False
    """Whether to recompute it in the backward pass (`blocks.run_block`)."""

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
    """Images `[B, C, H, W]` to logits `[T, B, classes]`; `[T*B, C, H, W]` inside.

    `last` builds the last activation before the classifier; `max_pool` replaces average by max pooling;
    `pools` is how many groups after the first begin with a pooling; `identity` lets the first filters of each
    convolution after the stem pass its inputs on at the start, and the others are random.
    """

    def __init__(
        self,
        groups: tuple[int, ...],
        width: int,
        channels: int,
        classes: int,
        activation: Activation,
        last: Activation,
        max_pool: bool,
        pools: int,
        identity: bool,
    ) -> None:
        super().__init__()
        self.repeat_input = False
        """Compute the stem T times, as the benchmark's baseline does."""
        self.conv = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.act = activation()
        self.groups = nn.ModuleList()
        inputs = width
        for i, (count, multiplier) in enumerate(zip(groups, MULTIPLIERS, strict=False)):
            layers: list[Layer] = []
            for j in range(1 if i == 0 else 0, count):  # the first convolution is the stem
                final = (i, j) == (len(groups) - 1, count - 1)
                layers.append(Layer(inputs, width * multiplier, last if final else activation))
                inputs = width * multiplier
            pool = None if not 1 <= i <= pools else nn.MaxPool2d(2) if max_pool else nn.AvgPool2d(2)
            self.groups.append(ConvGroup(pool, layers))
        self.head = nn.Linear(inputs, classes)
        init_weights(self)
        if identity:
            for module in self.groups.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.dirac_(module.weight.data[: module.in_channels])

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
    """Build `config.name` for images of `shape` `(C, H, W)`. Raises UsageError for too small images."""
    groups = CONVOLUTIONS[config.name]
    pools = 3 if config.name == "vgg8" and shape[1] < 64 else len(groups) - 1
    check_size(config.name, shape, 2**pools)
    return VGG(
        groups,
        config.width or WIDTHS[config.name],
        shape[0],
        classes,
        activation,
        last,
        config.pool == "max",
        pools,
        config.name == "cnn7",
    )
