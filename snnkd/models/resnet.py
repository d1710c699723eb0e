"""The residual family for small images (16x16 to 64x64): 3x3 stem without max-pool, neuron after the addition.

ResNet: He et al. 2016 (arXiv 1512.03385); ResNet-19 as the spiking literature means it: Zheng et al. 2021
(arXiv 2011.05280). Shortcuts that change shape are a 1x1 convolution with norm.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from snnkd.models.activation import Activation
from snnkd.models.blocks import encoded, in_full, over_timesteps, run_block
from snnkd.models.features import Features
from snnkd.recipe.model_schema import ResNetConfig


@dataclass(frozen=True)
class Shape:
    """Blocks of each stage, channels of the first (each stage doubles them), hidden units before the classes (0: none)."""

    blocks: tuple[int, ...]
    width: int
    hidden: int = 0


SHAPES = {
    "resnet8": Shape((1, 1, 1), 16),
    "resnet18": Shape((2, 2, 2, 2), 64),
    "resnet19": Shape((3, 3, 2), 128, hidden=256),
    "resnet20": Shape((3, 3, 3), 16),
}


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    recompute = False
    """Whether the backward pass computes it again (see models/blocks.py)."""

    def __init__(self, inputs: int, outputs: int, stride: int, activation: Activation, last: Activation | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.act1 = activation()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.act2 = (last or activation)()
        self.shortcut = (
            nn.Identity()
            if inputs == outputs and stride == 1
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: Tensor, T: int) -> Tensor:
        y = self.act1(self.norm1(self.conv1(x)), T)
        y = self.norm2(self.conv2(y))
        out: Tensor = self.act2(y + self.shortcut(x), T)
        return out


class ResNet(nn.Module):
    """Images `[B, C, H, W]` to logits `[T, B, classes]`; tensors stay `[T*B, ...]` between.

    `last` makes the last activation before the classifier.
    """

    def __init__(self, shape: Shape, channels: int, classes: int, activation: Activation, last: Activation) -> None:
        super().__init__()
        width = shape.width
        self.copies_first = False
        """Compute the stem T times, as published code does; only a benchmark has a reason to."""
        self.conv = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.act = activation()
        self.stages = nn.ModuleList()
        inputs = width
        for i, blocks in enumerate(shape.blocks):
            outputs = width * 2**i
            stage = nn.ModuleList()
            for j in range(blocks):
                final = not shape.hidden and (i, j) == (len(shape.blocks) - 1, blocks - 1)
                stage.append(Block(inputs, outputs, 2 if i > 0 and j == 0 else 1, activation, last if final else None))
                inputs = outputs
            self.stages.append(stage)
        self.hidden = nn.Linear(inputs, shape.hidden) if shape.hidden else None
        self.hidden_act = last() if shape.hidden else None
        self.head = nn.Linear(shape.hidden or inputs, classes)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor, T: int, features: Features | None = None) -> Tensor:
        features = features or Features(())
        x = self._stem(over_timesteps(images, T)) if self.copies_first else encoded(self._stem, images, T)
        x = self.act(x, T)
        for i, stage in enumerate(self.stages):
            for block in stage:  # type: ignore[attr-defined]
                x = run_block(block, x, T)
            features.offer(f"stage{i + 1}", lambda x=x: x)  # type: ignore[misc]
        features.offer("class_map", lambda: self._class_map(x, T))
        output = self._before_head(x.mean((2, 3)), T)
        features.offer("output", lambda: output)
        return in_full(self.head, output).unflatten(0, (T, -1))

    def _stem(self, images: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(images))
        return out

    def _before_head(self, x: Tensor, T: int) -> Tensor:
        return x if self.hidden is None or self.hidden_act is None else self.hidden_act(self.hidden(x), T)

    def _class_map(self, x: Tensor, T: int) -> Tensor:
        """`[T*B, classes, H, W]`: what the classifier would answer at each position (class activation map, Zhou et al. 2016)."""
        positions = x.flatten(2).permute(2, 0, 1)  # [H*W, T*B, C]
        answers = torch.stack([in_full(self.head, self._before_head(position, T)) for position in positions])
        return answers.permute(1, 2, 0).unflatten(2, x.shape[2:])


def build(config: ResNetConfig, activation: Activation, last: Activation, classes: int, shape: tuple[int, int, int]) -> ResNet:
    """The member `config.name` for images of `shape` (channels, height, width)."""
    member = SHAPES[config.name]
    return ResNet(Shape(member.blocks, config.width or member.width, member.hidden), shape[0], classes, activation, last)
