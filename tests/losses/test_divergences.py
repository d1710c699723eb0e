"""Every divergence and penalty against plain numpy, on degenerate logits, its properties, gradients, descent
and errors.

Heads, ties and the vectors of hta-kl are in test_hta_kl.py. A divergence's exceptions from a property are
those that its entry in the catalogue declares.
"""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from snnkd import losses
from snnkd.catalog.losses import DIVERGENCES
from snnkd.errors import UsageError
from snnkd.losses.divergences import log_probabilities
from snnkd.losses.penalties import confidence, threshold
from snnkd.schema.loss import SoftmaxTerm

ABKD = [(0.8, 0.3), (1, 0), (0, 1), (0, 0), (0.5, -0.5), (2, 1), (-1, 0), (0, -2), (-1, -0.5), (-1, 2)]
OPTIONS = {
    "mix": [{}, {"forward": 0.5, "reverse": 2.0}],
    "akl": [{}, {"delta": 0.2}, {"delta": 0.9}],
    "abkd": [{}] + [{"alpha": a, "beta": b} for a, b in ABKD],
    "dkd": [{}, {"alpha": 2.0, "beta": 0.5}, {"alpha": 0.0, "beta": 1.0}, {"alpha": 1.0, "beta": 0.0}],
    "dist": [{}, {"beta": 2.0, "gamma": 0.5}, {"beta": 0.0, "gamma": 1.0}],
    "threshold": [{}, {"level": -0.5}],
}
PENALTIES = {"confidence": confidence, "threshold": threshold}
ENTRIES = {entry.function_name: entry for entry in DIVERGENCES}
CASES = {
    " ".join([n, *map(str, o.values())]): (n, o)
    for n in [*losses.__all__, *PENALTIES]
    for o in OPTIONS.get(n, [{}])
}
ELSEWHERE = {"kl", "rkl", "jeffreys", "hta_kl"}  # much of these is in test_hta_kl.py
quick = settings(max_examples=20, deadline=None, derandomize=True, database=None)


def over(*leave_out, penalties=False, where=lambda entry: True):
    """Parametrise `case` over all functions and options but those left out, and divergences whose entry is
    not `where`."""
    without = {*leave_out, *(() if penalties else PENALTIES)}
    without |= {name for name, entry in ENTRIES.items() if not where(entry)}
    chosen = {key: case for key, case in CASES.items() if case[0] not in without}
    return pytest.mark.parametrize("case", chosen.values(), ids=chosen.keys())


def has_temperature(entry):
    return issubclass(entry.options, SoftmaxTerm)


def call(case, student, teacher, labels, temperature=1.0):
    name, options = case
    if name in PENALTIES:
        options = options | ({} if name == "threshold" else {"temperature": temperature})
        return PENALTIES[name](student, **options)
    options = options | (
        {"temperature": temperature} if hasattr(ENTRIES[name].options, "temperature") else {}
    )
    return getattr(losses, name)(student, teacher, labels=labels, **options)


