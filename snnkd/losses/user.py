"""User-defined divergences: loaded, and checked on random logits before training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from snnkd.errors import UsageError
from snnkd.usercode import load_function

Divergence = Callable[..., tuple[Tensor, dict[str, Tensor]]]
CALL = "function(student [B, C], teacher [B, C], *, temperature, labels [B])"


def load_divergence(name: str, options: Mapping[str, Any], classes: int) -> Divergence:
    """Load the function `name` as a divergence with statistics.

    It may return a scalar, or a scalar and a mapping of scalars to log. Raises UsageError naming the violated
    rule.
    """
    function, short = load_function(name), name.partition(":")[2]
    if isinstance(function, torch.nn.Module) and any(True for _ in function.parameters()):
        raise UsageError(f"{name}: has parameters, which are not trained; write a function without any")

    def divergence(
        student: Tensor, teacher: Tensor, *, temperature: float, labels: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        result = function(student, teacher.detach(), temperature=temperature, labels=labels, **options)
        value, stats = result if isinstance(result, tuple) and len(result) == 2 else (result, {})
        return value, {f"{short}.{key}": torch.as_tensor(stat).detach() for key, stat in stats.items()}

    _check(name, divergence, options, classes)
    return divergence


def _check(name: str, divergence: Divergence, options: Mapping[str, Any], classes: int) -> None:
    """Raise UsageError for a function that breaks the interface on a batch of four or of one."""
    generator = torch.Generator().manual_seed(0)
    for samples in (4, 1):
        student, teacher = (3 * torch.randn(samples, classes, generator=generator) for _ in range(2))
        labels = torch.randint(classes, (samples,), generator=generator)
        before = student.clone(), teacher.clone(), labels.clone()
        student.requires_grad_()
        try:
            value, stats = divergence(student, teacher, temperature=2.0, labels=labels)
        except Exception as error:
            call = f"{CALL[:-1]}{''.join(f', {key}' for key in options)})"
            raise UsageError(f"{name}: called as {call}, raised {type(error).__name__}: {error}") from error
        _check_value(name, value, student)
        for key, stat in stats.items():
            if stat.ndim or not torch.isfinite(stat):
                raise UsageError(f"{name}: {key} to log has shape {list(stat.shape)}; return finite scalars")
        after = (student, teacher, labels)
        if not all(torch.equal(x.detach(), y) for x, y in zip(after, before, strict=True)):
            raise UsageError(f"{name}: changes its arguments in place; copy them first")


def _check_value(name: str, value: Any, student: Tensor) -> None:
    if not isinstance(value, Tensor):
        raise UsageError(f"{name}: returned {type(value).__name__}; it must return a scalar tensor")
    if value.ndim:
        raise UsageError(
            f"{name}: returned shape {list(value.shape)}, not a scalar; take the mean over the batch"
        )
    if not torch.isfinite(value):
        raise UsageError(f"{name}: returned {float(value.detach())} for ordinary logits; it must be finite")
    if not value.requires_grad:
        raise UsageError(
            f"{name}: has no gradient; compute it from the student's logits with torch, without detach"
        )
    (gradient,) = torch.autograd.grad(value, student, allow_unused=True)
    if gradient is None:
        raise UsageError(f"{name}: no gradient reaches the student's logits")
    if not torch.isfinite(gradient).all():
        raise UsageError(f"{name}: its gradient is not finite for ordinary logits")
