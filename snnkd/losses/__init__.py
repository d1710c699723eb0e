"""Divergences as pure functions of logits `[B, C]`, and the objective that a recipe's `loss:` section stands for."""

from snnkd.losses.divergences import jeffreys, kl, rkl
from snnkd.losses.hta_kl import hta_kl

__all__ = ["hta_kl", "jeffreys", "kl", "rkl"]
