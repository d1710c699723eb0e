"""The objective: hard term plus weighted terms on the time mean."""

import pytest
import torch
from torch.nn import functional as F

from snnkd.catalog.losses import DIVERGENCES
from snnkd.losses import hta_kl, jeffreys, kl, rkl
from snnkd.losses.objective import make_objective as make_module
from snnkd.losses.outputs import BatchOutputs
from snnkd.schema.loss import HardConfig, LossConfig, SoftmaxTerm

NONE = LossConfig(name="none")


def make_objective(loss, label_smoothing=0.0):
    """The objective as a function of logits and labels."""
    module = make_module(loss, label_smoothing)
    return lambda student, teacher, labels: module(
        BatchOutputs(student=student, teacher=teacher, labels=labels)
    )


def loss_of(divergence, **options):
    kind = DIVERGENCES[divergence].options
    return LossConfig(name=divergence, terms=(kind(divergence=divergence, **options),))


def batch(dtype=torch.float32, T=4, B=6, C=10):
    generator = torch.Generator().manual_seed(3)
    student = (2 * torch.randn(T, B, C, generator=generator)).to(dtype).requires_grad_()
    teacher = (2 * torch.randn(B, C, generator=generator)).to(dtype)
    return student, teacher, torch.randint(C, (B,), generator=generator)


def evaluate(objective, student, teacher, labels):
    found = objective(student, teacher, labels)
    (gradient,) = torch.autograd.grad(found.total, student)
    return found, gradient


@pytest.mark.parametrize("divergence", ["kl", "rkl", "jeffreys", "hta-kl"])
def test_weight_0_is_none_bitwise(divergence):
    student, teacher, labels = batch()
    plain, plain_gradient = evaluate(make_objective(NONE), student, None, labels)
    found, gradient = evaluate(make_objective(loss_of(divergence, weight=0.0)), student, teacher, labels)
    assert torch.equal(found.total, plain.total)
    assert torch.equal(gradient, plain_gradient)


def test_none_needs_no_teacher():
    student, _, labels = batch()
    found = make_objective(NONE)(student, None, labels)
    assert not NONE.needs_teacher
    assert loss_of("kl").needs_teacher
    assert found.scalars.keys() == {"hard"}
    assert torch.equal(found.total, F.cross_entropy(student.mean(0), labels))


@pytest.mark.parametrize(
    ("name", "divergence"), [("kl", kl), ("rkl", rkl), ("jeffreys", jeffreys), ("hta-kl", hta_kl)]
)
@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_total_is_hard_plus_weight_times_divergence(name, divergence, weight):
    student, teacher, labels = batch()
    found = make_objective(loss_of(name, weight=weight, temperature=2.0))(student, teacher, labels)
    value = divergence(student.mean(0), teacher, temperature=2.0)
    assert torch.equal(found.scalars[name], value)
    assert found.total.item() == pytest.approx(
        (F.cross_entropy(student.mean(0), labels) + weight * value).item(), rel=1e-6
    )


def test_terms_add_up():
    student, teacher, labels = batch()
    both = LossConfig(
        name="custom", terms=(SoftmaxTerm(divergence="kl"), SoftmaxTerm(divergence="rkl", weight=0.5))
    )
    found = make_objective(both)(student, teacher, labels).scalars
    total = make_objective(both)(student, teacher, labels).total
    assert total.item() == pytest.approx((found["hard"] + found["kl"] + 0.5 * found["rkl"]).item(), rel=1e-6)


def test_the_hard_term_has_a_weight():
    student, teacher, labels = batch()
    soft = LossConfig(name="kl", hard=HardConfig(weight=0.0), terms=(SoftmaxTerm(divergence="kl"),))
    assert torch.equal(
        make_objective(soft)(student, teacher, labels).total, kl(student.mean(0), teacher, temperature=3.0)
    )


@pytest.mark.parametrize("head", ["top1", "strict", "cover"])
def test_settings_of_hta_kl_reach_it(head):
    student, teacher, labels = batch()
    found = make_objective(loss_of("hta-kl", temperature=1.5, delta=0.3, head=head))(student, teacher, labels)
    assert torch.equal(
        found.scalars["hta-kl"], hta_kl(student.mean(0), teacher, temperature=1.5, delta=0.3, head=head)
    )


