"""snnkd: a command-line distillation toolkit for spiking neural networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from snnkd.openmp import set_openmp_defaults

if TYPE_CHECKING:
    from snnkd.api import (
        Exported,
        Guess,
        Point,
        Prediction,
        Result,
        Run,
        distill,
        evaluate,
        export,
        load,
        predict,
        teach,
    )

__version__ = "0.1.0"
__all__ = [
    "Exported",
    "Guess",
    "Point",
    "Prediction",
    "Result",
    "Run",
    "__version__",
    "distill",
    "evaluate",
    "export",
    "load",
    "predict",
    "teach",
]
set_openmp_defaults()  # no effect if torch is already imported


def __getattr__(name: str) -> Any:
    """Import the public names on first use: `snnkd --help` must not import torch."""
    if name in __all__:
        import importlib

        return getattr(importlib.import_module("snnkd.api"), name)
    raise AttributeError(f"module 'snnkd' has no attribute {name!r}")