def random_batch(samples=5, classes=6, dtype=torch.float64, seed=0, scale=2.0):
    """(student, teacher, labels)."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = scale * torch.randn(2, samples, classes, generator=generator, dtype=torch.float64)
    return student.to(dtype), teacher.to(dtype), torch.randint(classes, (samples,), generator=generator)


def with_gradient(function, student, *rest, scale=1.0):
    """Value and gradient, the latter of value / scale."""
    student = student.clone().requires_grad_()
    value = function(student, *rest)
    (slope,) = torch.autograd.grad(value / scale, student)
    return value.detach(), slope


def soft(row, temperature=1.0):
    e = np.exp(row / temperature - np.max(row / temperature))
    return e / e.sum()


def relative_entropy(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def entropy(p):
    return -sum(a * math.log(a) for a in p if a > 0)


def np_mix(p, q, y, forward=0.2, reverse=0.7):
    """Here and below: the formula of guide/formulas.md for one sample with p of the teacher, q of the
    student, y the label."""
    return forward * relative_entropy(p, q) + reverse * relative_entropy(q, p)


def np_akl(p, q, y, delta=0.5):
    mass = head = 0.0
    for place, c in enumerate(np.argsort(-p, kind="stable")):
        mass += p[c]
        if place == 0 or mass <= delta:
            head += abs(p[c] - q[c])
    weight = head / np.abs(p - q).sum()
    return np_mix(p, q, y, weight, 1 - weight)


def np_todi(p, q, y):
    weight = 1 / (1 + q / p)
    return np.sum(weight * p * np.log(p / q)) + np.sum((1 - weight) * q * np.log(q / p))


def np_abkd(p, q, y, alpha=0.8, beta=0.3):
    a, b = alpha, beta
    if a == b == 0:
        return 0.5 * np.sum(np.log(p / q) ** 2)
    if b == 0:
        return np.sum(p**a * np.log(p**a / q**a) - p**a + q**a) / a**2
    if a == 0:
        return np.sum(q**b * np.log(q**b / p**b) - q**b + p**b) / b**2
    if a + b == 0:
        return np.sum(np.log(q**a / p**a) + (p / q) ** a - 1) / a**2
    return -np.sum(p**a * q**b - a / (a + b) * p ** (a + b) - b / (a + b) * q ** (a + b)) / (a * b)


def np_dkd(p, q, y, alpha=1.0, beta=8.0):
    rest_p, rest_q = np.delete(p, y), np.delete(q, y)
    binary = relative_entropy([p[y], rest_p.sum()], [q[y], rest_q.sum()])
    return alpha * binary + beta * relative_entropy(rest_p / rest_p.sum(), rest_q / rest_q.sum())


PER_SAMPLE = {
    **{"kl": lambda p, q, y: relative_entropy(p, q), "rkl": lambda p, q, y: relative_entropy(q, p)},
    "jeffreys": lambda p, q, y: np.sum((p - q) * np.log(p / q)),
    "js": lambda p, q, y: entropy((p + q) / 2) - entropy(p) / 2 - entropy(q) / 2,
    "ce": lambda p, q, y: entropy(p) + relative_entropy(p, q),
    "confidence": lambda p, q, y: -entropy(q),
    **{"mix": np_mix, "akl": np_akl, "todi": np_todi, "abkd": np_abkd, "dkd": np_dkd},
}


def wsld_weight(student, teacher, y):
    return 1 - math.exp(math.log(soft(student)[y]) / (1e-7 - math.log(soft(teacher)[y])))


def np_dist(p, q, beta=1.0, gamma=1.0):
    def mean_correlation(x, y):
        return np.mean(
            [np.corrcoef(a, b)[0, 1] if a.std() and b.std() else 0.0 for a, b in zip(x, y, strict=True)]
        )

    return beta * (1 - mean_correlation(p, q)) + gamma * (1 - mean_correlation(p.T, q.T))


def reference(case, student, teacher, labels, temperature=1.0):
    (name, options), s, t, y = case, student.numpy(), teacher.numpy(), labels.tolist()
    if name in ("mse", "threshold"):
        aim = t if name == "mse" else np.full_like(s, options.get("level", 1.0))
        return sum((a - b) ** 2 for a, b in zip(s.flat, aim.flat, strict=True)) / s.size
    p, q = (np.stack([soft(row, temperature) for row in x]) for x in (t, s))
    factor = 1 if name == "confidence" else temperature**2
    if name == "dist":
        return factor * np_dist(p, q, **options)
    if name == "wsld":
        return factor * np.mean(
            [wsld_weight(s[i], t[i], y[i]) * PER_SAMPLE["ce"](p[i], q[i], y[i]) for i in range(len(y))]
        )
    return factor * np.mean([PER_SAMPLE[name](p[i], q[i], y[i], **options) for i in range(len(y))])


@over(
    "hta_kl", penalties=True, where=lambda entry: entry.function_name in {*PER_SAMPLE, "mse", "dist", "wsld"}
)
@pytest.mark.parametrize("classes", [2, 10, 100, 1000])
def test_against_plain_numpy(case, classes):
    """A batch, and a batch of one."""
    for samples, temperature in ((5, 1), (5, 2.5), (5, 4), (1, 2.5)):
        batch = random_batch(samples, classes, seed=classes)
        assert call(case, *batch, temperature).item() == pytest.approx(
            reference(case, *batch, temperature), rel=1e-10
        )


@pytest.mark.parametrize("limit", [(1, 0), (0, 1), (0, 0), (0.5, -0.5), (-1, 1), (-1, 0), (0, 2)])
@pytest.mark.parametrize("direction", [(1, 2), (-1, -2), (2, -1), (-2, 1)])
def test_abkd_near_its_limits(limit, direction):
    """Followed from three points beside it, the general form arrives at the limit; float32 loses little of
    it."""
    student, teacher, _ = random_batch(5, 20)

    def at(step, *pair):
        alpha, beta = (centre + step * towards for centre, towards in zip(limit, direction, strict=True))
        return losses.abkd(*pair, alpha=alpha, beta=beta).item()

    near, further, far = (at(step, student, teacher) for step in (0.0011, 0.0022, 0.0033))
    assert at(0, student, teacher) == pytest.approx(3 * near - 3 * further + far, rel=1e-3)
    assert at(1e-4, student.float(), teacher.float()) == pytest.approx(near, rel=0.05)
    assert at(0.0011, student.float(), teacher.float()) == pytest.approx(near, rel=1e-2)


def test_relations_between_values():
    student, teacher, labels = random_batch(1, 7)
    for temperature in (1.0, 3.0):
        for f, alpha, beta in ((losses.kl, 1, 0), (losses.rkl, 0, 1)):
            found = losses.abkd(student, teacher, temperature=temperature, alpha=alpha, beta=beta).item()
            assert found == pytest.approx(f(student, teacher, temperature=temperature).item(), rel=1e-12)
    kl, turned = (
        losses.kl(student, teacher).item(),
        losses.abkd(teacher, student, alpha=-0.7, beta=1.4).item(),
    )
    assert losses.dkd(
        student, teacher, labels=labels, alpha=1.0, beta=1 - teacher.softmax(-1)[0, labels].item()
    ).item() == pytest.approx(kl, rel=1e-12)
    assert losses.todi(student, teacher).item() == pytest.approx(
        losses.jeffreys(student, teacher).item(), rel=1e-12
    )
    assert losses.abkd(student, teacher, alpha=1.4, beta=-0.7).item() == pytest.approx(turned, rel=1e-12)
    assert losses.mse(teacher + 3.0, teacher).item() == pytest.approx(9.0)


@pytest.mark.parametrize(("name", "other"), [("ce", "kl"), ("akl", "hta_kl")])
def test_relations_between_gradients(name, other):
    student, teacher, labels = random_batch(8, 10)
    slopes = [with_gradient(partial(call, (n, {})), student, teacher, labels, 2.0)[1] for n in (name, other)]
    assert torch.allclose(*slopes, rtol=1e-10, atol=1e-14)


AT_TEACHER = {"ce": 1.0, "wsld": 1 - math.exp(-1)}
"""What a student equal to its teacher has, times the teacher's entropy."""


