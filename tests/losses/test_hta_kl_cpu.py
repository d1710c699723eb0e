"""On a CPU HTA-KL is computed in numpy, by blocks and from sorted values alone: it is what any other device computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from snnkd.losses import hta_kl, hta_kl_cpu
from snnkd.losses.hta_kl import evaluate, measured_hta_kl, split

HEADS = ("top1", "strict", "cover")
every_head = pytest.mark.parametrize("head", HEADS)


def pair(samples: int, classes: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(samples + classes)
    both = torch.randn(2, samples, classes, generator=generator, dtype=torch.float64).mul(3).to(dtype)
    return both[0], both[1]


def agree(student: Tensor, teacher: Tensor, temperature: float, delta: float, head: str, **near: float) -> None:
    ours, plain = (way(student, teacher, temperature, delta, head) for way in (hta_kl_cpu.evaluate, evaluate))  # type: ignore[arg-type]
    assert len(ours) == len(plain) == 5
    for found, wanted in zip(ours, plain, strict=True):
        torch.testing.assert_close(found, wanted, **near)


@every_head
@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("delta", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(1, 2), (7, 10), (40, 1000)])
def test_both_ways_agree(shape: tuple[int, int], delta: float, temperature: float, head: str) -> None:
    agree(*pair(*shape), temperature, delta, head, rtol=1e-10, atol=1e-13)


@every_head
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_both_ways_agree_in_lower_precision(dtype: torch.dtype, head: str) -> None:
    agree(*pair(20, 30, dtype), 2.0, 0.5, head, rtol=1e-4, atol=1e-7)


@every_head
@pytest.mark.parametrize("delta", [0.2, 0.5, 0.7])
def test_ties_are_parted_alike(head: str, delta: float) -> None:
    """Logits of few values, so that most heads end among equal probabilities; some samples have no tie, some nothing else."""
    student, teacher = pair(64, 12)
    teacher = teacher.div(2).round()
    teacher[0], teacher[1] = 0.0, torch.arange(12)
    parted = []
    honest = hta_kl_cpu._part_ties
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hta_kl_cpu, "_part_ties", lambda *given: parted.append(1) or honest(*given))
        agree(student, teacher, 1.0, delta, head, rtol=1e-10, atol=1e-13)
    assert parted


@every_head
def test_blocks_change_nothing(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher = pair(23, 10)
    whole = hta_kl_cpu.evaluate(student, teacher, 2.0, 0.5, head)
    monkeypatch.setattr(hta_kl_cpu, "BLOCK", 40)
    for found, wanted in zip(hta_kl_cpu.evaluate(student, teacher, 2.0, 0.5, head), whole, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-15)


@every_head
def test_what_is_watched_is_of_the_split(head: str) -> None:
    student, teacher = pair(200, 5)
    _, watched = measured_hta_kl(student, teacher, temperature=2.0, delta=0.9, head=head)  # type: ignore[arg-type]
    parts = split((teacher / 2).softmax(-1), (student / 2).softmax(-1), 0.9, head)  # type: ignore[arg-type]
    assert watched["w_head"].item() == pytest.approx(parts.weight.mean().item())
    assert watched["head_empty"].item() == pytest.approx((parts.size == 0).double().mean().item(), abs=1e-7)
    assert watched["head_single"].item() == pytest.approx((parts.size == 1).double().mean().item(), abs=1e-7)
    assert 0 < watched["head_single"] < 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("whose", ["student", "teacher"])
def test_numbers_that_are_none_pass_without_a_warning(whose: str, bad: float) -> None:
    """Warnings are errors here. nan goes through to the loss, where training notices it; inf counts as the largest logit."""
    both = dict(zip(("student", "teacher"), pair(4, 6, torch.float32), strict=True))
    both[whose][1, 2] = bad
    value = hta_kl(both["student"].requires_grad_(), both["teacher"])
    value.backward()
    assert bool(value.isfinite()) == (not np.isnan(bad))
