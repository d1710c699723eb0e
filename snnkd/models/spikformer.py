"""Spikformer (Zhou et al. 2023, arXiv 2209.15425), as in SpikingJelly's model zoo (model/spikformer.py).

Four convolutions embed the patches, the last log2(patch) of them with max pooling before the neuron; a fifth
is the position embedding; blocks of spiking self-attention and MLP follow. The zoo's module is stateful and
repeats the image before the first layer, so this one is built from attention.py; with the zoo's weights and
neurons its outputs equal the zoo's (tests/models/test_spiking_transformers.py).
"""

from __future__ import annotations

from torch import Tensor, nn

from snnkd.models.activation import Activation
from snnkd.models.attention import MLP, SelfAttention, TokenBlock, class_map
from snnkd.models.blocks import encode_images, full_precision, init_weights, run_block
from snnkd.models.features import Features
from snnkd.schema.model import SpikformerConfig


class Convolution(nn.Module):
    """3x3 convolution with batch norm and optional 2x max pooling."""

    def __init__(self, inputs: int, outputs: int, pool: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.pool = nn.MaxPool2d(3, 2, 1) if pool else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pool(self.norm(self.conv(x)))
        return out


class Spikformer(nn.Module):
    """Images `[B, C, H, W]` to logits `[T, B, classes]`; features stage1 (tokens), stage2 (blocks)."""

    def __init__(
        self, config: SpikformerConfig, channels: int, classes: int, activation: Activation, last: Activation
    ) -> None:
        super().__init__()
        dim = config.dim
        widths = (channels, dim // 8, dim // 4, dim // 2, dim)
        pools = config.patch.bit_length() - 1
        self.patches = nn.ModuleList(
            Convolution(widths[i], widths[i + 1], pool=i >= 4 - pools) for i in range(4)
        )
        self.acts = nn.ModuleList(activation() for _ in self.patches)
        self.position = Convolution(dim, dim, pool=False)
        self.position_act = activation()
        self.blocks = nn.ModuleList()
        for i in range(config.depth):
            mlp = MLP(
                dim, round(dim * config.mlp_ratio), activation, last if i == config.depth - 1 else activation
            )
            self.blocks.append(TokenBlock(SelfAttention(dim, config.heads, activation), mlp))
        self.head = nn.Linear(dim, classes)
        init_weights(self)

    def forward(self, images: Tensor, T: int, features: Features | None = None) -> Tensor:
        features = features or Features(())
        x = self.acts[0](encode_images(self.patches[0], images, T), T)
        for convolution, act in zip(self.patches[1:], self.acts[1:], strict=True):
            x = act(convolution(x), T)
        x = x + self.position_act(self.position(x), T)
        features.offer("stage1", lambda x=x: x)  # type: ignore[misc]
        for block in self.blocks:
            x = run_block(block, x, T)
        features.offer("stage2", lambda: x)
        features.offer("class_map", lambda: class_map(self.head, x))
        output = x.mean((2, 3))
        features.offer("output", lambda: output)
        return full_precision(self.head, output).unflatten(0, (T, -1))


def build(
    config: SpikformerConfig,
    activation: Activation,
    last: Activation,
    classes: int,
    shape: tuple[int, int, int],
) -> Spikformer:
    """Build a Spikformer for images of `shape` `(C, H, W)`."""
    return Spikformer(config, shape[0], classes, activation, last)
