"""User-defined networks: built by the user's function and checked before training."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from snnkd.errors import UsageError
from snnkd.models.activation import Activation, ReLU, SpikingLayer
from snnkd.models.plain import PlainNetwork, is_plain
from snnkd.schema.model import UserModel
from snnkd.usercode import load_function


def build(
    config: UserModel,
    activation: Activation,
    last: Activation,
    classes: int,
    shape: tuple[int, int, int],
    frames: int | None = None,
) -> nn.Module:
    """Build the user's module `forward(images [B, C, H, W], T) -> logits [T, B, classes]`.

    An ANN may also be `forward(images) -> logits [B, classes]`.

    With `frames` it is a spiking network on event data, whose input is `[T, B, C, H, W]`, one frame per
    timestep.

    The function is called as `build(classes=..., shape=(C, H, W), activation=..., **options)`, for an ANN
    without those of the three that it does not take; `activation()` returns the recipe's activation,
    `forward(x [T*B, ...], T) -> [T*B, ...]`. Raises UsageError naming the violated rule.
    """
    name = config.name
    if last is not activation:
        raise UsageError(f"neuron.last: {name} places its activations itself; leave the key at 'spike'")
    function = load_function(name)
    arguments = _arguments(function, {"classes": classes, "shape": shape, "activation": activation})
    arguments |= config.options
    with torch.random.fork_rng(devices=[]):
        trial = _call(function, name, arguments)
        if not any(p.is_meta for p in trial.parameters()):
            _check_network(name, trial, classes, shape, frames is not None)
    return _call(function, name, arguments)


def _arguments(function: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """`arguments` without those that the function of an ANN does not take."""
    parameters = inspect.signature(function).parameters.values()
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    if arguments["activation"] is not ReLU or takes_all:
        return arguments
    names = {parameter.name for parameter in parameters}
    return {name: value for name, value in arguments.items() if name in names}


def _call(function: Any, name: str, arguments: dict[str, Any]) -> nn.Module:
    signature = f"{name.partition(':')[2]}({', '.join(arguments)})"
    try:
        body = function(**arguments)
    except Exception as error:
        raise UsageError(f"{name}: called as {signature}, raised {type(error).__name__}: {error}") from error
    if not isinstance(body, nn.Module):
        raise UsageError(f"{name}: returned {type(body).__name__}; it must return a torch.nn.Module")
    if not is_plain(body):
        return body
    if arguments.get("activation", ReLU) is not ReLU:
        raise UsageError(f"{name}: forward(images) is a teacher's; a student's is forward(images, T)")
    return PlainNetwork(body, name)


def _check_network(
    name: str, body: nn.Module, classes: int, shape: tuple[int, int, int], events: bool
) -> None:
    plain = isinstance(body, PlainNetwork)
    count, generator = 3, torch.Generator().manual_seed(0)
    # neurons with per-timestep parameters run no more timesteps than they were built for
    limit = min(
        (
            layer.max_timesteps
            for layer in body.modules()
            if isinstance(layer, SpikingLayer) and layer.max_timesteps is not None
        ),
        default=1 if plain else 2,
    )
    for T in (1, 2)[:limit]:
        images = (
            torch.rand(T, count, *shape, generator=generator)
            if events
            else torch.rand(count, *shape, generator=generator)
        )
        with _record_timesteps(body) as timesteps:
            logits = _forward(name, body, images, T)
        wrong = [t for t in timesteps if t != T]
        if wrong:
            raise UsageError(
                f"{name}: forward(images, T={T}) calls an activation with T={wrong[0]}; "
                "pass all timesteps at once, [T*B, ...]"
            )
        expected = [T, count, classes]
        if not isinstance(logits, Tensor) or list(logits.shape) != expected:
            actual = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            if plain:
                raise UsageError(f"{name}: forward(images) returned {actual[1:]}, not {expected[1:]}")
            raise UsageError(
                f"{name}: forward(images, T={T}) returned {actual}, not [T, B, classes] = {expected}"
            )
        if not logits.is_floating_point() or not torch.isfinite(logits).all():
            raise UsageError(f"{name}: forward returned {logits.dtype} logits with non-finite values")
    if not plain:  # a frozen teacher may have a second head
        _check_gradients(name, body, logits)
    body.eval()
    with torch.no_grad():
        first, again = _forward(name, body, images, T), _forward(name, body, images, T)
        single = torch.cat([_forward(name, body, image, T) for image in images.split(1, -4)], 1)
    if not torch.equal(first, again):
        raise UsageError(f"{name}: two calls with the same images differ; keep no state between batches")
    if not torch.allclose(first, single, rtol=1e-3, atol=1e-4):
        raise UsageError(
            f"{name}: in eval mode an image's logits depend on the others in its batch; "
            "compute each image independently"
        )


@contextmanager
def _record_timesteps(body: nn.Module) -> Iterator[list[int]]:
    """Record the `T` of every activation call inside `body`."""
    timesteps: list[int] = []
    handles = [
        module.register_forward_pre_hook(
            lambda _, inputs: timesteps.append(inputs[1]) if len(inputs) > 1 else None
        )
        for module in body.modules()
        if isinstance(module, (SpikingLayer, ReLU))
    ]
    yield timesteps
    for handle in handles:
        handle.remove()


def _check_gradients(name: str, body: nn.Module, logits: Tensor) -> None:
    parameters = [(key, p) for key, p in body.named_parameters() if p.requires_grad]
    if not parameters or not logits.requires_grad:
        raise UsageError(f"{name}: logits have no gradient; the network needs trainable parameters")
    gradients = torch.autograd.grad(logits.square().sum(), [p for _, p in parameters], allow_unused=True)
    unused = [key for (key, _), gradient in zip(parameters, gradients, strict=True) if gradient is None]
    if unused:
        raise UsageError(
            f"{name}: no gradient reaches {', '.join(unused[:3])}; use every parameter in forward"
        )


def _forward(name: str, body: nn.Module, images: Tensor, T: int) -> Any:
    try:
        return body(images, T)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(
            f"{name}: forward(images {list(images.shape)}, {T}) raised {type(error).__name__}: {error}"
        ) from error
