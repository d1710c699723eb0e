"""The folded twin of a network: SpikingJelly's layers in step mode 'm', batch norms folded.

NIR has no norms, no `[T*B]` layout and no mean over positions, and the training network cannot be traced.
Each network family has one function from its body to the layers of its twin.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from snnkd.errors import UsageError
from snnkd.models import Network
from snnkd.models.activation import ReLU, SpikingLayer
from snnkd.models.residual import Block, MembraneBlock, PreNormBlock, SpikeAddBlock
from snnkd.models.resnet import ResNet
from snnkd.models.vgg import VGG

SUPPORTED = (
    nn.Conv2d,
    nn.Linear,
    nn.AvgPool2d,
    nn.BatchNorm2d,
    nn.Identity,
    nn.Flatten,
    nn.Sequential,
    nn.ModuleList,
)
"""Layers that NIR supports or that are folded away, apart from those in UNSUPPORTED."""
UNSUPPORTED: tuple[tuple[type[nn.Module] | tuple[type[nn.Module], ...], Callable[[Any], str | None]], ...] = (
    (ReLU, lambda layer: "outputs real values instead of spikes (neuron.last: relu)"),
    ((nn.MaxPool2d, nn.AdaptiveMaxPool2d), lambda layer: "is a max pooling"),
    (
        nn.Conv2d,
        lambda layer: f"is a grouped convolution (groups = {layer.groups})" if layer.groups != 1 else None,
    ),
    (
        nn.Conv2d,
        lambda layer: (
            f"pads with {layer.padding_mode} instead of zeros" if layer.padding_mode != "zeros" else None
        ),
    ),
)
"""By layer type, why NIR does not support a layer, or None if it does."""


def check_exportable(network: Network) -> None:
    """Raise UsageError naming the first layer, topology or input size that NIR does not support."""
    if network.specification.neuron is None:
        raise UsageError("--format nir: a teacher has no spikes")
    for name, module in network.body.named_modules():
        # containers of the topology are skipped; torch's own modules compute even if they have children
        is_layer = not list(module.children()) or type(module).__module__.startswith("torch.")
        reason = _unsupported(module) if is_layer else None
        if reason:
            raise UsageError(f"--format nir: layer body.{name} {reason}")
    if type(network.body) not in FAMILIES:
        families = ", ".join(family.__name__ for family in FAMILIES)
        raise UsageError(f"--format nir: {network.specification.model.name} is not one of {families}")
    _check_sizes(network)


def _unsupported(module: nn.Module) -> str | None:
    """Why NIR does not support a layer, or None if it does."""
    if isinstance(module, SpikingLayer):
        return _unsupported_neuron(module)
    for kind, describe in UNSUPPORTED:
        reason = describe(module) if isinstance(module, kind) else None
        if reason:
            return reason
    return None if isinstance(module, SUPPORTED) else f"is a {type(module).__name__}, which NIR does not have"


def _unsupported_neuron(module: SpikingLayer) -> str | None:
    if module.config.name not in NEURONS:
        return f"is a neuron {module.config.name!r}, which NIR does not have"
    if module.config.reset != "hard":  # type: ignore[attr-defined]
        return "resets by subtraction (neuron.reset: soft)"
    return None


def _lif(layer: Any, tau: float) -> Any:
    from spikingjelly.activation_based import neuron

    config = layer.config
    return neuron.LIFNode(
        tau=tau, decay_input=config.decay_input, v_threshold=config.threshold, v_reset=0.0, step_mode="m"
    )


def _if(layer: Any) -> Any:
    from spikingjelly.activation_based import neuron

    return neuron.IFNode(v_threshold=layer.config.threshold, v_reset=0.0, step_mode="m")


NEURONS: dict[str, Callable[[Any], Any]] = {
    "lif": lambda layer: _lif(layer, float(layer.config.tau)),
    # with the learned time constant
    "plif": lambda layer: _lif(layer, 1.0 / layer.w.detach().double().sigmoid().item()),
    "if": _if,
}
"""Neurons that NIR supports, by name: functions from a layer to SpikingJelly's module."""


def spiking(module: nn.Module) -> Any:
    """Convert a spiking layer to SpikingJelly's module."""
    assert isinstance(module, SpikingLayer)
    return _link(NEURONS[module.config.name](module), module)


def _link(converted: Any, original: nn.Module) -> Any:
    """Store `original` on `converted`, bypassing nn.Module's registration of submodules."""
    converted.__dict__["original"] = original
    return converted


def node_names(twin: nn.Module, network: Network) -> dict[str, str]:
    """Map the names that the twin's layers get in a graph to the names of the network's layers."""
    names = {id(module): name.replace(".", "_") for name, module in network.body.named_modules()}
    extra = {nn.AvgPool2d: "mean", nn.Flatten: "flatten"}
    mapping = {}
    for path, module in twin.named_modules():
        name = next((name for kind, name in extra.items() if isinstance(module, kind)), "")
        name = names.get(id(module.__dict__.get("original")), name)
        if name:
            mapping["_" + path.replace(".", "_")] = name
    return mapping


