"""What happens to logits before a divergence sees them."""

import math

import pytest
import torch

from snnkd.errors import UsageError
from snnkd.losses import kl
from snnkd.losses.objective import make_objective
from snnkd.losses.outputs import BatchOutputs
from snnkd.losses.transforms import add_noise, correct_errors, standardize
from snnkd.recipe.loss_section import build_loss

D = torch.float64


def random_logits(*shape, seed=0, dtype=D):
    return (2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=D)).to(dtype)


def soft_only(name="kl", **options):
    """The value of a preset's terms without cross-entropy."""
    objective = make_objective(build_loss({"name": name, "hard": {"weight": 0.0}, **options}))
    return lambda student, teacher, labels=(0, 1): (
        objective(BatchOutputs(student=student, labels=torch.tensor(labels), teacher=teacher)).total
    )


# -- standardize --
def test_mean_0_and_deviation_1():
    found = standardize(5 * random_logits(3, 4, 7) + 2)
    assert torch.allclose(found.mean(-1), torch.zeros(3, 4, dtype=D), atol=1e-12)
    assert torch.allclose(found.std(-1), torch.ones(3, 4, dtype=D), atol=1e-6)


def test_standardize_by_hand():
    """(1, 2, 6): mean 3, squares 4 + 1 + 9 over C - 1 = 2, hence deviation sqrt 7."""
    found = standardize(torch.tensor([1.0, 2, 6], dtype=D))
    assert found.tolist() == pytest.approx([-2 / math.sqrt(7), -1 / math.sqrt(7), 3 / math.sqrt(7)], rel=1e-6)


@pytest.mark.parametrize("scale", [1e-2, 0.5, 1e4])
@pytest.mark.parametrize("shift", [-300.0, 7.0])
def test_scale_and_shift_change_nothing(scale, shift):
    logits = random_logits(4, 6)
    assert torch.allclose(standardize(scale * logits + shift), standardize(logits), atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, D])
@pytest.mark.parametrize("value", [0.0, -3.0, 1e4])
def test_equal_logits_become_zeros_with_a_finite_gradient(value, dtype):
    logits = torch.full((2, 5), value, dtype=dtype, requires_grad=True)
    found = standardize(logits)
    assert found.count_nonzero() == 0
    (found * torch.arange(5)).sum().mul(1e-8).backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("size", [1e20, 3e38])
def test_huge_logits_are_standardized_finitely(size):
    logits = torch.tensor([[size, -size, 0.0]], requires_grad=True)
    found = standardize(logits)
    found.square().sum().backward()
    assert found.tolist()[0] == pytest.approx([1, -1, 0], abs=1e-5)
    assert logits.grad.isfinite().all()


def test_the_gradient_of_standardize():
    logits = random_logits(3, 5).requires_grad_()
    assert torch.autograd.gradcheck(standardize, logits)
    (gradient,) = torch.autograd.grad((standardize(logits) * random_logits(3, 5, seed=1)).sum(), logits)
    assert torch.allclose(gradient.sum(-1), torch.zeros(3, dtype=D), atol=1e-12)  # no way along a shift
    assert torch.allclose(
        (gradient * logits).sum(-1), torch.zeros(3, dtype=D), atol=1e-6
    )  # nor along a scale


def test_both_sides_are_standardized():
    """A teacher twice as sure of itself and shifted teaches the same; without the key it does not."""
    student, teacher = random_logits(1, 2, 5), random_logits(2, 5, seed=1)
    value = soft_only(standardize=True)
    assert value(student, teacher).item() == pytest.approx(
        value(3 * student - 4, 2 * teacher + 1).item(), rel=1e-6
    )
    assert value(student, student[0]).item() == pytest.approx(0, abs=1e-12)
    assert value(student, 2 * student[0] + 1).item() == pytest.approx(0, abs=1e-12)
    assert soft_only()(student, 2 * student[0] + 1).item() > 0.1


