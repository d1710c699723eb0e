"""Networks: one topology file per family, built as ANN or SNN; every network maps images to logits `[T, B, C]`."""

from snnkd.models.network import Network, Specification, build_network

__all__ = ["Network", "Specification", "build_network"]
