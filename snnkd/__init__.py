"""snnkd: a command-line distillation toolkit for spiking neural networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snnkd.models.files import load as load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """`snnkd.load` on demand: `snnkd --help` must not import torch."""
    if name == "load":
        from snnkd.models.files import load

        return load
    raise AttributeError(f"module 'snnkd' has no attribute {name!r}")