# -- a temperature of the student's own --
def test_the_students_own_temperature_by_hand():
    """p = (1/2, 1/4, 1/4) at temperature 3 and q = (1/4, 1/4, 1/2) at 2, with the factor 3 squared: log 2 / 4
    each."""
    p = torch.tensor([[1 / 2, 1 / 4, 1 / 4]], dtype=D).log()
    value = soft_only(temperature=3.0, student_temperature=2.0)
    assert value(2 * p.flip(-1)[None], 3 * p, [0]).item() == pytest.approx(9 * math.log(2) / 4, rel=1e-9)
    assert value(2 * p[None], 3 * p, [0]).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", ["kl", "rkl", "js", "ce", "hta-kl", "dist"])
@pytest.mark.parametrize("own", [0.5, 1.0, 6.0])
def test_every_divergence_takes_the_students_own_temperature(name, own):
    student, teacher = random_logits(1, 4, 5), random_logits(4, 5, seed=1)
    found = soft_only(name, temperature=2.0, student_temperature=own)(student, teacher, [0, 1, 2, 3])
    expected = 4 * soft_only(name, temperature=1.0)(student / own, teacher / 2, [0, 1, 2, 3])
    assert found.item() == pytest.approx(expected.item(), rel=1e-9)


def test_the_gradient_of_the_students_own_temperature():
    """temperature^2 / own x (q - p) / B."""
    student, teacher = random_logits(1, 2, 5).requires_grad_(), random_logits(2, 5, seed=1)
    soft_only(temperature=3.0, student_temperature=2.0)(student, teacher).backward()
    expected = 9 / 2 * ((student.detach() / 2).softmax(-1) - (teacher / 3).softmax(-1)) / 2
    assert torch.allclose(student.grad, expected, rtol=1e-9)


def test_a_temperature_of_0_is_refused():
    with pytest.raises(UsageError, match="student_temperature"):
        build_loss({"name": "kl", "student_temperature": 0.0})


def test_mse_has_no_temperatures():
    for key in ("temperature", "student_temperature"):
        with pytest.raises(UsageError, match=f"loss.{key}"):
            build_loss({"name": "mse", key: 2.0})


# -- noise --
def probabilities(teacher, share, temperature=2.0, seed=0):
    torch.manual_seed(seed)
    return (add_noise(teacher, share, temperature) / temperature).softmax(-1)


def test_no_share_is_the_teacher_itself():
    teacher = random_logits(3, 5)
    assert torch.allclose(probabilities(teacher, 0.0), (teacher / 2).softmax(-1), rtol=1e-12)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_share_is_that_of_probabilities(share):
    teacher = random_logits(3, 5)
    noise = probabilities(teacher, 1.0)
    expected = (1 - share) * (teacher / 2).softmax(-1) + share * noise
    assert torch.allclose(probabilities(teacher, share), expected, rtol=1e-9)
    assert (noise - (teacher / 2).softmax(-1)).abs().max() > 0.05


def test_the_noise_has_mean_and_spread_of_the_logits():
    """With share 1 at a temperature at which logarithms are logits up to a constant: the differences of two
    have twice the variance."""
    teacher = torch.tensor([[-3.0, 0, 6]], dtype=D).expand(20000, 3) + 50  # deviation sqrt 21
    torch.manual_seed(0)
    found = add_noise(teacher, 1.0, 100.0)
    assert (found[:, 0] - found[:, 1]).std().item() == pytest.approx(math.sqrt(2 * 21), rel=0.03)
    assert (found[:, 0] - found[:, 2]).mean().item() == pytest.approx(0, abs=0.2)


def test_noise_is_new_in_every_call_and_sample_and_follows_the_seed():
    teacher = random_logits(1, 5).expand(2, 5)
    assert torch.equal(probabilities(teacher, 0.3, seed=1), probabilities(teacher, 0.3, seed=1))
    assert not torch.allclose(probabilities(teacher, 0.3, seed=1), probabilities(teacher, 0.3, seed=2))
    first, second = probabilities(teacher, 0.3)
    assert not torch.allclose(first, second)


def test_a_sure_teacher_is_noised_finitely():
    for teacher in (torch.tensor([[1e4, 0.0, -1e4]]), torch.zeros(1, 3), torch.tensor([[3e38, 0, -3e38]])):
        assert add_noise(teacher, 0.1, 2.0).isfinite().all()


