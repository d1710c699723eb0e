"""QKFormer for small images (Zhou et al. 2024, arXiv 2403.16552): three stages, the size halved between them.

The blocks are those of SpikingJelly's model zoo (model/qkformer.py). The zoo has the paper's network for
ImageNet, which makes an image sixteen times smaller; the embeddings here are those of the authors' network
for CIFAR: no pooling before the first stage, the others pool after their second convolution.
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
    """From one stage to the next: two 3x3 convolutions, added to a 1x1 convolution. The first one may have
    been done outside.
    """

    recompute = False
    """Whether the backward pass computes it again (see models/blocks.py)."""

    def __init__(self, inputs: int, between: int, outputs: int, activation: Activation, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(between, outputs, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.pool = nn.MaxPool2d(3, 2, 1) if stride == 2 else nn.Identity()
        self.act = activation()
        self.shortcut = nn.Sequential(Pointwise(inputs, outputs, stride), nn.BatchNorm2d(outputs))
        self.shortcut_act = activation()

    def joined(self, x: Tensor, begun: Tensor, T: int) -> Tensor:
        """The sum of both ways: `begun` is what the first convolution made of `x`."""
        out: Tensor = self.act(self.pool(self.norm(self.conv(begun))), T) + self.shortcut_act(
            self.shortcut(x), T
        )
        return out

    def forward(self, x: Tensor, T: int) -> Tensor:
        return self.joined(x, x, T)


class HalvingEmbedding(Embedding):
    """An embedding between two stages, with its first convolution."""

    def __init__(self, inputs: int, outputs: int, activation: Activation) -> None:
        super().__init__(inputs, outputs, outputs, activation, stride=2)
        self.first = nn.Sequential(nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs))
        self.first_act = activation()

    def forward(self, x: Tensor, T: int) -> Tensor:
        return self.joined(x, self.first_act(self.first(x), T), T)


class QKFormer(nn.Module):
    """Images `[B, C, H, W]` to logits `[T, B, classes]`; features stage1 to stage3.

    Token Q-K attention in one block each of stages 1 and 2, spiking self-attention in the others, in stage 3.
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
    """A QKFormer for images of `shape` (channels, height, width)."""
    return QKFormer(config, shape[0], classes, activation, last)
