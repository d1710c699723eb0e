"""The residual blocks of spiking networks: two 3x3 convolutions with batch norm, shortcut, activations.

They differ in the position of the activations and norms. Shortcuts that change shape are a 1x1 convolution.
"""

from __future__ import annotations

from torch import Tensor, nn

from snnkd.models.activation import Activation
from snnkd.models.blocks import Pointwise


class Block(nn.Module):
    """Activation after the addition (He et al. 2016, arXiv 1512.03385, Zheng et al. 2021, 2011.05280)."""

    recompute = False
    """Whether to recompute it in the backward pass (`blocks.run_block`)."""
    pre_activation = False
    """Whether the block starts with its activation and its output is not activated."""
    pre_norm = False
    """Whether a norm precedes each activation, rather than following each convolution."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        activation: Activation,
        last: Activation | None = None,
        *,
        pool_shortcut: bool = False,
    ) -> None:
        """`last` builds the second activation; a `pool_shortcut` average-pools instead of striding."""
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.act1 = activation()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.act2 = (last or activation)()
        self.shortcut: nn.Module = (
            nn.Identity()
            if inputs == outputs and stride == 1
            else _projection(inputs, outputs, stride, pool_shortcut)
        )

    def forward(self, x: Tensor, T: int) -> Tensor:
        y = self.act1(self.norm1(self.conv1(x)), T)
        y = self.norm2(self.conv2(y))
        out: Tensor = self.act2(y + self.shortcut(x), T)
        return out


def _projection(inputs: int, outputs: int, stride: int, pool_shortcut: bool) -> nn.Sequential:
    # ceil_mode: the same output size as a padded convolution of that stride
    pools = (
        [nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False)]
        if pool_shortcut and stride > 1
        else []
    )
    convolution = Pointwise(inputs, outputs, 1 if pools else stride)
    return nn.Sequential(*pools, convolution, nn.BatchNorm2d(outputs))


class SpikeAddBlock(Block):
    """Spike-element-wise (SEW) ADD block: activations before the addition, also on a projection shortcut.

    Fang et al. 2021 (arXiv 2102.04159). Its output is a sum of spikes, 0, 1, 2, ..., so the next layer counts
    MACs, not SynOps.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        activation: Activation,
        last: Activation | None = None,
        *,
        pool_shortcut: bool = False,
    ) -> None:
        super().__init__(inputs, outputs, stride, activation, last, pool_shortcut=pool_shortcut)
        self.shortcut_act = None if isinstance(self.shortcut, nn.Identity) else activation()

    def forward(self, x: Tensor, T: int) -> Tensor:
        y = self.act1(self.norm1(self.conv1(x)), T)
        y = self.act2(self.norm2(self.conv2(y)), T)
        shortcut: Tensor = self.shortcut(x)
        return y + (shortcut if self.shortcut_act is None else self.shortcut_act(shortcut, T))


class MembraneBlock(Block):
    """Membrane shortcut (MS) block: activation before each convolution, none after the addition.

    Hu et al. 2021 (arXiv 2112.08954). The addition is of currents; both 3x3 convolutions receive spikes
    (SynOps), a shortcut that changes shape receives currents (MACs).
    """

    pre_activation = True

    def forward(self, x: Tensor, T: int) -> Tensor:
        y = self.norm1(self.conv1(self.act1(x, T)))
        y = self.norm2(self.conv2(self.act2(y, T)))
        out: Tensor = y + self.shortcut(x)
        return out


class PreNormBlock(Block):
    """Norm and activation before each convolution (Zagoruyko and Komodakis 2016, arXiv 1605.07146).

    A shortcut that changes shape is a 1x1 convolution of the activated input, without norm, so that all
    convolutions receive spikes.
    """

    pre_activation = True
    pre_norm = True

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        activation: Activation,
        last: Activation | None = None,
        *,
        pool_shortcut: bool = False,
    ) -> None:
        super().__init__(inputs, outputs, stride, activation, last, pool_shortcut=pool_shortcut)
        self.norm1 = nn.BatchNorm2d(inputs)
        if not isinstance(self.shortcut, nn.Identity):
            self.shortcut = Pointwise(inputs, outputs, stride)

    def forward(self, x: Tensor, T: int) -> Tensor:
        activated = self.act1(self.norm1(x), T)
        y = self.conv2(self.act2(self.norm2(self.conv1(activated)), T))
        out: Tensor = y + (x if isinstance(self.shortcut, nn.Identity) else self.shortcut(activated))
        return out
