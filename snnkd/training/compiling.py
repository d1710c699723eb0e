"""torch.compile for training: which parts of a network it speeds up, and when that pays."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from snnkd.catalog.neurons import is_fused
from snnkd.errors import UsageError
from snnkd.models import Network
from snnkd.models.activation import SpikingLayer, configure_compiler
from snnkd.schema.run import ExecutionConfig

SAVED = 4e-9
"""Seconds saved by compiled neurons for each neuron, timestep and training image (snnkd bench, resnet20, T =
4, two cores of an AMD EPYC: 200 ms a step of 48 million)."""
WORTH = 100.0
"""Seconds to save, by that measure, before compiling pays. It took 3 to 10 s there; it is slower
elsewhere."""

Mode = Literal["neurons", "on", "off"]


def decide(execution: ExecutionConfig, network: Network, images: int, device: torch.device) -> Mode:
    """`execution.compile`, with `auto` decided for training on `images` images in all (epochs x steps x batch
    size).

    By counting, not by timing: a run's bytes depend on it, so the same recipe on the same machine has to
    decide alike. On GPUs SpikingJelly's neurons are fused kernels already. Loops over timesteps stay
    uncompiled: torch 2.14 fails on some of them. Raises UsageError without a C++ compiler.
    """
    available = device.type != "cpu" or compiler() is not None
    if execution.compile != "auto":
        if execution.compile != "off" and not available:
            raise UsageError(
                f"execution.compile: {execution.compile} needs a C++ compiler (CXX, g++ or clang++); "
                "install one or set it to off"
            )
        return execution.compile
    if device.type != "cpu" or not available or not is_fused(network.specification.neuron):
        return "off"
    return "neurons" if neurons(network) * network.specification.T * images * SAVED >= WORTH else "off"


def compiler() -> str | None:
    """The C++ compiler that torch.compile calls on a CPU."""
    names = [os.environ.get("CXX", ""), "g++", "clang++"]
    return next((path for name in names if name and (path := shutil.which(name))), None)


@torch.no_grad()
def neurons(network: Network) -> int:
    """Number of spiking neurons of `network`, counted on one image."""
    total = 0

    def count(module: nn.Module, inputs: object, spikes: Tensor) -> None:
        nonlocal total
        total += spikes.numel()

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
    return total // network.specification.T


def compile_network(network: Network, mode: Mode) -> nn.Module:
    """The network as training calls it: its neurons compiled in place, or all of it as a module with the same
    parameters."""
    compile_neurons(network, mode == "neurons")
    if mode != "on":
        return network
    configure_compiler()
    compiled: nn.Module = torch.compile(network)  # type: ignore[assignment]
    return compiled


@contextmanager
def compile_for_training(network: Network, mode: Mode) -> Iterator[nn.Module]:
    """`compile_network` inside; afterwards the neurons run uncompiled, so that all ranks measure alike."""
    try:
        yield compile_network(network, mode)
    finally:
        compile_neurons(network, False)


def compile_neurons(network: nn.Module, on: bool) -> None:
    """Run the neurons of `network` compiled, or plainly."""
    for module in network.modules():
        if isinstance(module, SpikingLayer):
            module.use_compiled(on)
