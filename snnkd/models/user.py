"""A network of the user's own: built, and tried before anything is trained with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from snnkd.errors import UsageError
from snnkd.models.activation import Activation, ReLU, SpikingLayer
from snnkd.schema.model import UserModel
from snnkd.usercode import load_function

BUILD = "build(*, classes, shape, activation)"


def build(
    config: UserModel,
    activation: Activation,
    last: Activation,
    classes: int,
    shape: tuple[int, int, int],
    frames: int | None = None,
) -> nn.Module:
    """The module that the user's function makes: `forward(images [B, C, H, W], T) -> logits [T, B, classes]`.

    With `frames` it is a spiking network on event data, and its images are frames `[T, B, C, H, W]`, one a timestep.

    The function is called as `build(classes=..., shape=(C, H, W), activation=..., **options)`; `activation()` makes the
    recipe's activation, `forward(x [T*B, ...], T) -> [T*B, ...]`. Raises UsageError that names what is wrong.
    """
    name = config.name
    if last is not activation:
        raise UsageError(
            f"neuron.last: {name} decides itself where its activations stand; leave the key at 'spike'"
        )
    function = load_function(name)
    with torch.random.fork_rng(devices=[]):
        trial = _call(function, name, config.options, activation, classes, shape)
        if not any(p.is_meta for p in trial.parameters()):
            _conform(name, trial, classes, shape, frames is not None)
    return _call(function, name, config.options, activation, classes, shape)


def _call(
    function: Any,
    name: str,
    options: dict[str, Any],
    activation: Activation,
    classes: int,
    shape: tuple[int, int, int],
) -> nn.Module:
    asked = f"{BUILD[:-1]}{''.join(f', {key}' for key in options)})"
    try:
        body = function(classes=classes, shape=shape, activation=activation, **options)
    except Exception as error:
        raise UsageError(f"{name}: called as {asked} it raised {type(error).__name__}: {error}") from error
    if not isinstance(body, nn.Module):
        raise UsageError(f"{name}: returned {type(body).__name__}; it must return a torch.nn.Module")
    return body


def _conform(name: str, body: nn.Module, classes: int, shape: tuple[int, int, int], events: bool) -> None:
    count, generator = 3, torch.Generator().manual_seed(0)
    # neurons that learn numbers for each timestep run for no more than they were made for
    most = min(
        (
            layer.max_timesteps
            for layer in body.modules()
            if isinstance(layer, SpikingLayer) and layer.max_timesteps is not None
        ),
        default=2,
    )
    for T in (1, 2)[:most]:
        images = (
            torch.rand(T, count, *shape, generator=generator)
            if events
            else torch.rand(count, *shape, generator=generator)
        )
        with _told(body) as told:
            logits = _answer(name, body, images, T)
        if any(number != T for number in told):
            raise UsageError(
                f"{name}: forward(images, T={T}) gives an activation T={told[0]}; it takes all timesteps at once, [T*B, ...]"
            )
        wanted = [T, count, classes]
        if not isinstance(logits, Tensor) or list(logits.shape) != wanted:
            found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise UsageError(
                f"{name}: forward(images, T={T}) gave {found}; a network gives [T, B, classes] = {wanted}"
            )
        if not logits.is_floating_point() or not torch.isfinite(logits).all():
            raise UsageError(f"{name}: forward gave logits of {logits.dtype} that are not all finite numbers")
    _conform_training(name, body, logits)
    body.eval()
    with torch.no_grad():
        first, again = _answer(name, body, images, T), _answer(name, body, images, T)
        alone = torch.cat([_answer(name, body, image, T) for image in images.split(1, -4)], 1)
    if not torch.equal(first, again):
        raise UsageError(
            f"{name}: two calls with the same images differ; nothing may be left over from one batch to the next"
        )
    if not torch.allclose(first, alone, rtol=1e-3, atol=1e-4):
        raise UsageError(
            f"{name}: in eval mode the answer for an image depends on the others in its batch; use forward(x [T*B, ...])"
        )


@contextmanager
def _told(body: nn.Module) -> Iterator[list[int]]:
    """The T that the activations inside are called with."""
    seen: list[int] = []
    handles = [
        module.register_forward_pre_hook(
            lambda _, inputs: seen.append(inputs[1]) if len(inputs) > 1 else None
        )
        for module in body.modules()
        if isinstance(module, (SpikingLayer, ReLU))
    ]
    yield seen
    for handle in handles:
        handle.remove()


def _conform_training(name: str, body: nn.Module, logits: Tensor) -> None:
    trained = [(key, p) for key, p in body.named_parameters() if p.requires_grad]
    if not trained or not logits.requires_grad:
        raise UsageError(f"{name}: its logits have no gradient; it needs parameters to train")
    gradients = torch.autograd.grad(logits.square().sum(), [p for _, p in trained], allow_unused=True)
    unused = [key for (key, _), gradient in zip(trained, gradients, strict=True) if gradient is None]
    if unused:
        raise UsageError(
            f"{name}: no gradient reaches {', '.join(unused[:3])}; every parameter must take part in forward"
        )


def _answer(name: str, body: nn.Module, images: Tensor, T: int) -> Any:
    try:
        return body(images, T)
    except Exception as error:
        raise UsageError(
            f"{name}: forward(images {list(images.shape)}, {T}) raised {type(error).__name__}: {error}"
        ) from error
