"""The divergences: worked examples, invariances, extreme logits, precision, gradients."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from snnkd.errors import UsageError
from snnkd.losses import hta_kl, jeffreys, kl, rkl
from snnkd.losses.hta_kl import head_mask, hta_kl_with_stats, split

HEADS = ("top1", "strict", "cover")
PLAIN = {"kl": kl, "rkl": rkl, "jeffreys": jeffreys}
EVERY = PLAIN | {
    f"hta-kl {head}": lambda s, t, head=head, **options: hta_kl(s, t, head=head, **options) for head in HEADS
}
quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)
every = pytest.mark.parametrize("divergence", EVERY.values(), ids=EVERY.keys())

# the table of guide/losses.md: p, q, head rules, FKL, RKL, w_head, loss
VECTORS = [
    ((0.6, 0.3, 0.1), (0.4, 0.4, 0.2), ("strict",), 0.087660, 0.091516, 0.0, 0.091516),
    ((0.6, 0.3, 0.1), (0.4, 0.4, 0.2), ("top1", "cover"), 0.087660, 0.091516, 0.5, 0.089588),
    ((0.4, 0.3, 0.2, 0.1), (0.25,) * 4, ("strict", "top1"), 0.106440, 0.121777, 0.375, 0.116026),
    ((0.4, 0.3, 0.2, 0.1), (0.25,) * 4, ("cover",), 0.106440, 0.121777, 0.5, 0.114109),
    ((0.05, 0.2, 0.25, 0.3, 0.2), (0.2,) * 5, ("strict", "top1"), 0.108111, 0.151537, 1 / 3, 0.137062),
]
CASES = [(p, q, head, *numbers) for p, q, heads, *numbers in VECTORS for head in heads]


def log(p):
    return torch.tensor([p], dtype=torch.float64).log()


def random_pair(samples, classes, dtype=torch.float64, seed=0, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    both = scale * torch.randn(2, samples, classes, generator=generator, dtype=torch.float64)
    return both[0].to(dtype), both[1].to(dtype)


def soft(row, temperature):
    z = row / temperature
    e = np.exp(z - z.max())
    return e / e.sum()


def reference(student, teacher, temperature, delta, head):
    """The formula of guide/losses.md, one sample and one class at a time in float64: (hta-kl, kl, rkl)."""
    losses, forwards, reverses = [], [], []
    for s, t in zip(student, teacher, strict=True):
        p, q = soft(t, temperature), soft(s, temperature)
        cumulative = near = far = 0.0
        for place, c in enumerate(sorted(range(len(p)), key=lambda c: (-p[c], c))):
            cumulative += p[c]
            member = {
                "top1": cumulative <= delta or place == 0,
                "strict": cumulative < delta,
                "cover": cumulative - p[c] < delta,
            }[head]
            near, far = (near + abs(p[c] - q[c]), far) if member else (near, far + abs(p[c] - q[c]))
        forward = sum(p[c] * math.log(p[c] / q[c]) for c in range(len(p)))
        reverse = sum(q[c] * math.log(q[c] / p[c]) for c in range(len(p)))
        weight = near / (near + far)
        losses.append(weight * forward + (1 - weight) * reverse)
        forwards.append(forward)
        reverses.append(reverse)
    return tuple(temperature**2 * float(np.mean(values)) for values in (losses, forwards, reverses))


@pytest.mark.parametrize(("p", "q", "head", "forward", "reverse", "w_head", "loss"), CASES)
def test_vectors_of_the_design(p, q, head, forward, reverse, w_head, loss):
    student, teacher = log(q), log(p)
    found, watched = hta_kl_with_stats(student, teacher, delta=0.5, head=head)
    assert found.item() == pytest.approx(loss, abs=1e-6)
    assert hta_kl(student, teacher, head=head).item() == found.item()
    assert watched["w_head"].item() == pytest.approx(w_head, abs=1e-6)
    assert kl(student, teacher).item() == pytest.approx(forward, abs=1e-6)
    assert rkl(student, teacher).item() == pytest.approx(reverse, abs=1e-6)


@pytest.mark.parametrize("temperature", [1, 2.5, 4])
@pytest.mark.parametrize("classes", [2, 10, 100, 1000])
@pytest.mark.parametrize("head", HEADS)
def test_against_a_plain_loop(head, classes, temperature):
    student, teacher = random_pair(3, classes, seed=classes)
    for delta in (0.3, 0.5, 0.9):
        loss, forward, reverse = reference(student.numpy(), teacher.numpy(), temperature, delta, head)
        assert hta_kl(
            student, teacher, temperature=temperature, delta=delta, head=head
        ).item() == pytest.approx(loss, rel=1e-9)
    assert kl(student, teacher, temperature=temperature).item() == pytest.approx(forward, rel=1e-9)
    assert rkl(student, teacher, temperature=temperature).item() == pytest.approx(reverse, rel=1e-9)


def test_defaults_are_top1_and_a_half():
    student, teacher = random_pair(8, 10)
    assert torch.equal(
        hta_kl(student, teacher), hta_kl(student, teacher, head="top1", delta=0.5, temperature=1.0)
    )


# teacher logits in tenths, all different, with a student's of the same length
pairs = st.lists(st.integers(-60, 60), min_size=2, max_size=8, unique=True).flatmap(
    lambda t: st.tuples(st.just(t), st.lists(st.integers(-60, 60), min_size=len(t), max_size=len(t)))
)
deltas = st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.95])


def tenths(logits):
    return torch.tensor([logits], dtype=torch.float64) / 10


def clear_of(delta, teacher):
    """No cumulative probability within rounding of delta."""
    total = teacher.softmax(-1).sort(descending=True).values.cumsum(-1)
    return bool((total - delta).abs().min() > 1e-9)


@quick
@given(pairs, deltas)
def test_top1_is_strict_where_the_strict_head_is_not_empty(pair, delta):
    teacher, student = map(tenths, pair)
    assume(clear_of(delta, teacher) and teacher.softmax(-1).max() < delta)
    assert torch.equal(
        hta_kl(student, teacher, delta=delta, head="top1"),
        hta_kl(student, teacher, delta=delta, head="strict"),
    )


def test_top1_and_strict_differ_where_the_sum_is_delta():
    p = torch.full((1, 4), 0.25)
    assert head_mask(p, 0.5, "top1").tolist() == [[True, True, False, False]]
    assert head_mask(p, 0.5, "strict").tolist() == [[True, False, False, False]]


@quick
@given(pairs, deltas)
def test_an_empty_head_is_pure_reverse_kl(pair, delta):
    teacher, student = map(tenths, pair)
    assume(teacher.softmax(-1).max() >= delta)
    loss, watched = hta_kl_with_stats(student, teacher, delta=delta, head="strict")
    assert watched["head_empty"] == 1
    assert watched["w_head"] == 0
    assert loss.item() == pytest.approx(rkl(student, teacher).item(), rel=1e-12, abs=1e-15)


def test_a_head_of_all_classes_is_pure_forward_kl():
    student, teacher = random_pair(5, 6)
    loss, watched = hta_kl_with_stats(student, teacher, delta=1.0, head="cover")
    assert watched["w_head"] == 1
    assert loss.item() == pytest.approx(kl(student, teacher).item(), rel=1e-12)


@quick
@given(pairs, deltas, st.sampled_from(HEADS), st.randoms(use_true_random=False))
def test_permuting_classes_changes_nothing(pair, delta, head, random):
    teacher, student = map(tenths, pair)
    assume(clear_of(delta, teacher))
    order = list(range(teacher.shape[1]))
    random.shuffle(order)
    permuted = hta_kl(student[:, order], teacher[:, order], delta=delta, head=head)
    assert permuted.item() == pytest.approx(
        hta_kl(student, teacher, delta=delta, head=head).item(), rel=1e-9, abs=1e-12
    )


@quick
@given(pairs, deltas, st.sampled_from(HEADS), st.floats(-50, 50), st.floats(-50, 50))
def test_shifting_logits_changes_nothing(pair, delta, head, of_student, of_teacher):
    teacher, student = map(tenths, pair)
    assume(clear_of(delta, teacher))
    shifted = hta_kl(student + of_student, teacher + of_teacher, delta=delta, head=head)
    assert shifted.item() == pytest.approx(
        hta_kl(student, teacher, delta=delta, head=head).item(), rel=1e-9, abs=1e-12
    )


def test_ties_are_broken_by_class_order():
    """Of two classes with the same p the first is the head: its distance alone gives the weight."""
    p = torch.tensor([[0.2, 0.4, 0.4]], dtype=torch.float64)
    q = torch.tensor([[0.3, 0.1, 0.6]], dtype=torch.float64)
    found = split(p, q, delta=0.5, head="top1")
    assert found.size.item() == 1
    assert found.weight.item() == pytest.approx(0.3 / 0.6)


def test_every_class_tied():
    p, q = (
        torch.full((1, 1000), 1e-3, dtype=torch.float64),
        torch.linspace(1, 2, 1000, dtype=torch.float64)[None],
    )
    q = q / q.sum()
    first = (p - q).abs()[0, : int(split(p, q, 0.5, "top1").size)].sum()
    assert split(p, q, 0.5, "top1").weight.item() == pytest.approx((first / (p - q).abs().sum()).item())


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_student_that_is_the_teacher(divergence, dtype):
    student, teacher = random_pair(6, 20, dtype)
    student = teacher.clone().requires_grad_()
    loss = divergence(student, teacher, temperature=3.0)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert torch.allclose(student.grad, torch.zeros_like(student), atol=1e-6)


@every
def test_a_one_hot_teacher(divergence):
    student, _ = random_pair(3, 5, torch.float32)
    student.requires_grad_()
    teacher = torch.zeros(3, 5)
    teacher[:, 1] = 1e4
    loss = divergence(student, teacher)
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()
    assert loss > 0


@every
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_logits_of_ten_thousand(divergence, temperature, dtype):
    big = torch.tensor([1e4, -1e4, 0.0, 1e4])
    student = torch.stack([big, -big, big.flip(0), torch.zeros(4)]).to(dtype).requires_grad_()
    teacher = torch.stack([-big, big, big, big]).to(dtype)
    loss = divergence(student, teacher, temperature=temperature)
    (loss / 1e5).backward()  # scaled, so that the gradient itself fits into half precision
    assert loss.isfinite()
    assert student.grad.isfinite().all()


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(divergence, dtype):
    student, teacher = random_pair(7, 30, dtype)
    found = divergence(student, teacher, temperature=2.0)
    assert found.dtype == torch.float32
    assert torch.equal(found, divergence(student.float(), teacher.float(), temperature=2.0))


@every
def test_float64_is_kept(divergence):
    student, teacher = random_pair(4, 6)
    assert divergence(student, teacher).dtype == torch.float64
    assert divergence(student, teacher.float()).dtype == torch.float64
    assert divergence(student.float(), teacher).dtype == torch.float64


@pytest.mark.parametrize("divergence", PLAIN.values(), ids=PLAIN.keys())
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_gradcheck(divergence, temperature):
    student, teacher = random_pair(3, 5)
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: divergence(s, teacher, temperature=temperature), student)


@pytest.mark.parametrize("head", HEADS)
def test_the_gradient_is_that_of_frozen_weights(head):
    """The head weight is detached: the gradient is that of w FKL + (1 - w) RKL at constant w, which passes
    gradcheck."""
    student, teacher = random_pair(4, 6)
    student.requires_grad_()
    temperature = 2.0
    p = (teacher / temperature).softmax(-1)
    weight = split(p, (student.detach() / temperature).softmax(-1), 0.5, head).weight
    assert not weight.requires_grad

    def frozen(s):
        q = (s / temperature).softmax(-1)
        forward, reverse = (p * (p.log() - q.log())).sum(-1), (q * (q.log() - p.log())).sum(-1)
        return temperature**2 * (weight * forward + (1 - weight) * reverse).mean()

    assert torch.autograd.gradcheck(frozen, student)
    (expected,) = torch.autograd.grad(frozen(student), student)
    (found,) = torch.autograd.grad(hta_kl(student, teacher, temperature=temperature, head=head), student)
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-14)


@every
@pytest.mark.parametrize("k", [0.5, 2.0, 3.0])
def test_the_factor_is_temperature_squared(divergence, k):
    student, teacher = random_pair(5, 9)
    assert divergence(student, teacher, temperature=k).item() == pytest.approx(
        k**2 * divergence(student / k, teacher / k).item(), rel=1e-12
    )


@every
def test_no_gradient_reaches_the_teacher(divergence):
    student, teacher = random_pair(2, 4)
    student.requires_grad_()
    teacher.requires_grad_()
    divergence(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad is not None


@every
def test_the_batch_mean(divergence):
    """A batch gives the mean of its samples, and inputs stay as they are."""
    student, teacher = random_pair(5, 8)
    before = student.clone(), teacher.clone()
    alone = [divergence(student[i : i + 1], teacher[i : i + 1]).item() for i in range(5)]
    assert divergence(student, teacher).item() == pytest.approx(sum(alone) / 5, rel=1e-12)
    assert torch.equal(student, before[0])
    assert torch.equal(teacher, before[1])


@quick
@given(pairs)
@example(([0, 1], [1, 0]))
def test_jeffreys_is_the_sum_of_both(pair):
    teacher, student = map(tenths, pair)
    both = kl(student, teacher, temperature=2.0) + rkl(student, teacher, temperature=2.0)
    assert jeffreys(student, teacher, temperature=2.0).item() == pytest.approx(
        both.item(), rel=1e-9, abs=1e-12
    )


@every
@pytest.mark.parametrize("temperature", [0, 0.0, -1.5, float("nan"), 1e7, float("inf")])
def test_a_temperature_out_of_range_is_refused(divergence, temperature):
    student, teacher = random_pair(2, 3)
    with pytest.raises(UsageError, match=f"temperature {temperature} "):
        divergence(student, teacher, temperature=temperature)


@every
@pytest.mark.parametrize(
    ("left", "right"),
    [((2, 3), (2, 4)), ((2, 3), (3, 3)), ((4, 2, 3), (4, 2, 3)), ((3,), (3,)), ((4, 2, 3), (2, 3))],
)
def test_other_shapes_are_refused(divergence, left, right):
    with pytest.raises(UsageError) as caught:
        divergence(torch.zeros(left), torch.zeros(right))
    assert str(list(left)) in str(caught.value)
    assert str(list(right)) in str(caught.value)


@pytest.mark.parametrize("delta", [0, -0.5, 1.5, float("nan")])
def test_a_delta_out_of_range_is_refused(delta):
    with pytest.raises(UsageError, match=f"delta {delta} "):
        hta_kl(*random_pair(2, 3), delta=delta)


def test_an_unknown_head_is_refused():
    with pytest.raises(UsageError, match="'top2'"):
        hta_kl(*random_pair(2, 3), head="top2")


@pytest.mark.parametrize("head", HEADS)
def test_statistics_are_those_of_the_split(head):
    student, teacher = random_pair(200, 5, scale=4.0)
    _, stats = hta_kl_with_stats(student, teacher, temperature=2.0, delta=0.9, head=head)
    parts = split((teacher / 2).softmax(-1), (student / 2).softmax(-1), 0.9, head)
    assert stats["w_head"].item() == pytest.approx(parts.weight.mean().item())
    assert stats["head_empty"].item() == pytest.approx((parts.size == 0).double().mean().item(), abs=1e-7)
    assert stats["head_single"].item() == pytest.approx((parts.size == 1).double().mean().item(), abs=1e-7)
    assert 0 < stats["head_single"] < 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("side", [0, 1])
def test_non_finite_logits_raise_no_warning(side, bad):
    """nan reaches the loss, where training notices it; inf counts as the largest logit."""
    both = random_pair(4, 6, torch.float32)
    both[side][1, 2] = bad
    loss = hta_kl(both[0].requires_grad_(), both[1])
    loss.backward()
    assert bool(loss.isfinite()) == (not math.isnan(bad))
