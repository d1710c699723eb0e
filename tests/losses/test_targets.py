"""Which student logits are taught, and what the student teaches itself."""

import math

import pytest
import torch

from snnkd import losses
from snnkd.catalog.losses import AGAINST, DIVERGENCES, TARGETS
from snnkd.errors import UsageError
from snnkd.losses.objective import make_objective
from snnkd.losses.outputs import BatchOutputs, time_mean
from snnkd.recipe.loss_section import build_loss

SELF_TARGETS = [entry.name for entry in AGAINST if entry.name != "teacher"]
BY_CONFIDENCE = ["strong", "weak"]


def chosen(student, target):
    """The student's logits that a divergence takes."""
    return TARGETS[target].load()(BatchOutputs(student=student, labels=torch.zeros(0)), 1.0)


@torch.no_grad()
def self_target(student, labels, against, temperature):
    """What the student's own timesteps teach."""
    return AGAINST[against].load()(BatchOutputs(student=student, labels=labels), temperature)


def logs(*steps):
    """Logits of given probabilities, `[T, B, C]`."""
    return torch.tensor(steps, dtype=torch.float64).log()


def random_batch(T=4, B=5, C=6, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    student = 2 * torch.randn(T, B, C, generator=generator, dtype=torch.float64)
    teacher = 2 * torch.randn(B, C, generator=generator, dtype=torch.float64)
    return student.to(dtype).requires_grad_(), teacher.to(dtype), torch.randint(C, (B,), generator=generator)


def soft_only(**term):
    """An objective of one term, without cross-entropy."""
    name = term.get("divergence", "kl")
    return make_objective(
        build_loss({"name": name, "hard": {"weight": 0.0}, "terms": [{"divergence": name, **term}]})
    )


# -- which logits are taught --
def test_the_mean_and_every_step():
    student, *_ = random_batch()
    assert chosen(student, "mean").shape == (1, 5, 6)
    assert torch.equal(chosen(student, "mean")[0], time_mean(student))
    assert chosen(student, "step") is student
    assert torch.allclose(time_mean(student) * 4, student[0] + student[1] + student[2] + student[3])


def test_confidence_is_the_batch_mean_of_the_largest_probability():
    """Step 1 has the surest sample and the largest logits, step 2 the higher mean: 0.8 and 0.85, under 0.99
    and 0.4."""
    steps = logs(
        [[0.4, 0.3, 0.3], [0.6, 0.2, 0.2]],
        [[0.99, 0.005, 0.005], [0.3, 0.4, 0.3]],
        [[0.1, 0.8, 0.1], [0.1, 0.05, 0.85]],
    )
    steps[1] += 100  # probabilities stay
    for which, step in (("strong", 2), ("weak", 0)):
        assert torch.equal(chosen(steps, which), steps[step : step + 1])
        assert torch.equal(self_target(steps, torch.tensor([0, 0]), which, 3.0), steps[step : step + 1])


@pytest.mark.parametrize("target", BY_CONFIDENCE)
def test_the_chosen_timestep_alone_gets_gradient(target):
    student, teacher, labels = random_batch()
    soft_only(target=target)(BatchOutputs(student=student, labels=labels, teacher=teacher)).total.backward()
    confidence = student.detach().softmax(-1).amax(-1).mean(1)
    step = int(confidence.argmax() if target == "strong" else confidence.argmin())
    touched = student.grad.abs().sum((1, 2)) > 0
    assert touched.tolist() == [t == step for t in range(4)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("against", SELF_TARGETS)
def test_targets_are_at_least_float32(against, dtype):
    student, _, labels = random_batch(dtype=dtype)
    found = self_target(student, labels, against, 2.0)
    assert found.dtype == torch.float32
    assert torch.equal(found, self_target(student.float(), labels, against, 2.0))
    assert time_mean(student).dtype == torch.float32
    assert chosen(student, "step").dtype == torch.float32


# -- what the student teaches itself --
def test_mean_and_sum_of_the_timesteps_that_are_right():
    """Labels 0, 1, 2: right in steps 0 and 2; in none; in step 1."""
    student = torch.tensor(
        [
            [[4.0, 0, 1], [3, 0, 0], [5, 0, 2]],
            [[0.0, 7, 1], [0, 1, 2], [0, 1, 6]],
            [[2.0, 1, 0], [9, 0, 5], [0, 8, 7]],
        ]
    )
    labels = torch.tensor([0, 1, 2])
    assert self_target(student, labels, "correct-sum", 3.0).tolist() == [[[6, 1, 1], [0, 0, 0], [0, 1, 6]]]
    assert self_target(student, labels, "correct-mean", 3.0).tolist() == [
        [[3, 0.5, 0.5], [0, 0, 0], [0, 1, 6]]
    ]


@pytest.mark.parametrize("against", ["correct-mean", "correct-sum"])
def test_where_none_is_right_all_classes_are_equal(against):
    """KL of equal probabilities and (1/2, 1/4, 1/4): thirds of log(2/3) + 2 log(4/3)."""
    student = 3 * logs([[1 / 2, 1 / 4, 1 / 4]], [[1 / 2, 1 / 4, 1 / 4]])
    found = soft_only(target="step", against=against)(BatchOutputs(student=student, labels=torch.tensor([1])))
    assert found.total.item() == pytest.approx(9 * (math.log(2 / 3) + 2 * math.log(4 / 3)) / 3, rel=1e-9)


def test_other_steps_of_three_by_hand():
    """Timesteps (1/2, 1/4, 1/4), (1/4, 1/2, 1/4) and equal ones; the last has confidence 0."""
    student = logs([[1 / 2, 1 / 4, 1 / 4]], [[1 / 4, 1 / 2, 1 / 4]], [[1 / 3, 1 / 3, 1 / 3]])
    confidence = 1 - 1.5 * math.log(2) / math.log(3)  # entropy of the first two: 3/2 log 2
    likeness = (1 / 8 + 1 / 8 + 1 / 16) / (1 / 4 + 1 / 16 + 1 / 16)  # of the first two
    # the first is taught by the second and the last, whose score is 0; the last by both, which it is as
    # like to
    weight = math.exp(confidence * likeness) / (math.exp(confidence * likeness) + 1)
    rest = 1 - weight
    expected = [
        [weight / 4 + rest / 3, weight / 2 + rest / 3, weight / 4 + rest / 3],
        [weight / 2 + rest / 3, weight / 4 + rest / 3, weight / 4 + rest / 3],
        [3 / 8, 3 / 8, 1 / 4],
    ]
    found = self_target(student, torch.tensor([0]), "other-steps", 1.0)[:, 0].exp()
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-12)


def test_other_steps_prefer_the_alike():
    """Of two as confident timesteps the first learns more from the one like it; halves would be 0.35 of both
    classes."""
    first, alike, unlike = [0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.1, 0.3, 0.6]
    mixed = self_target(logs([first], [alike], [unlike]), torch.tensor([0]), "other-steps", 1.0)[0, 0].exp()
    assert mixed[0] > 0.36
    assert mixed[2] < 0.34


@pytest.mark.parametrize("step", [0, 1, 2])
def test_a_timestep_is_not_its_own_teacher(step):
    """Its own logits only weigh the others: mixtures stay between those, whatever it says itself."""
    student, _, labels = random_batch(T=3)
    wild = student.detach().clone()
    wild[step] = torch.roll(wild[step], 1, -1) * 50
    found = self_target(wild, labels, "other-steps", 1.0)[step].exp()
    others = wild[[t for t in range(3) if t != step]].softmax(-1)
    assert (found >= others.amin(0) - 1e-12).all()
    assert (found <= others.amax(0) + 1e-12).all()
    assert torch.allclose(found.sum(-1), torch.ones(5, dtype=torch.float64))


def test_other_steps_are_mixed_at_the_temperature_of_the_term():
    """Two timesteps: each is the other at temperature 2, given back as logits for a softmax at 2."""
    student, _, labels = random_batch(T=2)
    found = self_target(student, labels, "other-steps", 2.0)
    assert torch.allclose((found / 2).softmax(-1), (student.detach().flip(0) / 2).softmax(-1), rtol=1e-12)


def test_other_steps_need_every_step_as_target():
    with pytest.raises(UsageError, match=r"loss.terms.0.against: other-steps .* needs target: step"):
        soft_only(against="other-steps")


def test_other_steps_stay_finite():
    student = torch.tensor([[[1e4, -1e4, 0.0]], [[-1e4, 1e4, 0.0]]], requires_grad=True)
    value = soft_only(target="step", against="other-steps")(
        BatchOutputs(student=student, labels=torch.tensor([0]))
    ).total
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize(
    ("target", "against"),
    [
        (t, a)
        for t in ("mean", "step", *BY_CONFIDENCE)
        for a in SELF_TARGETS
        if a != "other-steps" or t == "step"
    ],
)
def test_the_gradient_is_that_of_a_constant_teacher(target, against):
    """Of KL at temperature 2: 2 (q - p) / (R B) in each row that is taught, with p a constant."""
    student, _, labels = random_batch()
    value = soft_only(target=target, against=against, temperature=2.0)(
        BatchOutputs(student=student, labels=labels)
    ).total
    value.backward()
    z = student.detach()
    p = (self_target(z, labels, against, 2.0) / 2).softmax(-1)
    expected = torch.zeros_like(z)
    if target == "mean":
        expected += 2 * ((z.mean(0) / 2).softmax(-1) - p) / 5 / 4
    elif target == "step":
        expected += 2 * ((z / 2).softmax(-1) - p) / 5 / 4
    else:
        confidence = z.softmax(-1).amax(-1).mean(1)
        step = int(confidence.argmax() if target == "strong" else confidence.argmin())
        expected[step] = 2 * ((z[step] / 2).softmax(-1) - p[0]) / 5
    assert torch.allclose(student.grad, expected, rtol=1e-9, atol=1e-13)


def test_a_timestep_that_teaches_itself_learns_nothing():
    """strong against strong: value and gradient are 0."""
    student, _, labels = random_batch()
    value = soft_only(target="strong", against="strong")(BatchOutputs(student=student, labels=labels)).total
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-12)
    assert student.grad.abs().max() < 1e-12


