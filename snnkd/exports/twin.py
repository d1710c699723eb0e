"""The folded twin of a network: the same layers as SpikingJelly's own in step mode 'm', each norm folded into its convolution.

NIR has no word for a norm, for `[T*B]`, for a mean over positions; the training network is not traceable. Each family of
networks has one function from its body to the layers of its twin.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from snnkd.catalog.formats import general_formats
from snnkd.errors import UsageError
from snnkd.models import Network
from snnkd.models.activation import ReLU, SpikingLayer
from snnkd.models.residual import Block, MembraneBlock, SpikeAddBlock
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
"""What can be said, or folds away, unless REASONS says otherwise."""
REASONS: tuple[tuple[type[nn.Module] | tuple[type[nn.Module], ...], Callable[[Any], str | None]], ...] = (
    (ReLU, lambda layer: "gives real values instead of spikes (neuron.last: relu)"),
    ((nn.MaxPool2d, nn.AdaptiveMaxPool2d), lambda layer: "is a max-pooling"),
    (
        nn.Conv2d,
        lambda layer: f"is a grouped convolution (groups = {layer.groups})" if layer.groups != 1 else None,
    ),
    (
        nn.Conv2d,
        lambda layer: (
            f"pads with other than zeros ({layer.padding_mode})" if layer.padding_mode != "zeros" else None
        ),
    ),
)
"""Why layers of a kind cannot be said; None where they can."""


def check_exportable(network: Network) -> None:
    """Raise UsageError that names the first layer that NIR has no word for; nothing is traced before."""
    if network.specification.neuron is None:
        raise UsageError(f"--format nir: this is a teacher, which has no spikes; use {general_formats()}")
    for name, module in network.body.named_modules():
        # torch's own modules compute, whatever they hold; others that hold layers are the topology's
        why = (
            _unsupported(module)
            if not list(module.children()) or type(module).__module__.startswith("torch.")
            else None
        )
        if why:
            raise UsageError(f"--format nir: layer body.{name} {why}; use {general_formats()}")
    if type(network.body) not in FAMILIES:
        kind = network.specification.model.name
        raise UsageError(
            f"--format nir: {kind} is not of a family that is known to fold ({_families()}); use {general_formats()}"
        )


def _families() -> str:
    return ", ".join(family.__name__ for family in FAMILIES)


def _unsupported(module: nn.Module) -> str | None:
    """Why NIR cannot say a layer; None where it can."""
    if isinstance(module, SpikingLayer):
        return _unsupported_neuron(module)
    for kind, why in REASONS:
        reason = why(module) if isinstance(module, kind) else None
        if reason:
            return reason
    return (
        None if isinstance(module, SUPPORTED) else f"is a {type(module).__name__}, for which NIR has no word"
    )


def _unsupported_neuron(module: SpikingLayer) -> str | None:
    if module.config.name not in NEURONS:
        return f"is a neuron {module.config.name!r}, for which NIR has no word"
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
    # with the time constant that the layer has learned
    "plif": lambda layer: _lif(layer, 1.0 / layer.w.detach().double().sigmoid().item()),
    "if": _if,
}
"""Neurons that NIR can say, by the name in the recipe: SpikingJelly's own of a layer."""


def spiking(module: nn.Module) -> Any:
    """SpikingJelly's own layer of these neurons."""
    assert isinstance(module, SpikingLayer)
    return _standing_for(module, NEURONS[module.config.name](module))


def _standing_for(original: nn.Module, made: Any) -> Any:
    """`made`, which remembers the layer that it is made from; not as a layer of its own."""
    made.__dict__["stands_for"] = original
    return made


def node_names(twin: nn.Module, network: Network) -> dict[str, str]:
    """By the names that the layers of a twin have in a graph, those that they should have: of the network's layers."""
    names = {id(module): name.replace(".", "_") for name, module in network.body.named_modules()}
    own = {nn.AvgPool2d: "mean", nn.Flatten: "flatten"}
    found = {}
    for path, module in twin.named_modules():
        name = next((name for kind, name in own.items() if isinstance(module, kind)), "")
        name = names.get(id(module.__dict__.get("stands_for")), name)
        if name:
            found["_" + path.replace(".", "_")] = name
    return found


