"""The `model:` section, a dataclass per family of networks. A field's docstring is its help."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from snnkd.errors import UsageError
from snnkd.schema.marks import Bounds, Since


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """`model:`, keys of every network."""

    name: str = "resnet8"
    """A network of `snnkd list models`."""
    T: Annotated[int, Bounds(1, 1024)] | None = None
    """Timesteps of the student; empty for data.frames with event data, else 4. A teacher has none."""
    event_input: Literal["mean", "stack"] | None = None
    """Input of a teacher on event data: the mean of the frames, or the frames stacked as channels; empty for
    the mean."""


@dataclass(frozen=True, kw_only=True)
class ResNetConfig(ModelConfig):
    """`model:` of the residual networks."""

    width: Annotated[int, Bounds(1, 4096)] | None = None
    """Channels of the first stage; empty for the network's default."""


@dataclass(frozen=True, kw_only=True)
class ResNet19Config(ResNetConfig):
    """`model:` of resnet19."""

    hidden: Annotated[int, Bounds(0, 65536), Since("0.2.0")] = 256
    """Units of the hidden layer before the head; 0: one linear layer from the last features."""


@dataclass(frozen=True, kw_only=True)
class VGGConfig(ModelConfig):
    """`model:` of VGG."""

    width: Annotated[int, Bounds(1, 4096)] | None = None
    """Channels of the first group; empty for the network's own, 64 or (cnn7) 32."""
    pool: Literal["avg", "max"] = "avg"
    """Pooling; max: for ANNs only."""

    def __post_init__(self) -> None:
        if self.pool == "max" and self.T is not None:
            raise UsageError(
                "model.pool: max in a spiking network, which needs avg; use max for a teacher only"
            )


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(ModelConfig):
    """`model:`, keys of the transformers."""

    dim: Annotated[int, Bounds(8, 4096)] = 384
    """Embedding dimension of the last stage."""
    depth: Annotated[int, Bounds(1, 256)] = 4
    """Number of transformer blocks."""
    mlp_ratio: Annotated[float, Bounds(0.25, 16)] = 4.0
    """Hidden channels of an MLP relative to its input."""


@dataclass(frozen=True, kw_only=True)
class SpikformerConfig(TransformerConfig):
    """`model:` of spikformer; defaults of the paper for CIFAR, Spikformer-4-384."""

    heads: Annotated[int, Bounds(1, 256)] = 12
    """Attention heads."""
    patch: Literal[2, 4, 8, 16] = 4
    """Patch size in pixels."""

    def __post_init__(self) -> None:
        _check_divides(self.dim, 8, "the first convolution has an eighth of the channels")
        _check_divides(self.dim, self.heads, "model.heads share the channels")


@dataclass(frozen=True, kw_only=True)
class QKFormerConfig(TransformerConfig):
    """`model:` of qkformer; defaults of the paper for CIFAR, HST-4-384."""

    depth: Annotated[int, Bounds(3, 256)] = 4
    """Number of transformer blocks: one in each of the first two stages, the others in the third."""
    heads: Annotated[int, Bounds(1, 256)] = 8
    """Attention heads."""

    def __post_init__(self) -> None:
        _check_divides(self.dim, 8, "the first convolution has an eighth of the channels")
        _check_divides(
            self.dim, 4 * self.heads, "model.heads share the channels of the first stage, a quarter"
        )


def _check_divides(dim: int, divisor: int, reason: str) -> None:
    if dim % divisor:
        raise UsageError(f"model.dim: {dim} is not a multiple of {divisor}; {reason}")


@dataclass(frozen=True, kw_only=True)
class UserModel(ModelConfig):
    """`model:` of your own function."""

    options: dict[str, Any] = field(default_factory=dict)
    """Further keyword arguments of the function."""