def test_what_hta_kl_watches():
    """Two samples: a sure teacher (strict: empty head), and one whose first class alone is under delta."""
    teacher = torch.tensor([[0.9, 0.05, 0.05], [0.4, 0.3, 0.3]], dtype=torch.float64).log()
    student = torch.zeros(2, 2, 3, dtype=torch.float64, requires_grad=True)
    watched = make_objective(loss_of("hta-kl", temperature=1.0, head="strict"))(
        student, teacher, torch.tensor([0, 1])
    ).scalars
    assert watched.keys() == {"hard", "hta-kl", "w_head", "head_empty", "head_single"}
    assert watched["head_empty"] == 0.5
    assert watched["head_single"] == 0.5
    assert watched["w_head"].item() == pytest.approx(0.5 * 0.5)  # 0 of the first, 1/15 of 2/15 of the second
    assert not any(value.requires_grad for value in watched.values())


def test_label_smoothing_is_of_the_hard_term():
    student, teacher, labels = batch()
    smooth = make_objective(loss_of("kl"), label_smoothing=0.1)(student, teacher, labels)
    sharp = make_objective(loss_of("kl"))(student, teacher, labels)
    assert torch.equal(smooth.scalars["hard"], F.cross_entropy(student.mean(0), labels, label_smoothing=0.1))
    assert torch.equal(smooth.scalars["kl"], sharp.scalars["kl"])


def test_the_mean_over_time_is_what_counts():
    """Other timesteps with the same mean give the same value; each timestep gets the same gradient."""
    student, teacher, labels = batch(torch.float64)
    objective = make_objective(loss_of("hta-kl"))
    found, gradient = evaluate(objective, student, teacher, labels)
    constant = student.detach().mean(0, keepdim=True)
    assert found.total.item() == pytest.approx(objective(constant, teacher, labels).total.item(), rel=1e-12)
    assert torch.equal(gradient, gradient[:1].expand_as(gradient))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_averaged_in_float32(dtype):
    student, teacher, labels = batch(dtype)
    objective = make_objective(loss_of("hta-kl"))
    found, gradient = evaluate(objective, student, teacher, labels)
    assert found.total.dtype == torch.float32
    assert torch.equal(found.total, objective(student.float(), teacher.float(), labels).total)
    assert gradient.dtype == dtype
    assert gradient.isfinite().all()


def test_terms_of_one_divergence_are_told_apart_by_number():
    student, teacher, labels = batch()
    terms = (
        SoftmaxTerm(divergence="kl", temperature=1.0),
        SoftmaxTerm(divergence="rkl"),
        SoftmaxTerm(divergence="kl", temperature=4.0),
    )
    watched = make_objective(LossConfig(name="custom", terms=terms))(student, teacher, labels).scalars
    assert watched.keys() == {"hard", "kl.0", "rkl", "kl.2"}
    for name, temperature in (("kl.0", 1.0), ("kl.2", 4.0)):
        assert torch.equal(watched[name], kl(student.mean(0), teacher, temperature=temperature))
    twice = (
        DIVERGENCES["hta-kl"].options(divergence="hta-kl"),
        DIVERGENCES["hta-kl"].options(divergence="hta-kl", head="strict"),
    )
    watched = make_objective(LossConfig(name="custom", terms=twice))(student, teacher, labels).scalars
    assert {"hta-kl.0", "hta-kl.1", "w_head.0", "w_head.1"} <= watched.keys()


@pytest.mark.parametrize("target", ["mean", "step"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_with_shares_of_two_labels_the_hard_term_is_the_sum_of_both(target, smoothing):
    student, teacher, labels = batch()
    share, other = torch.linspace(0, 1, len(labels)), labels.roll(1)
    shares = F.one_hot(labels, 10) * share[:, None] + F.one_hot(other, 10) * (1 - share)[:, None]
    objective = make_objective(LossConfig(hard=HardConfig(target=target)), smoothing)
    steps = student.mean(0, keepdim=True) if target == "mean" else student
    each = [
        torch.stack([F.cross_entropy(z, y, label_smoothing=smoothing, reduction="none") for z in steps]).mean(
            0
        )
        for y in (labels, other)
    ]
    found = objective(student, teacher, shares)
    torch.testing.assert_close(found.total, (share * each[0] + (1 - share) * each[1]).mean())
    assert found.labels.equal(shares)


@pytest.mark.parametrize("target", ["mean", "step"])
@pytest.mark.parametrize("divergence", ["kl", "hta-kl", "dist"])
def test_a_term_that_needs_no_label_does_not_mind_shares(divergence, target):
    student, teacher, labels = batch()
    objective = make_objective(
        LossConfig(hard=HardConfig(weight=0), terms=(loss_of(divergence, target=target).terms))
    )
    found = [objective(student, teacher, y).total for y in (labels, F.one_hot(labels, 10).float())]
    torch.testing.assert_close(*found)
