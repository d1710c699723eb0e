"""The `model:` section, one dataclass a family of networks. A field's docstring is its help, `Bounds` its range."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from snnkd.errors import UsageError
from snnkd.schema.marks import Bounds


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """`model:`, the keys that every model has."""

    name: str = "resnet8"
    """A model of `snnkd list models`."""
    T: Annotated[int, Bounds(1, 1024)] | None = None
    """Timesteps of the student; a teacher has none. Empty for data.frames with event data, else 4."""
    event_input: Literal["mean", "stack"] | None = None
    """How a teacher sees event frames: their mean, or stacked as channels; empty for the mean. Of no use elsewhere."""


@dataclass(frozen=True, kw_only=True)
class ResNetConfig(ModelConfig):
    """`model:` of the residual family."""

    width: Annotated[int, Bounds(1, 4096)] | None = None
    """Channels of the first stage; empty for the family member's own."""


@dataclass(frozen=True, kw_only=True)
class VGGConfig(ModelConfig):
    """`model:` of VGG."""

    width: Annotated[int, Bounds(1, 4096)] | None = None
    """Channels of the first group; empty for 64."""
    pool: Literal["avg", "max"] = "avg"
    """avg: a pooling averages; max: it takes the largest, for an ANN only."""

    def __post_init__(self) -> None:
        if self.pool == "max" and self.T is not None:
            raise UsageError(
                "model.pool: max given for a spiking network, whose poolings average; use it for a teacher only"
            )


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(ModelConfig):
    """`model:`, what the transformers share."""

    dim: Annotated[int, Bounds(8, 4096)] = 384
    """Channels of a token in the last stage."""
    depth: Annotated[int, Bounds(1, 256)] = 4
    """Blocks of attention and MLP in all."""
    mlp_ratio: Annotated[float, Bounds(0.25, 16)] = 4.0
    """Hidden channels of an MLP over its own."""


@dataclass(frozen=True, kw_only=True)
class SpikformerConfig(TransformerConfig):
    """`model:` of spikformer; the defaults are the paper's for CIFAR, Spikformer-4-384."""

    heads: Annotated[int, Bounds(1, 256)] = 12
    """Of the attention."""
    patch: Literal[2, 4, 8, 16] = 4
    """Pixels of a token's side."""

    def __post_init__(self) -> None:
        _check_divides(self.dim, 8, "the first convolution has an eighth of the channels")
        _check_divides(self.dim, self.heads, "model.heads share the channels")


@dataclass(frozen=True, kw_only=True)
class QKFormerConfig(TransformerConfig):
    """`model:` of qkformer; the defaults are the paper's for CIFAR, HST-4-384."""

    depth: Annotated[int, Bounds(3, 256)] = 4
    """Blocks of attention and MLP in all: one in each of the first two stages, the others in the third."""
    heads: Annotated[int, Bounds(1, 256)] = 8
    """Of the attention."""

    def __post_init__(self) -> None:
        _check_divides(self.dim, 8, "the first convolution has an eighth of the channels")
        _check_divides(
            self.dim, 4 * self.heads, "model.heads share the channels of the first stage, a quarter"
        )


def _check_divides(dim: int, by: int, why: str) -> None:
    if dim % by:
        raise UsageError(f"model.dim: {dim} is not a multiple of {by}; {why}")


@dataclass(frozen=True, kw_only=True)
class UserModel(ModelConfig):
    """`model:` of a function of your own."""

    options: dict[str, Any] = field(default_factory=dict)
    """Further keyword arguments of the function."""