def at_agreement(case, teacher, temperature):
    """What a student equal to its teacher has: 0, but for the cross-entropies."""
    factor = AT_TEACHER.get(case[0], 0.0)
    return factor * temperature**2 * np.mean([entropy(soft(row, temperature)) for row in teacher.numpy()])


@over(*ELSEWHERE)
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_a_student_that_is_the_teacher(case, temperature):
    for teacher in (
        random_batch(6, 20)[1],
        random_batch(2, 2)[1],
        torch.full((1, 2), 3.0).double(),
        torch.full((4, 10), 3.0).double(),
    ):
        if case[0] == "dist" and teacher[0, 0] == teacher[0, 1]:
            continue  # the next test
        value, slope = with_gradient(
            partial(call, case), teacher, teacher, torch.arange(len(teacher)), temperature
        )
        # wsld's 1e-7 beside the teacher's loss shows, and so do abkd's large quotients
        assert value.item() == pytest.approx(at_agreement(case, teacher, temperature), rel=1e-6, abs=1e-9)
        assert slope.abs().max() < 1e-9


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_dist_without_variation(dtype):
    """Rows or columns that do not vary have correlation 0: beta, gamma or their sum x temperature^2, also at
    the teacher."""
    flat, alike = torch.zeros(7, 10, dtype=dtype), random_batch(1, 10, dtype)[0].repeat(7, 1)
    options = {"temperature": 2.0, "beta": 3.0, "gamma": 0.5}
    assert losses.dist(flat, flat, **options).item() == pytest.approx(4 * 3.5, rel=1e-6)
    assert losses.dist(alike, alike, **options).item() == pytest.approx(4 * 0.5, rel=1e-6)