# -- target: step --
@pytest.mark.parametrize("name", [entry.name for entry in DIVERGENCES])
def test_the_step_target_is_the_mean_over_timesteps(name):
    student, teacher, labels = random_batch()
    objective = soft_only(divergence=name, target="step")
    options = {} if name == "mse" else {"temperature": 1.0 if name == "akl" else 3.0}
    function = getattr(losses, name.replace("-", "_"))
    alone = torch.stack([function(step, teacher, labels=labels, **options) for step in student])
    found = objective(BatchOutputs(student=student, labels=labels, teacher=teacher))
    assert found.total.item() == pytest.approx(alone.mean().item(), rel=1e-12)
    (gradient,) = torch.autograd.grad(found.total, student)
    (expected,) = torch.autograd.grad(alone.mean(), student)
    assert torch.allclose(gradient, expected, rtol=1e-9, atol=1e-13)
    assert alone.std() > 1e-6  # the timesteps differ


@pytest.mark.parametrize("name", ["kl", "dist", "dkd"])
def test_every_step_meets_its_own_mixture(name):
    """dist is taken within a timestep: the teacher's timestep is the student's."""
    student, _, labels = random_batch(T=3)
    found = soft_only(divergence=name, target="step", against="other-steps")(
        BatchOutputs(student=student, labels=labels)
    ).total
    mixtures = self_target(student, labels, "other-steps", 3.0)
    function = getattr(losses, name)
    alone = [
        function(*pair, labels=labels, temperature=3.0).item() for pair in zip(student, mixtures, strict=True)
    ]
    assert found.item() == pytest.approx(sum(alone) / 3, rel=1e-12)


