"""Dynamic inference: an image stops at the first timestep that is confident enough."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnkd.measure.dynamic import dynamic_inference


def logits(*rows: list[float]) -> torch.Tensor:
    """Of one image with two classes: the log-odds of class 0 at each timestep, `[T, 1, 2]`."""
    return torch.tensor([[[odds, 0.0]] for (odds,) in rows])


def test_an_image_stops_when_the_mean_until_then_is_sure() -> None:
    # means until t: 0, 1.5, 3; largest probabilities .5, .818, .953
    one = logits([0.0], [3.0], [6.0])
    found = dynamic_inference(one, torch.tensor([0]), (0.5, 0.8, 0.95, 0.99))
    assert [row["timesteps"] for row in found] == [1, 2, 3, 3]
    assert [row["top1"] for row in found] == [100, 100, 100, 100]


def test_the_answer_is_that_of_the_moment_it_stopped() -> None:
    changing = logits([4.0], [-20.0])  # sure of class 0 at once; class 1 after two steps
    (early,) = dynamic_inference(changing, torch.tensor([1]), (0.9,))
    (late,) = dynamic_inference(changing, torch.tensor([1]), (0.9999,))
    assert (early["timesteps"], early["top1"]) == (1, 0)
    assert (late["timesteps"], late["top1"]) == (2, 100)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 12), st.integers(2, 7), st.integers(0, 1000))
def test_against_one_image_at_a_time(T: int, N: int, C: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    z, labels = 3 * torch.randn(T, N, C, generator=generator), torch.randint(C, (N,), generator=generator)
    for row in dynamic_inference(z, labels):
        used, right = 0, 0
        for n in range(N):
            for t in range(1, T + 1):
                q = z[:t, n].mean(0).softmax(-1)
                if q.max() >= row["threshold"] or t == T:
                    used, right = used + t, right + int(q.argmax() == labels[n])
                    break
        assert row["timesteps"] == pytest.approx(used / N)
        assert row["top1"] == pytest.approx(100 * right / N)


def test_more_confidence_takes_more_timesteps() -> None:
    generator = torch.Generator().manual_seed(0)
    z, labels = torch.randn(5, 200, 10, generator=generator), torch.zeros(200, dtype=torch.long)
    used = [row["timesteps"] for row in dynamic_inference(4 * z, labels)]
    assert used == sorted(used)
    assert used[0] < used[-1]
