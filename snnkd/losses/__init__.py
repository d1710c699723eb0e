"""Divergences as pure functions of logits `[B, C]`, and the objective of a recipe's `loss:` section.

`snnkd.catalog.losses` declares the functions; each is imported here under its name.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor

from snnkd.catalog.losses import DIVERGENCES
from snnkd.losses.hta_kl import hta_kl as hta_kl  # for type checkers, which see the module of that name

if TYPE_CHECKING:

    def __getattr__(name: str) -> Callable[..., Tensor]: ...


__all__ = sorted(entry.function_name for entry in DIVERGENCES)  # noqa: PLE0605
# at once, not when first used: importing a submodule would put it in the place of the function of its name
globals().update({entry.function_name: entry.load() for entry in DIVERGENCES})
