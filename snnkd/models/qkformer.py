"""QKFormer for small images (Zhou et al. 2024, arXiv 2403.16552): three stages of halving resolution.

The blocks are those of SpikingJelly's model zoo (model/qkformer.py), which has the paper's ImageNet network
with 16x downsampling. The embeddings here are those of the authors' CIFAR network: no pooling before the
first stage, later ones pool after their second convolution.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from snnkd.models.activation import Activation
from snnkd.models.attention import MLP, SelfAttention, TokenAttention, TokenBlock, class_map
from snnkd.models.blocks import Pointwise, encode_images, full_precision, init_weights, run_block
from snnkd.models.features import Features
from snnkd.schema.model import QKFormerConfig


class Embedding(nn.Module):
    """Patch embedding before a stage: 3x3 convolution plus 1x1 shortcut; a subclass adds a first 3x3 one."""

    recompute = False
    """Whether to recompute it in the backward pass (`blocks.run_block`)."""

    def __init__(self, inputs: int, hidden: int, outputs: int, activation: Activation, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(hidden, outputs, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.pool = nn.MaxPool2d(3, 2, 1) if stride == 2 else nn.Identity()
        self.act = activation()
        self.shortcut = nn.Sequential(Pointwise(inputs, outputs, stride), nn.BatchNorm2d(outputs))
        self.shortcut_act = activation()

    def add_shortcut(self, x: Tensor, hidden: Tensor, T: int) -> Tensor:
        """Main path, from `hidden`, plus shortcut, from `x`."""
        out: Tensor = self.act(self.pool(self.norm(self.conv(hidden))), T) + self.shortcut_act(
            self.shortcut(x), T
        )
        return out

    def forward(self, x: Tensor, T: int) -> Tensor:
        return self.add_shortcut(x, x, T)


class HalvingEmbedding(Embedding):
    """Patch embedding between two stages: two 3x3 convolutions and 2x downsampling."""

    def __init__(self, inputs: int, outputs: int, activation: Activation) -> None:
        super().__init__(inputs, outputs, outputs, activation, stride=2)
        self.first = nn.Sequential(nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs))
        self.first_act = activation()

    def forward(self, x: Tensor, T: int) -> Tensor:
        return self.add_shortcut(x, self.first_act(self.first(x), T), T)


class QKFormer(nn.Module):
    """Images `[B, C, H, W]` to logits `[T, B, classes]`; features stage1 to stage3.

    Stages 1 and 2 have one block of token Q-K attention each, stage 3 has `depth - 2` of spiking
    self-attention.
    """

    def __init__(
        self, config: QKFormerConfig, channels: int, classes: int, activation: Activation, last: Activation
    ) -> None:
        super().__init__()
        dims = (config.dim // 4, config.dim // 2, config.dim)
        self.first = nn.Sequential(
            nn.Conv2d(channels, dims[0] // 2, 3, 1, 1, bias=False), nn.BatchNorm2d(dims[0] // 2)
        )
        self.act = activation()
        self.embeddings = nn.ModuleList(
            [Embedding(dims[0] // 2, dims[0] // 2, dims[0], activation, stride=1)]
        )
        self.embeddings.extend(HalvingEmbedding(dims[i], dims[i + 1], activation) for i in range(2))
        kinds: list[tuple[Callable[..., nn.Module], int]] = [
            (TokenAttention, 1),
            (TokenAttention, 1),
            (SelfAttention, config.depth - 2),
        ]
        self.stages = nn.ModuleList()
        for dim, (kind, depth) in zip(dims, kinds, strict=True):
            stage = nn.ModuleList()
            for i in range(depth):
                final = dim == config.dim and i == depth - 1
                mlp = MLP(dim, round(dim * config.mlp_ratio), activation, last if final else activation)
                stage.append(TokenBlock(kind(dim, config.heads, activation), mlp))
            self.stages.append(stage)
        self.head = nn.Linear(config.dim, classes)
        init_weights(self)

    def forward(self, images: Tensor, T: int, features: Features | None = None) -> Tensor:
        features = features or Features(())
        x = self.act(encode_images(self.first, images, T), T)
        for i, (embedding, stage) in enumerate(zip(self.embeddings, self.stages, strict=True)):
            x = run_block(embedding, x, T)
            for block in stage:  # type: ignore[attr-defined]
                x = run_block(block, x, T)
            features.offer(f"stage{i + 1}", lambda x=x: x)  # type: ignore[misc]
        features.offer("class_map", lambda: class_map(self.head, x))
        output = x.mean((2, 3))
        features.offer("output", lambda: output)
        return full_precision(self.head, output).unflatten(0, (T, -1))


def build(
    config: QKFormerConfig,
    activation: Activation,
    last: Activation,
    classes: int,
    shape: tuple[int, int, int],
) -> QKFormer:
    """Build a QKFormer for images of `shape` `(C, H, W)`."""
    return QKFormer(config, shape[0], classes, activation, last)
