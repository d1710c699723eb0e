"""Gradient descent on each term of a published method alone, its own timesteps as teacher included, lowers it
by 90 %."""

from __future__ import annotations

import pytest
import torch

from snnkd.losses.objective import make_objective
from snnkd.losses.outputs import BatchOutputs
from snnkd.losses.targets import correct_sum
from snnkd.recipe.loss_section import build_loss, preset_section

T, B, C = 3, 8, 5
TERMS = [
    pytest.param(term, id=f"{name}-{i}")
    for name in ("tser", "twsnn", "tks", "w2s", "s2w", "seal")
    for i, term in enumerate(preset_section(name)["loss"]["terms"])
    if "divergence" in term
]


def excess(
    term: dict[str, object], student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """The term at weight 1, above the least value that its (detached) teacher allows."""
    alone = {"weight": 1.0, "weight_end": 1.0}
    loss = build_loss({"hard": {"weight": 0.0}, "terms": [{**term, **alone}]})
    outputs = BatchOutputs(student=student, teacher=teacher, labels=labels)
    value = make_objective(loss)(outputs).total
    if term["divergence"] != "ce":
        return value
    taught = (correct_sum(outputs, 3.0).detach() / 3).log_softmax(-1)
    return value + 9 * (taught.exp() * taught).sum(-1).mean()


@pytest.mark.parametrize("term", TERMS)
def test_descent_lowers_it_by_nine_tenths(term: dict[str, object]) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(T, B, C, generator=generator), 2 * torch.randn(B, C, generator=generator)
    labels = teacher.argmax(-1)
    student = (
        student + torch.nn.functional.one_hot(labels, C)
    ).requires_grad_()  # most timesteps are right, as in training
    optimizer = torch.optim.Adam([student], lr=0.05)
    first = excess(term, student, teacher, labels).item()
    assert first > 0.01
    for _ in range(300):
        optimizer.zero_grad()
        excess(term, student, teacher, labels).backward()
        optimizer.step()
    assert excess(term, student, teacher, labels).item() < 0.1 * first
