"""What of a network torch.compile makes faster, and whether that pays."""

from __future__ import annotations

import os
import shutil
from typing import Literal

import torch
from torch import Tensor, nn

from snnkd.catalog.neurons import is_fused
from snnkd.errors import UsageError
from snnkd.models import Network
from snnkd.models.activation import SpikingLayer, configure_compiler
from snnkd.schema.run import ExecutionConfig

SAVED = 4e-9
"""Seconds that compiled neurons save for each neuron, timestep and image of training (snnkd bench, resnet20, T = 4, two
cores of an AMD EPYC: 200 ms a step of 48 million)."""
WORTH = 100.0
"""Seconds that must be saved, by the measure of two cores. Compiling took 3 to 10 s there; it is slower elsewhere."""


Mode = Literal["auto", "neurons", "on", "off"]


def decide(execution: ExecutionConfig, network: Network, images: int, device: torch.device) -> Mode:
    """`execution.compile` with `auto` decided for training on `images` images in all (epochs x steps x batch).

    By counting, not by timing: the same recipe on the same machine decides alike, and its bytes depend on it. On GPUs
    SpikingJelly's neurons are fused kernels already. Loops over timesteps are left alone: torch 2.14 cannot compile some,
    and the gain was measured with lif. Raises UsageError where there is no C++ compiler to do what was asked.
    """
    here = device.type != "cpu" or compiler() is not None
    if execution.compile != "auto":
        if execution.compile != "off" and not here:
            raise UsageError(
                f"execution.compile: {execution.compile} needs a C++ compiler (CXX, g++ or clang++), none is here; "
                "install one or set it to off"
            )
        return execution.compile
    if device.type != "cpu" or not here or not is_fused(network.specification.neuron):
        return "off"
    return "neurons" if neurons(network) * network.specification.T * images * SAVED >= WORTH else "off"


def compiler() -> str | None:
    """The C++ compiler that torch.compile would call on a CPU."""
    names = [os.environ.get("CXX", ""), "g++", "clang++"]
    return next((found for name in names if name and (found := shutil.which(name))), None)


@torch.no_grad()
def neurons(network: Network) -> int:
    """Spiking neurons of `network`, counted on one image."""
    found = 0

    def count(module: nn.Module, inputs: object, spikes: Tensor) -> None:
        nonlocal found
        found += spikes.numel()

    layers = [module for module in network.modules() if isinstance(module, SpikingLayer)]
    if not layers:
        return 0
    handles = [layer.register_forward_hook(count) for layer in layers]
    training = network.training
    network.eval()
    network(torch.zeros(network.specification.batch_shape(1), device=network.mean.device))
    network.train(training)
    for handle in handles:
        handle.remove()
    return found // network.specification.T


def compile_network(network: Network) -> nn.Module:
    """The whole network compiled; it holds the same parameters."""
    configure_compiler()
    made: nn.Module = torch.compile(network)  # type: ignore[assignment]
    return made


def compile_neurons(network: nn.Module, on: bool) -> None:
    """Run the neurons of `network` compiled, or plainly."""
    for module in network.modules():
        if isinstance(module, SpikingLayer):
            module.use_compiled(on)
