"""Residual networks for small images (16x16 to 64x64): 3x3 stem without max pooling, blocks of residual.py.

ResNet: He et al. 2016 (arXiv 1512.03385). ResNet-19 of the spiking literature: Zheng et al. 2021 (arXiv
2011.05280). Wide ResNet-20 of the spiking literature, as in the code of Guo et al. 2022 (IM-Loss, NeurIPS):
three convolutions and average pooling before the blocks, average-pooled shortcuts. SEW-ResNet: Fang et al.
2021 (arXiv 2102.04159). MS-ResNet: Hu et al. 2021 (arXiv 2112.08954). Wide ResNet: Zagoruyko and Komodakis
2016 (arXiv 1605.07146). resnet8x4 and resnet32x4: Tian et al. 2020 (arXiv 1910.10699).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from snnkd.models.activation import Activation, SpikingLayer
from snnkd.models.blocks import (
    check_size,
    encode_images,
    full_precision,
    init_weights,
    repeat_over_time,
    run_block,
)
from snnkd.models.features import Features
from snnkd.models.residual import Block, MembraneBlock, PreNormBlock, SpikeAddBlock
from snnkd.schema.model import ResNet19Config, ResNetConfig


@dataclass(frozen=True)
class Architecture:
    """Blocks per stage, width of the first (doubled by each), hidden units before the head (0: none)."""

    blocks: tuple[int, ...]
    width: int
    hidden: int = 0
    block: type[Block] = Block
    deep_stem: bool = False
    """Three convolutions and 2x2 average pooling before the blocks; shortcuts pool instead of striding."""
    zero_residual: bool = False
    """Initialise the last norm's weight to 0, so that each block starts as its shortcut."""
    narrow_stem: bool = False
    """Half the width in the first convolution."""


ARCHITECTURES = {
    "resnet8": Architecture((1, 1, 1), 16),
    "resnet18": Architecture((2, 2, 2, 2), 64),
    "resnet19": Architecture((3, 3, 2), 128, hidden=256),
    "resnet20": Architecture((3, 3, 3), 16),
    "resnet20w": Architecture((2, 2, 2, 2), 64, deep_stem=True, zero_residual=True),
    "resnet32": Architecture((5, 5, 5), 16),
    "resnet34": Architecture((3, 4, 6, 3), 64),
    "resnet56": Architecture((9, 9, 9), 16),
    "resnet110": Architecture((18, 18, 18), 16),
    "resnet8x4": Architecture((1, 1, 1), 64, narrow_stem=True),
    "resnet32x4": Architecture((5, 5, 5), 64, narrow_stem=True),
    "wrn-40-2": Architecture((6, 6, 6), 32, block=PreNormBlock, narrow_stem=True),
    # no zero_residual: the added neurons would be silent at first (the authors' ImageNet runs omit it too)
    "sew-resnet18": Architecture((2, 2, 2, 2), 64, block=SpikeAddBlock),
    "sew-resnet34": Architecture((3, 4, 6, 3), 64, block=SpikeAddBlock),
    "ms-resnet18": Architecture((2, 2, 2, 2), 64, block=MembraneBlock, zero_residual=True),
    "ms-resnet34": Architecture((3, 4, 6, 3), 64, block=MembraneBlock, zero_residual=True),
}


class StemLayer(nn.Module):
    """Additional convolution of a deep stem."""

    def __init__(self, width: int, activation: Activation) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.act = activation()

    def forward(self, x: Tensor, T: int) -> Tensor:
        out: Tensor = self.act(self.norm(self.conv(x)), T)
        return out