@torch.no_grad()
def fold(convolution: nn.Conv2d, norm: nn.Module) -> Any:
    """Fold `norm`, in eval mode or an identity, into a convolution with bias.

    w' = w g / s and b' = (b - mean) g / s + beta with s = sqrt(var + eps), computed in float64 (Jacob et al.
    2018, arXiv 1712.05877).
    """
    from spikingjelly.activation_based import layer

    gain, offset = _affine(norm, convolution.out_channels)
    bias = torch.zeros_like(gain) if convolution.bias is None else convolution.bias.double()
    folded = layer.Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        convolution.kernel_size,
        stride=convolution.stride,
        padding=convolution.padding,
        dilation=convolution.dilation,
        step_mode="m",
    )
    folded.weight.copy_(convolution.weight.double() * gain.view(-1, 1, 1, 1))
    folded.bias.copy_(bias * gain + offset)
    return _link(folded, convolution)


def _affine(norm: nn.Module, channels: int) -> tuple[Tensor, Tensor]:
    """Factor and summand by channel, float64 `[channels]`, of a norm in eval mode or an identity."""
    if isinstance(norm, nn.Identity):
        return torch.ones(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    return gain, norm.bias.double() - norm.running_mean.double() * gain


@torch.no_grad()
def scaling(norm: nn.Module) -> Any:
    """Convert a norm that no convolution precedes to a diagonal 1x1 convolution."""
    assert isinstance(norm, nn.BatchNorm2d)
    convolution = nn.Conv2d(norm.num_features, norm.num_features, 1, bias=False)
    convolution.weight.copy_(torch.eye(norm.num_features)[..., None, None])
    return _link(fold(convolution, norm), norm)


def linear(module: nn.Linear) -> Any:
    """Convert a linear layer to one over `[T, B, ...]`."""
    from spikingjelly.activation_based import layer

    converted = layer.Linear(
        module.in_features, module.out_features, bias=module.bias is not None, step_mode="m"
    )
    converted.load_state_dict(module.state_dict())
    return _link(converted, module)


def averaging(size: int | tuple[int, int]) -> Any:
    """An average pooling with pairs as sizes, which snnTorch's importer needs."""
    from spikingjelly.activation_based import layer

    pair = (size, size) if isinstance(size, int) else size
    return layer.AvgPool2d(pair, pair, (0, 0), step_mode="m")


class Join(nn.Module):
    """Sum of two paths from the same input; in the graph, two edges into the next node."""

    def __init__(self, main: nn.Module, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.main, self.shortcut = main, shortcut

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.main(x) + (x if self.shortcut is None else self.shortcut(x))
        return total


def _shortcut(block: Block) -> list[nn.Module]:
    """The layers of a shortcut; none for an identity."""
    if isinstance(block.shortcut, nn.Identity):
        return []
    *pools, convolution, norm = block.shortcut.children()
    return [*(_pool(pool) for pool in pools), fold(convolution, norm)]  # type: ignore[arg-type]


def _pool(pool: nn.Module) -> nn.Module:
    """Convert an average pooling; `_check_sizes` refuses odd sizes, for which ceil_mode matters."""
    assert isinstance(pool, nn.AvgPool2d)
    converted: nn.Module = _link(averaging(pool.kernel_size), pool)
    return converted


def _join(main: list[nn.Module], shortcut: list[nn.Module]) -> Join:
    return Join(nn.Sequential(*main), nn.Sequential(*shortcut) if shortcut else None)


def _block(block: Block) -> list[nn.Module]:
    """Activation after the addition."""
    main = [fold(block.conv1, block.norm1), spiking(block.act1), fold(block.conv2, block.norm2)]
    return [_join(main, _shortcut(block)), spiking(block.act2)]


def _spike_add_block(block: SpikeAddBlock) -> list[nn.Module]:
    """Activation before the addition, on the shortcut too."""
    main = [
        fold(block.conv1, block.norm1),
        spiking(block.act1),
        fold(block.conv2, block.norm2),
        spiking(block.act2),
    ]
    shortcut = _shortcut(block)
    if block.shortcut_act is not None:
        shortcut.append(spiking(block.shortcut_act))
    return [_join(main, shortcut)]


def _membrane_block(block: MembraneBlock) -> list[nn.Module]:
    """Activation before each convolution."""
    main = [
        spiking(block.act1),
        fold(block.conv1, block.norm1),
        spiking(block.act2),
        fold(block.conv2, block.norm2),
    ]
    return [_join(main, _shortcut(block))]


def _pre_norm_block(block: PreNormBlock) -> list[nn.Module]:
    """Norm and activation before each convolution; a convolution as shortcut has the activated input."""
    activated = [scaling(block.norm1), spiking(block.act1)]
    convolutions = [
        fold(block.conv1, block.norm2),
        spiking(block.act2),
        fold(block.conv2, nn.Identity()),
    ]
    if isinstance(block.shortcut, nn.Identity):
        return [_join([*activated, *convolutions], [])]
    return [*activated, _join(convolutions, [fold(block.shortcut, nn.Identity())])]  # type: ignore[arg-type]


BLOCKS: dict[type[nn.Module], Callable[..., list[nn.Module]]] = {
    Block: _block,
    SpikeAddBlock: _spike_add_block,
    MembraneBlock: _membrane_block,
    PreNormBlock: _pre_norm_block,
}


def _resnet(body: ResNet) -> tuple[list[nn.Module], list[nn.Module]]:
    """The residual families: layers before and after the mean over positions."""
    trunk = [fold(body.conv, body.norm)]
    if body.act is not None:
        trunk.append(spiking(body.act))
    for layer in body.deeper:
        trunk += [fold(layer.conv, layer.norm), spiking(layer.act)]  # type: ignore[arg-type]
    if body.pool is not None:
        trunk.append(_pool(body.pool))
    for stage in body.stages:
        for block in stage:  # type: ignore[attr-defined]
            trunk += BLOCKS[type(block)](block)
    if body.last_norm is not None:
        trunk.append(scaling(body.last_norm))
    if body.last_act is not None:
        trunk.append(spiking(body.last_act))
    hidden = (
        []
        if body.hidden is None or body.hidden_act is None
        else [linear(body.hidden), spiking(body.hidden_act)]
    )
    return trunk, [*hidden, linear(body.head)]


def _vgg(body: VGG) -> tuple[list[nn.Module], list[nn.Module]]:
    trunk = [fold(body.conv, body.norm), spiking(body.act)]
    for group in body.groups:
        if group.pool is not None:
            trunk.append(_pool(group.pool))  # type: ignore[arg-type]
        for layer in group.layers:  # type: ignore[union-attr]
            trunk += [fold(layer.conv, layer.norm), spiking(layer.act)]
    return trunk, [linear(body.head)]


FAMILIES: dict[type[nn.Module], Callable[..., tuple[list[nn.Module], list[nn.Module]]]] = {
    ResNet: _resnet,
    VGG: _vgg,
}
"""By class of the body: functions to the layers before and after the mean over positions."""


def build_twin(network: Network) -> nn.Sequential:
    """Build the folded twin, stateful: NORMALISED images `[T, B, C, H, W]` to logits `[T, B, classes]`.

    Raises UsageError for a layer that NIR does not support.
    """
    from spikingjelly.activation_based import functional, layer

    check_exportable(network)
    trunk, head = FAMILIES[type(network.body)](network.body)
    with torch.no_grad():
        positions = nn.Sequential(*trunk).eval()(torch.zeros(1, 1, *network.specification.shape)).shape[-2:]
    twin = nn.Sequential(*trunk, averaging(tuple(positions)), layer.Flatten(step_mode="m"), *head)
    functional.reset_net(twin)
    return twin.eval().requires_grad_(False)


def _check_sizes(network: Network) -> None:
    """Raise UsageError if a pooling with ceil_mode meets an odd size, where it averages fewer positions."""
    odd: list[str] = []

    def record(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any) -> None:
            stride = module.stride if isinstance(module.stride, int) else max(module.stride)  # type: ignore[arg-type]
            if any(size % stride for size in inputs[0].shape[-2:]):
                odd.append(name)

        return hook

    pools = [
        (name, m) for name, m in network.body.named_modules() if isinstance(m, nn.AvgPool2d) and m.ceil_mode
    ]
    handles = [module.register_forward_pre_hook(record(name)) for name, module in pools]
    with torch.no_grad():
        network(torch.zeros(network.specification.batch_shape(1)), 1)
    for handle in handles:
        handle.remove()
    if odd:
        raise UsageError(f"--format nir: layer body.{odd[0]} average-pools an odd size with ceil_mode")


class Twin:
    """The folded twin as a stateless function: images or event frames to logits `[T, B, classes]`."""

    def __init__(self, network: Network, T: int) -> None:
        self.module = build_twin(network)
        self.T = T
        self._mean, self._std = network.mean, network.std

    def __call__(self, images: Tensor) -> Tensor:
        """Run from a fresh state."""
        from spikingjelly.activation_based import functional

        functional.reset_net(self.module)
        logits: Tensor = self.module(over_time(images, self._mean, self._std, self.T))
        functional.reset_net(self.module)
        return logits


def over_time(images: Tensor, mean: Tensor, std: Tensor, T: int) -> Tensor:
    """Input of the twin `[T, B, C, H, W]`: normalised images repeated T times, or T event frames."""
    normal = ((images - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)).contiguous()
    return normal[:T] if normal.ndim == 5 else torch.stack([normal] * T)
