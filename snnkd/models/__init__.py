"""Networks: one file per family, each topology built as ANN or SNN.

Every network maps images `[B, C, H, W]` in 0..1, or event frames `[frames, B, C, H, W]`, to logits `[T, B,
classes]`.
"""

from snnkd.models.blocks import encode_images
from snnkd.models.network import Network, Specification, build_network

__all__ = ["Network", "Specification", "build_network", "encode_images"]
