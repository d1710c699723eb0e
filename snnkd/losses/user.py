"""A loss function of the user's own: found, and tried before anything is trained with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from snnkd.errors import UsageError
from snnkd.usercode import load_function

Measured = Callable[..., tuple[Tensor, dict[str, Tensor]]]
CALL = "function(student [B, C], teacher [B, C], *, temperature, labels [B])"


def measured(name: str, options: Mapping[str, Any], classes: int) -> Measured:
    """The function `name` as a divergence that also gives named scalars to watch.

    It may return a scalar, or a scalar and a mapping of scalars to log. Raises UsageError that names what is wrong
    with it.
    """
    function, short = load_function(name), name.partition(":")[2]
    if isinstance(function, torch.nn.Module) and any(True for _ in function.parameters()):
        raise UsageError(
            f"{name}: has parameters, which nothing would train; a loss of your own is a function without any"
        )

    def evaluate(
        student: Tensor, teacher: Tensor, *, temperature: float, labels: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        found = function(student, teacher.detach(), temperature=temperature, labels=labels, **options)
        value, watched = found if isinstance(found, tuple) and len(found) == 2 else (found, {})
        return value, {f"{short}.{key}": torch.as_tensor(seen).detach() for key, seen in watched.items()}

    _conform(name, evaluate, options, classes)
    return evaluate


def _conform(name: str, evaluate: Measured, options: Mapping[str, Any], classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    for samples in (4, 1):
        student, teacher = (3 * torch.randn(samples, classes, generator=generator) for _ in range(2))
        labels = torch.randint(classes, (samples,), generator=generator)
        before = student.clone(), teacher.clone(), labels.clone()
        student.requires_grad_()
        try:
            value, watched = evaluate(student, teacher, temperature=2.0, labels=labels)
        except Exception as error:
            asked = f"{CALL[:-1]}{''.join(f', {key}' for key in options)})"
            raise UsageError(
                f"{name}: called as {asked} it raised {type(error).__name__}: {error}"
            ) from error
        _conform_value(name, value, student)
        for key, seen in watched.items():
            if seen.ndim or not torch.isfinite(seen):
                raise UsageError(
                    f"{name}: asks to log {key} of shape {list(seen.shape)}; what is logged is a finite scalar"
                )
        if not all(
            torch.equal(x.detach(), y) for x, y in zip((student, teacher, labels), before, strict=True)
        ):
            raise UsageError(f"{name}: changes its arguments in place; it must leave them as they are")


def _conform_value(name: str, value: Any, student: Tensor) -> None:
    if not isinstance(value, Tensor):
        raise UsageError(f"{name}: returned {type(value).__name__}; a loss is a scalar tensor")
    if value.ndim:
        raise UsageError(
            f"{name}: returned shape {list(value.shape)}; a loss is a scalar: take the mean over the batch"
        )
    if not torch.isfinite(value):
        raise UsageError(f"{name}: returned {float(value.detach())} for ordinary logits; a loss is finite")
    if not value.requires_grad:
        raise UsageError(
            f"{name}: its value has no gradient; compute it from the student's logits with torch, without detach"
        )
    (gradient,) = torch.autograd.grad(value, student, allow_unused=True)
    if gradient is None:
        raise UsageError(f"{name}: no gradient reaches the student's logits")
    if not torch.isfinite(gradient).all():
        raise UsageError(f"{name}: its gradient is not finite for ordinary logits")