@torch.no_grad()
def folded(convolution: nn.Conv2d, norm: nn.Module) -> Any:
    """One convolution with bias that answers as `norm(convolution(x))` does in eval mode.

    w' = w g / s and b' = (b - mean) g / s + beta with s = sqrt(var + eps) (Jacob et al. 2018, arXiv 1712.05877), computed in float64.
    """
    from spikingjelly.activation_based import layer

    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    bias = torch.zeros_like(gain) if convolution.bias is None else convolution.bias.double()
    made = layer.Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        convolution.kernel_size,
        stride=convolution.stride,
        padding=convolution.padding,
        dilation=convolution.dilation,
        step_mode="m",
    )
    made.weight.copy_(convolution.weight.double() * gain.view(-1, 1, 1, 1))
    made.bias.copy_((bias - norm.running_mean.double()) * gain + norm.bias.double())
    return _standing_for(convolution, made)


def linear(module: nn.Linear) -> Any:
    """The same layer over `[T, B, ...]`."""
    from spikingjelly.activation_based import layer

    made = layer.Linear(module.in_features, module.out_features, bias=module.bias is not None, step_mode="m")
    made.load_state_dict(module.state_dict())
    return _standing_for(module, made)


def averaging(size: int | tuple[int, int]) -> Any:
    """An average pooling; its numbers are pairs, as snnTorch's importer takes them."""
    from spikingjelly.activation_based import layer

    pair = (size, size) if isinstance(size, int) else size
    return layer.AvgPool2d(pair, pair, (0, 0), step_mode="m")


class Join(nn.Module):
    """The sum of what two paths make of the same input; in the graph, two edges into what follows."""

    def __init__(self, long: nn.Module, short: nn.Module | None) -> None:
        super().__init__()
        self.long, self.short = long, short

    def forward(self, x: Tensor) -> Tensor:
        other = x if self.short is None else self.short(x)
        made: Tensor = self.long(x) + other
        return made


def _short(block: Block) -> list[nn.Module]:
    """The layers of a shortcut; none where it hands its input on."""
    if isinstance(block.shortcut, nn.Identity):
        return []
    *pools, convolution, norm = block.shortcut.children()
    return [*(_pool(pool) for pool in pools), folded(convolution, norm)]  # type: ignore[arg-type]


def _pool(pool: nn.Module) -> nn.Module:
    """An average pooling; of one with ceil_mode `build_twin` has made sure that it never meets an odd size."""
    assert isinstance(pool, nn.AvgPool2d)
    made: nn.Module = _standing_for(pool, averaging(pool.kernel_size))
    return made


def _joined(block: Block, long: list[nn.Module], short: list[nn.Module]) -> Join:
    return Join(nn.Sequential(*long), nn.Sequential(*short) if short else None)


def _block(block: Block) -> list[nn.Module]:
    """Activation after the addition."""
    long = [folded(block.conv1, block.norm1), spiking(block.act1), folded(block.conv2, block.norm2)]
    return [_joined(block, long, _short(block)), spiking(block.act2)]


def _spike_add_block(block: SpikeAddBlock) -> list[nn.Module]:
    """Activation before the addition, on the shortcut too."""
    long = [
        folded(block.conv1, block.norm1),
        spiking(block.act1),
        folded(block.conv2, block.norm2),
        spiking(block.act2),
    ]
    short = _short(block)
    return [
        _joined(
            block, long, [*short, spiking(block.shortcut_act)] if block.shortcut_act is not None else short
        )
    ]


def _membrane_block(block: MembraneBlock) -> list[nn.Module]:
    """Activation before each convolution."""
    long = [
        spiking(block.act1),
        folded(block.conv1, block.norm1),
        spiking(block.act2),
        folded(block.conv2, block.norm2),
    ]
    return [_joined(block, long, _short(block))]


BLOCKS: dict[type[nn.Module], Callable[..., list[nn.Module]]] = {
    Block: _block,
    SpikeAddBlock: _spike_add_block,
    MembraneBlock: _membrane_block,
}