def test_the_gradient_of_a_noised_term_is_of_the_student_alone():
    student, teacher = random_logits(1, 2, 5).requires_grad_(), random_logits(2, 5, seed=1).requires_grad_()
    torch.manual_seed(3)
    soft_only(noise=0.4, temperature=2.0)(student, teacher).backward()
    p = probabilities(teacher.detach()[None], 0.4, seed=3)[0]
    assert teacher.grad is None
    assert torch.allclose(student.grad, 2 * ((student.detach() / 2).softmax(-1) - p) / 2, rtol=1e-9)


# -- error correction --
STUDENT = torch.tensor([[[1.0, 3, 2, 0], [5, 1, 0, 2]], [[2.0, 0, 9, 1], [4, 0, 0, 0]]], dtype=D)
LABELS = torch.tensor([0, 0])
"""The first sample is wrong in both timesteps, with 1 and with 2 for 0; the second is right in both."""
TEACHER = torch.tensor([[[7.0, 4, 8, 1], [6, 5, 4, 3]]], dtype=D)


def test_the_correction_by_hand():
    student, teacher = correct_errors(STUDENT, TEACHER, LABELS)
    assert student.tolist() == [[[1, 1, 2, 0], [5, 1, 0, 2]], [[2, 0, 2, 1], [4, 0, 0, 0]]]
    # the lower of 7 and 4; of 7 and 8
    assert teacher.tolist() == [[[4, 4, 8, 1], [6, 5, 4, 3]], [[7, 4, 7, 1], [6, 5, 4, 3]]]


def test_the_correction_leaves_its_arguments():
    before = STUDENT.clone(), TEACHER.clone()
    correct_errors(STUDENT, TEACHER, LABELS)
    assert torch.equal(STUDENT, before[0])
    assert torch.equal(TEACHER, before[1])


def test_the_gradient_of_the_correction():
    """Where the student is wrong the gradient of its answer goes to the true class, which holds both
    places."""
    student = STUDENT.clone().requires_grad_()
    pull = torch.tensor([1.0, 10, 100, 1000], dtype=D)
    (correct_errors(student, TEACHER, LABELS)[0] * pull).sum().backward()
    right = [1, 10, 100, 1000]
    assert student.grad.tolist() == [[[11, 0, 100, 1000], right], [[101, 10, 0, 1000], right]]


def test_the_correction_of_a_term():
    """Its value and gradient are those of kl on corrected logits; without the key another value."""
    student = STUDENT.clone().requires_grad_()
    value = soft_only(terms=[{"divergence": "kl", "target": "step", "correct_errors": True}], name="kl")(
        student, TEACHER[0], [0, 0]
    )
    value.backward()
    both = [torch.tensor([[[1.0, 1, 2, 0], [5, 1, 0, 2]], [[2, 0, 2, 1], [4, 0, 0, 0]]], dtype=D)]
    both.append(torch.tensor([[[4.0, 4, 8, 1], [6, 5, 4, 3]], [[7, 4, 7, 1], [6, 5, 4, 3]]], dtype=D))
    expected = kl(*(x.flatten(0, 1) for x in both), temperature=3.0)
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    slope = 3 * ((both[0] / 3).softmax(-1) - (both[1] / 3).softmax(-1)) / 4
    slope[0, 0, 0], slope[0, 0, 1] = slope[0, 0, 0] + slope[0, 0, 1], 0.0
    slope[1, 0, 0], slope[1, 0, 2] = slope[1, 0, 0] + slope[1, 0, 2], 0.0
    assert torch.allclose(student.grad, slope, rtol=1e-9, atol=1e-13)
    plain = soft_only(terms=[{"divergence": "kl", "target": "step"}], name="kl")(student, TEACHER[0], [0, 0])
    assert plain.item() > 1.5 * value.item()


def test_a_right_student_is_not_corrected():
    student, teacher = random_logits(2, 3, 4), random_logits(3, 4, seed=1)
    for t in range(2):
        ours, theirs = correct_errors(student[t : t + 1], teacher[None], student[t].argmax(-1))
        assert torch.equal(ours, student[t : t + 1])
        assert torch.equal(theirs, teacher[None])
