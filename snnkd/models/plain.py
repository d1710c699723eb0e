"""Plain PyTorch classifiers as ANNs."""

from __future__ import annotations

import inspect

from torch import Tensor, nn

from snnkd.errors import UsageError


class PlainNetwork(nn.Module):
    """Adapts a classifier `[B, C, H, W] -> [B, classes]` to a body with logits `[1, B, classes]`."""

    def __init__(self, network: nn.Module, name: str) -> None:
        super().__init__()
        self.network = network
        self.name = name

    def forward(self, images: Tensor, T: int) -> Tensor:
        """`T` is 1, since an ANN has one timestep. Raises UsageError for all but `[B, classes]`."""
        logits = self.network(images)
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            raise UsageError(
                f"model.name: {self.name} does not return logits [B, classes]; choose a plain classifier"
            )
        return logits[None]


def plain_body(body: nn.Module) -> nn.Module:
    """The module whose layers have the names of weight files."""
    return body.network if isinstance(body, PlainNetwork) else body


def is_plain(network: nn.Module) -> bool:
    """Whether `forward` takes images only: it has no second argument, or an optional one other than T."""
    parameters = list(inspect.signature(network.forward).parameters.values())
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return False
    second = parameters[1] if len(parameters) > 1 else None
    return second is None or (second.name != "T" and _is_optional(second))


def _is_optional(parameter: inspect.Parameter) -> bool:
    return parameter.default is not parameter.empty or parameter.kind in (
        parameter.KEYWORD_ONLY,
        parameter.VAR_KEYWORD,
    )