def test_a_one_hot_teacher():
    """Closed forms with p = 1 at the label and log p = -1e4 elsewhere."""
    student, _, labels = random_batch(1, 5)
    teacher = torch.zeros_like(student).scatter_(1, labels[:, None], 1e4)
    y, q = labels.item(), soft(student.numpy()[0])
    forward, reverse, rest = -math.log(q[y]), 1e4 * (1 - q[y]) - entropy(q), np.delete(q, y) / (1 - q[y])
    expected = {
        **dict.fromkeys(("kl", "ce", "wsld"), forward),
        **dict.fromkeys(("jeffreys", "todi"), forward + reverse),
        **dict.fromkeys(("akl", "hta_kl"), (forward + reverse) / 2),
        **{"rkl": reverse, "mix": 0.2 * forward + 0.7 * reverse},
        "js": 0.5 * (math.log(2) * (2 - q[y]) - (1 + q[y]) * math.log(1 + q[y]) + q[y] * math.log(2 * q[y])),
        "dkd": forward + 8 * relative_entropy([0.25] * 4, rest),
        "abkd": -(q[y] ** 0.3 - 8 / 11 - 3 / 11 * np.sum(q**1.1)) / 0.24,
        "dist": 2 - np.corrcoef(q, np.eye(5)[y])[0, 1],
    }
    assert {name: call((name, {}), student, teacher, labels).item() for name in expected} == pytest.approx(
        expected, rel=1e-10
    )


@over(*ELSEWHERE, penalties=True)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_logits_of_ten_thousand(case, dtype):
    big, labels = torch.tensor([1e4, -1e4, 0.0, 1e4]), torch.tensor([0, 1, 2, 3, 1])
    student = torch.stack([big, -big, big.flip(0), torch.zeros(4), big]).to(dtype)
    teacher = torch.stack([-big, big, big, big, big]).to(dtype)
    # scaled, so that the gradient itself fits into alone precision, also that of a negative power
    scale = 1e33 if min(case[1].get("alpha", 1), case[1].get("beta", 1)) < 0 else 1e5
    for temperature in (0.5, 1.0, 4.0):
        value, slope = with_gradient(partial(call, case), student, teacher, labels, temperature, scale=scale)
        assert value.isfinite()
        assert slope.isfinite().all()
        assert value > 0 or case[0] == "confidence"


@over(penalties=True)
def test_the_largest_logits(case):
    student = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [0.0, 1.0, 0.0]])
    teacher = torch.tensor([[-1.0, 1.0, 0.0], [1.0, 0.0, -1.0], [0.0, 0.0, 1.0]])
    for size, temperature in ((1e30, 1.0), (1e37, 3.0), (3e38, 1.0), (3e38, 3.0)):
        value, slope = with_gradient(
            partial(call, case), size * student, size * teacher, torch.tensor([0, 1, 2]), temperature
        )
        assert value.isfinite()
        assert slope.isfinite().all()


