"""Divergences as pure functions of logits `[B, C]`, and the objective that a recipe's `loss:` section stands for."""

from snnkd.losses.adaptive import abkd, akl, todi
from snnkd.losses.divergences import ce, jeffreys, js, kl, mix, mse, rkl
from snnkd.losses.hta_kl import hta_kl
from snnkd.losses.relations import dist, dkd, wsld

__all__ = [
    "abkd",
    "akl",
    "ce",
    "dist",
    "dkd",
    "hta_kl",
    "jeffreys",
    "js",
    "kl",
    "mix",
    "mse",
    "rkl",
    "todi",
    "wsld",
]
