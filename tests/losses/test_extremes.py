"""Finite value and gradient for any finite logits, up to the limit of float32."""

from __future__ import annotations

import pytest
import torch

from snnkd import losses
from snnkd.losses.divergences import log_probabilities


@pytest.mark.parametrize(
    "name", ["kl", "rkl", "jeffreys", "hta_kl", "abkd", "akl", "ce", "dist", "js", "mix", "todi"]
)
@pytest.mark.parametrize("size", [1e4, 1e30, 1e37, 3e38])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_largest_logits(name: str, size: float, temperature: float) -> None:
    student = torch.tensor([[size, -size, 0.0], [-size, size, size]], requires_grad=True)
    teacher = torch.tensor([[-size, size, 0.0], [size, 0.0, -size]])
    value = getattr(losses, name)(student, teacher, temperature=temperature)
    value.backward()
    assert torch.isfinite(value)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_ordinary_logits_are_not_touched() -> None:
    logits = torch.randn(64, 100, generator=torch.Generator().manual_seed(0)) * 10
    assert torch.equal(log_probabilities(logits, 3.0), torch.log_softmax(logits / 3.0, -1))