def _resnet(body: ResNet) -> tuple[list[nn.Module], list[nn.Module]]:
    """The residual families: what comes before the mean over positions, and what after."""
    trunk = [folded(body.conv, body.norm)]
    if body.act is not None:
        trunk.append(spiking(body.act))
    for layer in body.deeper:
        trunk += [folded(layer.conv, layer.norm), spiking(layer.act)]  # type: ignore[arg-type]
    if body.pool is not None:
        trunk.append(_pool(body.pool))
    for stage in body.stages:
        for block in stage:  # type: ignore[attr-defined]
            trunk += BLOCKS[type(block)](block)
    if body.last_act is not None:
        trunk.append(spiking(body.last_act))
    hidden = (
        []
        if body.hidden is None or body.hidden_act is None
        else [linear(body.hidden), spiking(body.hidden_act)]
    )
    return trunk, [*hidden, linear(body.head)]


def _vgg(body: VGG) -> tuple[list[nn.Module], list[nn.Module]]:
    trunk = [folded(body.conv, body.norm), spiking(body.act)]
    for group in body.groups:
        if group.pool is not None:
            trunk.append(_pool(group.pool))  # type: ignore[arg-type]
        for layer in group.layers:  # type: ignore[union-attr]
            trunk += [folded(layer.conv, layer.norm), spiking(layer.act)]
    return trunk, [linear(body.head)]


FAMILIES: dict[type[nn.Module], Callable[..., tuple[list[nn.Module], list[nn.Module]]]] = {
    ResNet: _resnet,
    VGG: _vgg,
}
"""By the class of the body."""


def build_twin(network: Network) -> nn.Sequential:
    """The folded twin: NORMALISED images `[T, B, C, H, W]` to logits `[T, B, classes]`, with state that has to be reset between calls.

    Raises UsageError for a layer that NIR cannot say at these sizes.
    """
    from spikingjelly.activation_based import functional, layer

    check_exportable(network)
    _check_sizes(network)
    trunk, after = FAMILIES[type(network.body)](network.body)
    with torch.no_grad():
        positions = nn.Sequential(*trunk).eval()(torch.zeros(1, 1, *network.specification.shape)).shape[-2:]
    twin = nn.Sequential(*trunk, averaging(tuple(positions)), layer.Flatten(step_mode="m"), *after)
    functional.reset_net(twin)
    return twin.eval().requires_grad_(False)


def _check_sizes(network: Network) -> None:
    """A pooling that rounds sizes up averages over fewer positions at the border, which NIR cannot say."""
    odd: list[str] = []

    def look(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any) -> None:
            stride = module.stride if isinstance(module.stride, int) else max(module.stride)  # type: ignore[arg-type]
            if any(size % stride for size in inputs[0].shape[-2:]):
                odd.append(name)

        return hook

    pools = [
        (name, m) for name, m in network.body.named_modules() if isinstance(m, nn.AvgPool2d) and m.ceil_mode
    ]
    handles = [module.register_forward_pre_hook(look(name)) for name, module in pools]
    with torch.no_grad():
        network(torch.zeros(network.specification.batch_shape(1)), 1)
    for handle in handles:
        handle.remove()
    if odd:
        raise UsageError(
            f"--format nir: layer body.{odd[0]} averages an odd size and rounds it up (ceil_mode); use {general_formats()}"
        )


class Twin:
    """The folded twin of `network` as an answer: images float 0..1 `[B, C, H, W]`, or event frames, to logits `[T, B, classes]`."""

    def __init__(self, network: Network, T: int) -> None:
        self.module = build_twin(network)
        self.T = T
        self._mean, self._std = network.mean, network.std

    def __call__(self, images: Tensor) -> Tensor:
        """The state is new in every call."""
        from spikingjelly.activation_based import functional

        functional.reset_net(self.module)
        logits: Tensor = self.module(over_time(images, self._mean, self._std, self.T))
        functional.reset_net(self.module)
        return logits


def over_time(images: Tensor, mean: Tensor, std: Tensor, T: int) -> Tensor:
    """What the twin takes, `[T, B, C, H, W]`: normalised images, the same at every timestep, or the first `T` event frames."""
    normal = ((images - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)).contiguous()
    return normal[:T] if normal.ndim == 5 else torch.stack([normal] * T)