class ResNet(nn.Module):
    """Images `[B, C, H, W]` to logits `[T, B, classes]`; `[T*B, C, H, W]` inside.

    `last` builds the last activation before the classifier. With pre-activation blocks (MS-ResNet, WRN) the
    features stage1, stage2, ... are the blocks' sums; the last stage's is after the last activation.
    """

    def __init__(
        self,
        architecture: Architecture,
        channels: int,
        classes: int,
        activation: Activation,
        last: Activation,
    ) -> None:
        super().__init__()
        width, pre_activation = architecture.width, architecture.block.pre_activation
        pre_norm, inputs = architecture.block.pre_norm, width
        if architecture.narrow_stem:
            inputs = max(1, width // 2)
        self.repeat_input = False
        """Compute the stem T times, as the benchmark's baseline does."""
        self.conv = nn.Conv2d(channels, inputs, 3, 1, 1, bias=False)
        self.norm = nn.Identity() if pre_norm else nn.BatchNorm2d(inputs)
        self.act = None if pre_activation else activation()
        self.deeper = nn.ModuleList(
            StemLayer(width, activation) for _ in range(2 if architecture.deep_stem else 0)
        )
        self.pool = nn.AvgPool2d(2) if architecture.deep_stem else None
        self.stages = nn.ModuleList()
        for i, blocks in enumerate(architecture.blocks):
            outputs = width * 2**i
            stage = nn.ModuleList()
            for j in range(blocks):
                final = (i, j) == (len(architecture.blocks) - 1, blocks - 1)
                final = final and not (architecture.hidden or pre_activation)
                stride = 2 if i > 0 and j == 0 else 1
                stage.append(
                    architecture.block(
                        inputs,
                        outputs,
                        stride,
                        activation,
                        last if final else None,
                        pool_shortcut=architecture.deep_stem,
                    )
                )
                inputs = outputs
            self.stages.append(stage)
        self.last_norm = nn.BatchNorm2d(inputs) if pre_norm else None
        self.last_act = last() if pre_activation else None
        self.hidden = nn.Linear(inputs, architecture.hidden) if architecture.hidden else None
        self.hidden_act = last() if architecture.hidden else None
        self.head = nn.Linear(architecture.hidden or inputs, classes)
        init_weights(self)
        if self.hidden is not None and isinstance(self.hidden_act, SpikingLayer):
            _scale_hidden_init(self.hidden)
        if architecture.zero_residual:
            for module in self.modules():
                if isinstance(module, Block):
                    nn.init.zeros_(module.norm2.weight)

    def forward(self, images: Tensor, T: int, features: Features | None = None) -> Tensor:
        features = features or Features(())
        x = self._before_blocks(images, T)
        for i, stage in enumerate(self.stages):
            for block in stage:  # type: ignore[attr-defined]
                x = run_block(block, x, T)
            if self.last_act is not None and i == len(self.stages) - 1:
                x = self.last_act(x if self.last_norm is None else self.last_norm(x), T)
            features.offer(f"stage{i + 1}", lambda x=x: x)  # type: ignore[misc]
        features.offer("class_map", lambda: self._class_map(x, T))
        output = self._before_head(x.mean((2, 3)), T)
        features.offer("output", lambda: output)
        return full_precision(self.head, output).unflatten(0, (T, -1))

    def _before_blocks(self, images: Tensor, T: int) -> Tensor:
        x = (
            self._stem(repeat_over_time(images, T))
            if self.repeat_input and images.ndim == 4
            else encode_images(self._stem, images, T)
        )
        x = x if self.act is None else self.act(x, T)
        for layer in self.deeper:
            x = layer(x, T)
        return x if self.pool is None else self.pool(x)

    def _stem(self, images: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(images))
        return out

    def _before_head(self, x: Tensor, T: int) -> Tensor:
        return x if self.hidden is None or self.hidden_act is None else self.hidden_act(self.hidden(x), T)

    def _class_map(self, x: Tensor, T: int) -> Tensor:
        """Class activation map (Zhou et al. 2016): logits at each position, `[T*B, classes, H, W]`."""
        positions = x.flatten(2).permute(2, 0, 1)  # [H*W, T*B, C]
        logits = torch.stack(
            [full_precision(self.head, self._before_head(position, T)) for position in positions]
        )
        return logits.permute(1, 2, 0).unflatten(2, x.shape[2:])


@torch.no_grad()
def _scale_hidden_init(hidden: nn.Linear) -> None:
    """Scale torch's initial weights so that these neurons, behind no norm, get currents of variance near 1.

    Their inputs are mean rates, about 1/4 at first, which needs a weight variance of 16 / inputs. With
    torch's 1 / (3 inputs) the currents reach a seventh of the threshold and the neurons never fire.
    """
    hidden.weight.mul_(4 * 3**0.5)


def build(
    config: ResNetConfig, activation: Activation, last: Activation, classes: int, shape: tuple[int, int, int]
) -> ResNet:
    """Build `config.name` for images of `shape` `(C, H, W)`. Raises UsageError for too small images."""
    architecture = ARCHITECTURES[config.name]
    if architecture.deep_stem:
        check_size(config.name, shape, 2)
    hidden = config.hidden if isinstance(config, ResNet19Config) else architecture.hidden
    architecture = replace(architecture, width=config.width or architecture.width, hidden=hidden)
    return ResNet(architecture, shape[0], classes, activation, last)
