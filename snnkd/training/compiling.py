"""torch.compile for training: which parts of a network to compile, and when it pays off."""

from __future__ import annotations

import getpass
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from snnkd.catalog.neurons import is_fused
from snnkd.errors import UsageError
from snnkd.models import Network
from snnkd.models.activation import SpikingLayer, configure_compiler
from snnkd.schema.run import ExecutionConfig

SECONDS_SAVED = 4e-9
"""Seconds saved by compiled neurons per neuron, timestep and training image (snnkd bench, resnet20, T = 4,
two cores of an AMD EPYC: 200 ms per step of 48 million)."""
MIN_SAVED = 100.0
"""Seconds that compiling must save: it took 3 to 10 s on that machine, and takes longer on others."""

CACHE = "TORCHINDUCTOR_CACHE_DIR"
"""Read by torch's compiler."""

Mode = Literal["neurons", "on", "off"]


def decide(execution: ExecutionConfig, network: Network, images: int, device: torch.device) -> Mode:
    """Resolve `execution.compile: auto` for training on `images` images (epochs x steps x batch size).

    By counting, not timing: a run's bytes depend on it, so the decision must be reproducible. On GPUs
    SpikingJelly's neurons are fused kernels already. Loops over timesteps are not compiled: torch 2.14 fails
    on some of them. Raises UsageError without a C++ compiler.
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
    saved = count_neurons(network) * network.specification.T * images * SECONDS_SAVED
    return "neurons" if saved >= MIN_SAVED else "off"


def compiler() -> str | None:
    """Path of the C++ compiler that torch.compile uses on a CPU; None if there is none."""
    names = [os.environ.get("CXX", ""), "g++", "clang++"]
    return next((path for name in names if name and (path := shutil.which(name))), None)


@torch.no_grad()
def count_neurons(network: Network) -> int:
    """Count the spiking neurons of `network` with one image."""
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
    """The module that training calls: the network with neurons compiled in place, or compiled as a whole."""
    if mode != "off":
        use_own_cache()
    compile_neurons(network, mode == "neurons")
    if mode != "on":
        return network
    configure_compiler()
    compiled: nn.Module = torch.compile(network)  # type: ignore[assignment]
    return compiled


def use_own_cache() -> None:
    """Give torch's compiler a cache that this user can write: its own is named after the user, who may be
    unknown (in a container), and may belong to somebody else."""
    if CACHE in os.environ:
        return
    try:
        folder = Path(tempfile.gettempdir(), f"torchinductor_{getpass.getuser()}")
    except (KeyError, OSError):  # OSError from Python 3.13 on
        folder = None
    if folder is None or (folder.exists() and not os.access(folder, os.W_OK)):
        own = Path(tempfile.gettempdir(), f"torchinductor_{os.getuid()}")
        own.mkdir(mode=0o700, exist_ok=True)
        os.environ[CACHE] = str(own if own.stat().st_uid == os.getuid() else tempfile.mkdtemp())


@contextmanager
def compile_for_training(network: Network, mode: Mode) -> Iterator[nn.Module]:
    """Yield `compile_network`; afterwards neurons run uncompiled, so that all ranks measure the same."""
    try:
        yield compile_network(network, mode)
    finally:
        compile_neurons(network, False)


def compile_neurons(network: nn.Module, on: bool) -> None:
    """Switch compiled neurons of `network` on or off."""
    for module in network.modules():
        if isinstance(module, SpikingLayer):
            module.use_compiled(on)
