"""The three residual blocks of the spiking literature: two 3x3 convolutions with norm each, a shortcut, two
activations.

They have the same weights and differ in where the activation stands. Shortcuts that change shape are a 1x1
convolution with norm.
"""

from __future__ import annotations

from torch import Tensor, nn

from snnkd.models.activation import Activation
from snnkd.models.blocks import Pointwise


class Block(nn.Module):
    """Activation after the addition (He et al. 2016, arXiv 1512.03385; spiking: Zheng et al. 2021, arXiv
    2011.05280).
    """

    recompute = False
    """Whether the backward pass computes it again (see models/blocks.py)."""
    pre_activation = False
    """Whether a block begins with its activation, so that blocks hand on what was not activated."""

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
        """`last` makes the second activation; a `pool_shortcut` shortcut averages before its convolution
        instead of striding.
        """
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
            else _projection(inputs, outputs, stride, pool_shortcut)
        )

    def forward(self, x: Tensor, T: int) -> Tensor:
        y = self.act1(self.norm1(self.conv1(x)), T)
        y = self.norm2(self.conv2(y))
        out: Tensor = self.act2(y + self.shortcut(x), T)
        return out


def _projection(inputs: int, outputs: int, stride: int, pool_shortcut: bool) -> nn.Sequential:
    # ceil_mode: as many positions as a padded convolution of that stride has
    pools = (
        [nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False)]
        if pool_shortcut and stride > 1
        else []
    )
    convolution = Pointwise(inputs, outputs, 1 if pools else stride)
    return nn.Sequential(*pools, convolution, nn.BatchNorm2d(outputs))


class SpikeAddBlock(Block):
    """Spike-element-wise addition: activation before the addition, also on a shortcut that changes shape.

    ADD of Fang et al. 2021 (arXiv 2102.04159). The output of a spiking block is a sum of spikes, 0, 1, 2,
    ..., so that what follows makes MACs, not SynOps.
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
        short: Tensor = self.shortcut(x)
        return y + (short if self.shortcut_act is None else self.shortcut_act(short, T))


class MembraneBlock(Block):
    """Membrane shortcut: activation before each convolution, nothing after the addition (Hu et al. 2021,
    arXiv 2112.08954).

    A spiking block adds currents; both 3x3 convolutions see spikes, a shortcut that changes shape sees
    currents (MACs).
    """

    pre_activation = True

    def forward(self, x: Tensor, T: int) -> Tensor:
        y = self.norm1(self.conv1(self.act1(x, T)))
        y = self.norm2(self.conv2(self.act2(y, T)))
        out: Tensor = y + self.shortcut(x)
        return out
