"""Blocks of spiking transformers, on maps `[T*B, D, H, W]` whose H*W positions are the tokens.

Neither attention has a softmax. Both compute what SpikingJelly's SpikingSelfAttention and QKAttention do
(spikingjelly.activation_based.layer.attention), which contain stateful neurons of their own. A linear layer
over tokens is a 1x1 convolution. SpikingJelly halves the threshold of the neuron after the products; here its
input is doubled, which gives the same spikes for neurons linear below the threshold (lif, plif, if), with a
surrogate twice as steep.
Spiking self-attention: Zhou et al. 2023 (Spikformer, arXiv 2209.15425). Q-K attention: Zhou et al. 2024
(QKFormer, arXiv 2403.16552).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snnkd.models.activation import Activation, at_least_float32, without_autocast

HALF_THRESHOLD = 2.0
"""Factor on a neuron's input, equivalent to halving its threshold."""
SCALE = 0.125
"""Scale of attention products, for every head size."""


class Product(nn.Module):
    """Operation between activations, without weights, whose cost is counted as SynOps or MACs."""

    outputs_spikes = False
    """Whether spikes in give spikes out."""

    def synops_per_spike(self, x: Tensor) -> Tensor:
        """SynOps caused by one spike at each position of input `x` `[M, C, H, W]`: `[C, H, W]`."""
        raise NotImplementedError

    def macs(self, output: Tensor) -> int:
        """Multiply-accumulates per row of `output` for real-valued input."""
        raise NotImplementedError


def _cost_map(x: Tensor, *costs: float) -> Tensor:
    """Expand one cost per equal group of the channels of `x` to `[C, H, W]`."""
    per_channel = torch.tensor(costs, dtype=torch.float64, device=x.device).repeat_interleave(
        x.shape[1] // len(costs)
    )
    return per_channel.view(-1, 1, 1).expand(x.shape[1:])


class SelfProduct(Product):
    """Queries, keys and values `[M, 3D, H, W]` to q (k^T v) per head, `[M, D, H, W]`.

    With d channels per head, a key's spike adds its token's d values and a query's spike adds d sums, d
    SynOps each; a value's spike costs none of its own. MACs: 2 d per channel and token.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, qkv: Tensor) -> Tensor:
        rows, channels, height, width = qkv.shape
        tokens = (
            qkv.permute(0, 2, 3, 1).reshape(rows, height * width, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        )
        with without_autocast(qkv.device):  # bf16 cannot represent the sums of spikes
            q, k, v = at_least_float32(tokens)
            out = q @ (k.transpose(-2, -1) @ v) * (SCALE * HALF_THRESHOLD)
        return out.transpose(1, 2).reshape(rows, height, width, channels // 3).permute(0, 3, 1, 2)

    def synops_per_spike(self, x: Tensor) -> Tensor:
        width = x.shape[1] // 3 // self.heads
        return _cost_map(x, width, width, 0)

    def macs(self, output: Tensor) -> int:
        return 2 * output[0].numel() * (output.shape[1] // self.heads)


class TokenSum(Product):
    """Queries and keys `[M, 2D, H, W]` to the heads' summed queries `[M, heads, H, W]`; 1 SynOp a spike."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, qk: Tensor) -> Tensor:
        queries = qk[:, : qk.shape[1] // 2].unflatten(1, (self.heads, -1))
        return queries.sum(2) * HALF_THRESHOLD

    def synops_per_spike(self, x: Tensor) -> Tensor:
        return _cost_map(x, 1, 0)

    def macs(self, output: Tensor) -> int:
        return 0  # only additions, as in a pooling


class TokenGate(Product):
    """Keys of `[M, 2D, H, W]` masked by their head's gate `[M, heads, H, W]`; 1 SynOp per key spike."""

    outputs_spikes = True

    def forward(self, qk: Tensor, gate: Tensor) -> Tensor:
        keys = qk[:, qk.shape[1] // 2 :].unflatten(1, (gate.shape[1], -1))
        return (keys * gate.unsqueeze(2)).flatten(1, 2)

    def synops_per_spike(self, x: Tensor) -> Tensor:
        return _cost_map(x, 0, 1)

    def macs(self, output: Tensor) -> int:
        return output[0].numel()


def projection(inputs: int, outputs: int) -> nn.Sequential:
    """Linear layer over tokens, as a 1x1 convolution, with batch norm."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))


class SelfAttention(nn.Module):
    """Spiking self-attention, `[T*B, D, H, W]` to the same shape."""

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
    """Token Q-K attention: per head and token, one neuron gates the keys by the sum of the queries."""

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
    """Two linear layers over tokens, each with batch norm and activation."""

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
    """Attention, then MLP, both residual."""

    recompute = False
    """Whether to recompute it in the backward pass (`blocks.run_block`)."""

    def __init__(self, attention: nn.Module, mlp: MLP) -> None:
        super().__init__()
        self.attention, self.mlp = attention, mlp

    def forward(self, x: Tensor, T: int) -> Tensor:
        x = x + self.attention(x, T)
        out: Tensor = x + self.mlp(x, T)
        return out


def class_map(head: nn.Module, x: Tensor) -> Tensor:
    """Logits of `head` at each position of `[M, D, H, W]`: `[M, classes, H, W]`."""
    logits: Tensor = head(x.permute(0, 2, 3, 1).to(next(head.parameters()).dtype))
    return logits.permute(0, 3, 1, 2)