@pytest.mark.parametrize("name", ["hta-kl", "akl"])
def test_what_is_watched_at_every_step_is_the_mean(name):
    student, teacher, labels = random_batch()
    objective = soft_only(divergence=name, target="step")
    watched = objective(BatchOutputs(student=student, labels=labels, teacher=teacher)).scalars
    alone = [
        objective(BatchOutputs(student=step[None], labels=labels, teacher=teacher)).scalars["w_head"].item()
        for step in student
    ]
    assert watched["w_head"].item() == pytest.approx(sum(alone) / 4, rel=1e-9)


def test_the_hard_term_of_every_step():
    """Cross-entropies log 2, log 4 of the first timestep and log 4, log 2 of the second, where the mean has
    others."""
    student = logs(
        [[1 / 2, 1 / 4, 1 / 4], [1 / 4, 1 / 4, 1 / 2]], [[1 / 4, 1 / 4, 1 / 2], [1 / 2, 1 / 4, 1 / 4]]
    )
    objective = make_objective(build_loss({"name": "none", "hard": {"target": "step"}}))
    found = objective(BatchOutputs(student=student, labels=torch.tensor([0, 1]))).total
    assert found.item() == pytest.approx((math.log(2) + 3 * math.log(4)) / 4, rel=1e-9)