def test_ordinary_logits_are_not_touched():
    logits = torch.randn(64, 100, generator=torch.Generator().manual_seed(0)) * 10
    assert torch.equal(log_probabilities(logits, 3.0), torch.log_softmax(logits / 3.0, -1))


@st.composite
def batches(draw):
    """(student, teacher, labels): logits in tenths, those of one teacher row all different."""
    samples, classes = draw(st.integers(1, 4)), draw(st.integers(2, 6))
    row = {"min_size": classes, "max_size": classes}
    student = [draw(st.lists(st.integers(-60, 60), **row)) for _ in range(samples)]
    teacher = [draw(st.lists(st.integers(-60, 60), unique=True, **row)) for _ in range(samples)]
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=samples, max_size=samples))
    return *(torch.tensor(x, dtype=torch.float64) / 10 for x in (student, teacher)), torch.tensor(labels)


def clear_of_delta(case, teacher):
    """No cumulative probability within rounding of akl's delta, where its head changes."""
    gap = teacher.softmax(-1).sort(descending=True).values.cumsum(-1) - case[1].get("delta", 0.5)
    return case[0] != "akl" or bool(gap.abs().min() > 1e-9)


def close(value):
    return pytest.approx(value.item(), rel=1e-9, abs=1e-9)


@over(*ELSEWHERE, where=lambda entry: entry.shift_invariant)
@quick
@given(batches(), st.integers(-500, 500), st.integers(-500, 500))
def test_shifting_logits_changes_nothing(case, batch, of_student, of_teacher):
    student, teacher, labels = batch
    assume(clear_of_delta(case, teacher))
    assert call(case, student + of_student / 10, teacher + of_teacher / 10, labels).item() == close(
        call(case, student, teacher, labels)
    )


@over(*ELSEWHERE)
@quick
@given(batches(), st.randoms(use_true_random=False))
def test_permuting_classes_and_labels_changes_nothing(case, batch, random):
    student, teacher, labels = batch
    assume(clear_of_delta(case, teacher))
    order = list(range(student.shape[1]))
    random.shuffle(order)
    moved = torch.tensor([order.index(y) for y in labels.tolist()])
    assert call(case, student[:, order], teacher[:, order], moved).item() == close(
        call(case, student, teacher, labels)
    )


@over()
@quick
@given(batches(), st.sampled_from([0.7, 1.0, 3.0]))
def test_nothing_is_below_its_least_value(case, batch, temperature):
    student, teacher, labels = batch
    least = at_agreement(case, teacher, temperature) if case[0] == "ce" else 0.0
    assert call(case, student, teacher, labels, temperature).item() >= least - 1e-12


@quick
@given(batches(), st.sampled_from([0.5, 1.0, 4.0]), st.sampled_from([1, 10, 1000]))
def test_js_is_bounded_and_symmetric_as_jeffreys_is(batch, temperature, factor):
    student, teacher = (factor * x for x in batch[:2])
    assert losses.js(student, teacher, temperature=temperature) <= math.log(2) * temperature**2 + 1e-12
    for f in (losses.js, losses.jeffreys):
        assert f(teacher, student, temperature=temperature).item() == close(
            f(student, teacher, temperature=temperature)
        )


@over(*ELSEWHERE, where=has_temperature)
@quick
@given(batches(), st.sampled_from([0.5, 2.0, 3.0]))
def test_the_factor_is_temperature_squared(case, batch, k):
    student, teacher, labels = batch
    assume(clear_of_delta(case, teacher / k))
    assert call(case, student, teacher, labels, k).item() == close(
        k**2 * call(case, student / k, teacher / k, labels)
    )


