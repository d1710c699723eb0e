"""snnkd: a command-line distillation toolkit for spiking neural networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snnkd.api import Exported as Exported
    from snnkd.api import Point as Point
    from snnkd.api import Result as Result
    from snnkd.api import Run as Run
    from snnkd.api import distill as distill
    from snnkd.api import evaluate as evaluate
    from snnkd.api import export as export
    from snnkd.api import teach as teach
    from snnkd.models.files import load as load

__version__ = "0.1.0"
_API = ("Exported", "Point", "Result", "Run", "distill", "evaluate", "export", "load", "teach")
__all__ = [
    "Exported",
    "Point",
    "Result",
    "Run",
    "__version__",
    "distill",
    "evaluate",
    "export",
    "load",
    "teach",
]


def __getattr__(name: str) -> Any:
    """The functions on demand: `snnkd --help` must not import torch."""
    if name in _API:
        import importlib

        return getattr(importlib.import_module("snnkd.api"), name)
    raise AttributeError(f"module 'snnkd' has no attribute {name!r}")
