"""Blocks of spiking transformers, on maps `[T*B, D, H, W]` whose positions are the tokens.

Both attentions have no softmax and are those of SpikingJelly's layers SpikingSelfAttention and QKAttention
(spikingjelly.activation_based.layer.attention), written here because those hold neurons of SpikingJelly's
own, with state. A linear layer over tokens is a 1x1 convolution. There the neuron after the products has half
the threshold of the others; here it is a neuron as all others and its input is doubled, which gives the same
spikes of neurons that are linear below the threshold (lif, plif, if), under a surrogate twice as steep.

Spiking self-attention: Zhou et al. 2023 (Spikformer, arXiv 2209.15425). Q-K attention: Zhou et al. 2024
(QKFormer, arXiv 2403.16552).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snnkd.models.activation import Activation, at_least_float32, without_autocast

HALF_THRESHOLD = 2.0
"""Factor on the input of a neuron that stands in for halving its threshold."""
SCALE = 0.125
"""Of the products of queries, keys and values, for every size of a head."""


class Product(nn.Module):
    """Operations between activations, without weights, that a measurement has to count."""

    outputs_spikes = False
    """Whether spikes make spikes."""

    def reach(self, x: Tensor) -> Tensor:
        """Synaptic operations that one spike at each position of the input `x` `[M, C, H, W]` costs, `[C, H,
        W]`.
        """
        raise NotImplementedError

    def macs(self, output: Tensor) -> int:
        """Multiply-accumulates per row of `output`, where the input is not spikes."""
        raise NotImplementedError


def _parts(x: Tensor, *costs: float) -> Tensor:
    """A cost for each of the equal parts that the channels of `x` are made of, `[C, H, W]`."""
    parts = torch.tensor(costs, dtype=torch.float64, device=x.device).repeat_interleave(
        x.shape[1] // len(costs)
    )
    return parts.view(-1, 1, 1).expand(x.shape[1:])


class SelfProduct(Product):
    """`[M, 3D, H, W]`, queries, keys and values, to q (k^T v) in each head, `[M, D, H, W]`.

    Operations: a spike of a key adds the d values of its token to d sums, one of a query adds d of those (d
    channels a head); values wait to be added. MACs: 2 d for each channel and token.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, qkv: Tensor) -> Tensor:
        rows, channels, height, width = qkv.shape
        tokens = (
            qkv.permute(0, 2, 3, 1).reshape(rows, height * width, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        )
        with without_autocast(qkv.device):  # sums of spikes are above what bf16 can count
            q, k, v = at_least_float32(tokens)
            out = q @ (k.transpose(-2, -1) @ v) * (SCALE * HALF_THRESHOLD)
        return out.transpose(1, 2).reshape(rows, height, width, channels // 3).permute(0, 3, 1, 2)

    def reach(self, x: Tensor) -> Tensor:
        width = x.shape[1] // 3 // self.heads
        return _parts(x, width, width, 0)

    def macs(self, output: Tensor) -> int:
        return 2 * output[0].numel() * (output.shape[1] // self.heads)


class TokenSum(Product):
    """Queries and keys `[M, 2D, H, W]` to the sum of the queries of each head, `[M, heads, H, W]`; an
    operation a query's spike.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, qk: Tensor) -> Tensor:
        queries = qk[:, : qk.shape[1] // 2].unflatten(1, (self.heads, -1))
        return queries.sum(2) * HALF_THRESHOLD

    def reach(self, x: Tensor) -> Tensor:
        return _parts(x, 1, 0)

    def macs(self, output: Tensor) -> int:
        return 0  # additions alone, as in a pooling


class TokenGate(Product):
    """Keys of `[M, 2D, H, W]` where the gate `[M, heads, H, W]` of their head is open; an operation a key's
    spike.
    """

    outputs_spikes = True

    def forward(self, qk: Tensor, gate: Tensor) -> Tensor:
        keys = qk[:, qk.shape[1] // 2 :].unflatten(1, (gate.shape[1], -1))
        return (keys * gate.unsqueeze(2)).flatten(1, 2)

    def reach(self, x: Tensor) -> Tensor:
        return _parts(x, 0, 1)

    def macs(self, output: Tensor) -> int:
        return output[0].numel()


def projection(inputs: int, outputs: int) -> nn.Sequential:
    """The same linear layer at every token, with norm."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))


class SelfAttention(nn.Module):
    """Spiking self-attention."""

    def __init__(self, dim: int, heads: int, activation: Activation) -> None:
        super().__init__()
        self.qkv = projection(dim, 3 * dim)
        self.qkv_act = activation()
        self.product = SelfProduct(heads)
        self.attention_act = activation()
        self.out = projection(dim, dim)
        self.out_act = activation()

    def forward(self, x: Tensor, T: int) -> Tensor:
        x = self.attention_act(self.product(self.qkv_act(self.qkv(x), T)), T)
        out: Tensor = self.out_act(self.out(x), T)
        return out


class TokenAttention(nn.Module):
    """Token Q-K attention: a neuron a head and token decides from the queries whether the keys pass."""

    def __init__(self, dim: int, heads: int, activation: Activation) -> None:
        super().__init__()
        self.qk = projection(dim, 2 * dim)
        self.qk_act = activation()
        self.sum = TokenSum(heads)
        self.attention_act = activation()
        self.gate = TokenGate()
        self.out = projection(dim, dim)
        self.out_act = activation()

    def forward(self, x: Tensor, T: int) -> Tensor:
        qk = self.qk_act(self.qk(x), T)
        x = self.gate(qk, self.attention_act(self.sum(qk), T))
        out: Tensor = self.out_act(self.out(x), T)
        return out


class MLP(nn.Module):
    """Two linear layers over each token."""

    def __init__(self, dim: int, hidden: int, activation: Activation, last: Activation) -> None:
        super().__init__()
        self.inward = projection(dim, hidden)
        self.act1 = activation()
        self.outward = projection(hidden, dim)
        self.act2 = last()

    def forward(self, x: Tensor, T: int) -> Tensor:
        out: Tensor = self.act2(self.outward(self.act1(self.inward(x), T)), T)
        return out


class TokenBlock(nn.Module):
    """Attention, then MLP, each added to what it was given."""

    recompute = False
    """Whether the backward pass computes it again (see models/blocks.py)."""

    def __init__(self, attention: nn.Module, mlp: MLP) -> None:
        super().__init__()
        self.attention, self.mlp = attention, mlp

    def forward(self, x: Tensor, T: int) -> Tensor:
        x = x + self.attention(x, T)
        out: Tensor = x + self.mlp(x, T)
        return out


def class_map(head: nn.Module, x: Tensor) -> Tensor:
    """What `head` would answer at each position of `[M, D, H, W]`: `[M, classes, H, W]`."""
    answers: Tensor = head(x.permute(0, 2, 3, 1).to(next(head.parameters()).dtype))
    return answers.permute(0, 3, 1, 2)