@quick
@given(batches(), st.sampled_from([0.5, 2.0, 3.0]))
def test_the_factor_of_wsld(batch, k):
    """Its weight is of the logits as they are: of one sample, temperature changes the cross-entropy alone."""
    student, teacher, labels = (x[:1] for x in batch)
    cross = (
        wsld_weight(student.numpy()[0], teacher.numpy()[0], labels.item())
        * k**2
        * losses.ce(student / k, teacher / k)
    )
    assert losses.wsld(student, teacher, temperature=k, labels=labels).item() == close(cross)


@over(*ELSEWHERE, where=lambda entry: not entry.across_batch)
@quick
@given(batches())
def test_the_batch_mean(case, batch):
    alone = torch.stack([call(case, *(x[i : i + 1] for x in batch)) for i in range(len(batch[2]))])
    assert call(case, *batch).item() == close(alone.mean())


@over(*ELSEWHERE)
def test_no_gradient_reaches_the_teacher(case):
    """And inputs stay as they are."""
    student, teacher, labels = random_batch()
    before = torch.stack((student, teacher))
    call(case, student.requires_grad_(), teacher.requires_grad_(), labels).backward()
    assert teacher.grad is None
    assert student.grad.abs().max() > 0
    assert torch.equal(torch.stack((student, teacher)), before)


@over(*ELSEWHERE, penalties=True, where=lambda entry: not entry.constant_weights)
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_gradcheck(case, temperature):
    student, teacher, labels = random_batch(3, 5, scale=1.0)
    assert torch.autograd.gradcheck(
        lambda s: call(case, s, teacher, labels, temperature), student.requires_grad_()
    )


@pytest.mark.parametrize("name", ["todi", "wsld"])
def test_the_gradient_is_that_of_frozen_weights(name):
    """At temperature 2; the weights, from numpy, are constants of a function that passes gradcheck."""
    student, teacher, labels = random_batch(4, 6)
    p, q = ((x / 2).softmax(-1) for x in (teacher, student))
    rows = [[wsld_weight(*row)] for row in zip(student.numpy(), teacher.numpy(), labels, strict=True)]
    weight = p / (p + q) if name == "todi" else torch.tensor(rows, dtype=torch.float64)

    def frozen(s):
        q = (s / 2).softmax(-1)
        both = weight * p * (p / q).log() + (1 - weight) * q * (q / p).log()
        return 4 * (both if name == "todi" else -weight * p * q.log()).sum(-1).mean()

    assert torch.autograd.gradcheck(frozen, student.clone().requires_grad_())
    pairs = zip(
        with_gradient(frozen, student),
        with_gradient(partial(call, (name, {})), student, teacher, labels, 2.0),
        strict=True,
    )
    assert all(torch.allclose(found, expected, rtol=1e-10, atol=1e-14) for found, expected in pairs)


@over(*ELSEWHERE, penalties=True)
def test_precision(case):
    """Half precision is raised to float32, float64 kept, also of one side alone."""
    for dtype in (torch.float16, torch.bfloat16):
        student, teacher, labels = random_batch(7, 30, dtype)
        found = call(case, student, teacher, labels, 2.0)
        assert found.dtype == torch.float32
        assert torch.equal(found, call(case, student.float(), teacher.float(), labels, 2.0))
    student, teacher, labels = random_batch()
    mixed = () if case[0] in PENALTIES else ((student.float(), teacher), (student, teacher.float()))
    for s, t in ((student, teacher), *mixed):
        found = call(case, s, t, labels)
        assert found.dtype == torch.float64
        assert found.item() == pytest.approx(call(case, s.double(), t.double(), labels).item(), rel=1e-5)


@over(penalties=True)
@pytest.mark.nightly  # for all losses: test_descent.py
def test_descent(case):
    """Adam takes 90 % off the distance to the least value: 0, but ce's is the entropy, confidence's -log C.

    Wsld's, (1 - 1/e) x entropy, is not its least, but its value where the gradient, that of frozen weights,
    vanishes.
    """
    student, noise, labels = random_batch(6, 5, scale=0.5)
    teacher = noise + 4.0 * torch.nn.functional.one_hot(labels, 5)
    least = -math.log(5) if case[0] == "confidence" else at_agreement(case, teacher, 1.0)
    before = call(case, student, teacher, labels).item()
    optimizer = torch.optim.Adam([student.requires_grad_()], lr=0.05)
    for _ in range(250):
        optimizer.zero_grad()
        call(case, student, teacher, labels).backward()
        optimizer.step()
    after = call(case, student, teacher, labels).item()
    assert before > least + 0.01
    assert abs(after - least) < 0.1 * (before - least)


@pytest.mark.parametrize("name", sorted(set(losses.__all__) - ELSEWHERE))
@pytest.mark.parametrize(
    ("left", "right"),
    [((2, 3), (2, 4)), ((2, 3), (3, 3)), ((4, 2, 3), (4, 2, 3)), ((3,), (3,)), ((4, 2, 3), (2, 3))],
)
def test_other_shapes_are_refused(name, left, right):
    with pytest.raises(UsageError) as caught:
        call((name, {}), torch.zeros(left), torch.zeros(right), torch.zeros(2, dtype=torch.long))
    assert f"{list(left)} and {list(right)}" in str(caught.value)


def test_options_out_of_range_are_refused():
    student, teacher, _ = random_batch()
    for name in (name for name, entry in ENTRIES.items() if entry.one_label):
        with pytest.raises(UsageError, match=f"^{name} needs labels"):
            getattr(losses, name)(student, teacher)
    for name in {name for name, entry in ENTRIES.items() if has_temperature(entry)} - ELSEWHERE | {"wsld"}:
        for temperature in (0, 0.0, -1.5, float("nan")):
            with pytest.raises(UsageError, match=f"temperature {temperature} "):
                call((name, {}), *random_batch(), temperature)
    for delta in (0, 1.5, float("nan")):
        with pytest.raises(UsageError, match=f"delta {delta} "):
            losses.akl(student, teacher, delta=delta)


@pytest.mark.parametrize(("trait", "shown"), [
    ("shift_invariant", ["mse"]),
    ("zero_at_teacher", sorted(AT_TEACHER)),
    ("constant_weights", ["akl", "hta_kl", "todi", "wsld"]),
    ("across_batch", ["dist"]),
    ("one_label", ["dkd", "wsld"]),
])  # fmt: skip
def test_each_declared_exception_is_one(trait, shown):
    """A trait declared without need would leave a divergence out of its test."""
    student, teacher, labels = random_batch()
    found = []
    for name in sorted(ENTRIES):

        def value(student, teacher, labels, name=name):
            return call((name, {}), student, teacher, labels)

        plain = value(student, teacher, labels)
        alone = torch.stack(
            [value(*(x[i : i + 1] for x in (student, teacher, labels))) for i in range(5)]
        ).mean()
        shows = {
            "shift_invariant": lambda plain, alone: (
                value(student + 1, teacher, labels).item() != close(plain)
            ),
            "zero_at_teacher": lambda plain, alone: value(teacher, teacher, labels) > 0.01,
            "constant_weights": lambda plain, alone: (
                not torch.autograd.gradcheck(
                    lambda s: value(s, teacher, labels),
                    student.clone().requires_grad_(),
                    raise_exception=False,
                )
            ),
            "across_batch": lambda plain, alone: alone.item() != close(plain),
            "one_label": lambda plain, alone: value(student, teacher, labels.roll(1)).item() != close(plain),
        }[trait]
        found += [name] if shows(plain, alone) else []
    assert found == shown
    usual = trait in ("shift_invariant", "zero_at_teacher")
    assert sorted(name for name, entry in ENTRIES.items() if getattr(entry, trait) is not usual) == shown
