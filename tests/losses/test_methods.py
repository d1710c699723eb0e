"""Every published loss on two timesteps, two samples, three classes: its value by hand from
guide/formulas.md.

Logits are temperature x log of simple probabilities, so that the softmax of a term is known; at temperature 1
the same logits give those probabilities to the power of the temperature, which is what the hard term sees.
"""

from math import e, exp, log, sqrt

import pytest
import torch
from torch import nn

from snnkd.catalog.losses import DIVERGENCES, LOSSES
from snnkd.losses.objective import NetworkInfo, make_objective
from snnkd.losses.outputs import BatchOutputs
from snnkd.recipe.loss_section import build_loss, preset_section

WORKED = {}
"""By name of the loss: a function that gives pairs (found, expected)."""


def worked(name):
    return lambda function: WORKED.setdefault(name, function)


@pytest.mark.parametrize("name", [entry.name for entry in LOSSES if entry.name not in DIVERGENCES])
def test_a_composition_worked_by_hand(name):
    for found, expected in WORKED[name]():
        assert found == pytest.approx(expected, rel=1e-6)  # wsld's quotient has 1e-7 in it


@pytest.mark.parametrize("name", [entry.name for entry in DIVERGENCES])
def test_a_divergence_worked_by_hand(name):
    """Or in a test file of its own; see also `test_a_loss_is_cross_entropy_and_its_divergence`."""
    for found, expected in WORKED.get(name, list)():
        assert found == pytest.approx(expected, rel=1e-6)  # wsld's quotient has 1e-7 in it


def tensor(rows):
    return torch.tensor(rows, dtype=torch.float64)


def logits(rows, temperature):
    return temperature * tensor(rows).log()


def apart(mean):
    """Two timesteps whose time mean is `mean`; anything but the mean would show."""
    step = tensor([1.0, 0.0, -1.0])
    return torch.stack([mean + step, mean - step])


def evaluate(loss, student, labels, teacher=None, ours=None, theirs=None, *, head=None, prepare=None, **time):
    """The total; `prepare(objective)` sets weights or seeds; `time` is epoch and epochs."""
    ours, theirs = ours or {}, theirs or {}
    shapes = [{name: tuple(x.shape[1:]) for name, x in side.items()} for side in (ours, theirs)]
    objective = make_objective(
        build_loss(loss), 0.0, NetworkInfo(student=shapes[0], teacher=shapes[1], teacher_head=head)
    ).double()
    if prepare:
        prepare(objective)
    outputs = BatchOutputs(
        student=student,
        labels=torch.tensor(labels),
        teacher=teacher,
        student_features=ours,
        teacher_features=theirs,
        **time,
    )
    return objective(outputs).total.item()


# -- cross-entropy on the time mean + one divergence of it --
P = [[1 / 2, 1 / 4, 1 / 4], [1 / 4, 1 / 2, 1 / 4]]
Q = [[1 / 3, 1 / 3, 1 / 3], [1 / 2, 3 / 8, 1 / 8]]
LABELS = [1, 0]
# q to the power of the temperature, normalised: 1/3 of each; (4, 3, 1) / 8, (16, 9, 1) / 26, (64, 27, 1) / 92
HARD = {1: (log(3) + log(8 / 4)) / 2, 2: (log(3) + log(26 / 16)) / 2, 3: (log(3) + log(92 / 64)) / 2}
# sum p log(p / q): p / q is (3/2, 3/4, 3/4) in the first sample, (1/2, 4/3, 2) in the second
FORWARD = [1 / 2 * log(3 / 2) + 1 / 2 * log(3 / 4), 1 / 4 * log(1 / 2) + 1 / 2 * log(4 / 3) + 1 / 4 * log(2)]
REVERSE = [1 / 3 * log(2 / 3) + 2 / 3 * log(4 / 3), 1 / 2 * log(2) + 3 / 8 * log(3 / 4) + 1 / 8 * log(1 / 2)]
ENTROPY_CROSSED = [log(3), 1 / 4 * log(2) + 1 / 2 * log(8 / 3) + 1 / 4 * log(8)]  # -sum p log q


def head_weighted():
    """Head is the first class of p alone: |p - q| is (1/6 | 1/12, 1/12), and (1/4 | 1/4, 1/8) with class 1 at
    1/8 as the head."""
    heads = [(1 / 6) / (1 / 6 + 2 / 12), (1 / 8) / (1 / 8 + 1 / 4 + 1 / 8)]  # 1/2 and 1/4
    return sum(w * f + (1 - w) * r for w, f, r in zip(heads, FORWARD, REVERSE, strict=True)) / 2


def soft_labels_weighted(temperature):
    """CE_S and CE_T at temperature 1 of the label: student as in HARD; teacher 1/4 beside 1/2 and 1/4, both
    powered."""
    power = 2.0**temperature
    teacher = log(power + 2)  # (power, 1, 1) / (power + 2), label on a 1
    student = [log(3), 2 * HARD[temperature] - log(3)]
    weights = [1 - exp(-loss / teacher) for loss in student]
    return (weights[0] * ENTROPY_CROSSED[0] + weights[1] * ENTROPY_CROSSED[1]) / 2


PLAIN = {
    "kl": sum(FORWARD) / 2,
    "rkl": sum(REVERSE) / 2,
    "mix": 0.2 * sum(FORWARD) / 2 + 0.7 * sum(REVERSE) / 2,
    "jeffreys": (sum(FORWARD) + sum(REVERSE)) / 2,
    "ce": sum(ENTROPY_CROSSED) / 2,
    # w = sigmoid(log(p/q)) = p / (p + q), so that w p - (1 - w) q = p - q: the value is jeffreys', the
    # gradient is not
    "todi": (sum(FORWARD) + sum(REVERSE)) / 2,
    "hta-kl": head_weighted(),
    "akl": head_weighted(),
    # m = (5/12, 7/24, 7/24), p/m = (6/5, 6/7, 6/7), q/m = (4/5, 8/7, 8/7)
    # m = (3/8, 7/16, 3/16), p/m = (2/3, 8/7, 4/3), q/m = (4/3, 6/7, 2/3)
    "js": (
        (1 / 2 * log(6 / 5) + 1 / 2 * log(6 / 7) + 1 / 3 * log(4 / 5) + 2 / 3 * log(8 / 7)) / 2
        + (
            1 / 4 * log(2 / 3)
            + 1 / 2 * log(8 / 7)
            + 1 / 4 * log(4 / 3)
            + 1 / 2 * log(4 / 3)
            + 3 / 8 * log(6 / 7)
            + 1 / 8 * log(2 / 3)
        )
        / 2
    )
    / 2,
    # a 0.8, b 0.3: a b = 0.24, a / (a + b) = 8/11, b / (a + b) = 3/11
    "abkd": -(
        # first sample, sums over (1/2, 1/4, 1/4) and three times 1/3
        (2**-0.8 + 2 * 4**-0.8) * 3**-0.3
        - 8 / 11 * (2**-1.1 + 2 * 4**-1.1)
        - 3 / 11 * 3 * 3**-1.1
        # second sample
        + (4**-0.8 * 2**-0.3 + 2**-0.8 * (3 / 8) ** 0.3 + 4**-0.8 * 8**-0.3)
        - 8 / 11 * (2**-1.1 + 2 * 4**-1.1)
        - 3 / 11 * (2**-1.1 + (3 / 8) ** 1.1 + 8**-1.1)
    )
    / 0.24
    / 2,
    # true class or not: (1/4, 3/4) for (1/3, 2/3), and (1/4, 3/4) for (1/2, 1/2); the others: (2/3,
    # 1/3) for (1/2, 1/2) and for (3/4, 1/4)
    "dkd": (
        (1 / 4 * log(3 / 4) + 3 / 4 * log(9 / 8) + 1 / 4 * log(1 / 2) + 3 / 4 * log(3 / 2))
        + 8 * (2 / 3 * log(4 / 3) + 1 / 3 * log(2 / 3) + 2 / 3 * log(8 / 9) + 1 / 3 * log(4 / 3))
    )
    / 2,
}


def plain(loss, temperature, p=P, q=Q, **options):
    return evaluate(loss, apart(logits(q, temperature)), LABELS, logits(p, temperature), **options)


@pytest.mark.parametrize("name", PLAIN)
def test_a_divergence_at_another_temperature(name):
    for temperature in (1, 2):
        found = plain({"name": name, "temperature": float(temperature)}, temperature)
        assert found == pytest.approx(HARD[temperature] + temperature**2 * PLAIN[name], rel=1e-9)


for each in PLAIN:
    usual = 1 if each == "akl" else 3
    worked(each)(lambda name=each, t=usual: [(plain(name, t), HARD[t] + t**2 * PLAIN[name])])


def test_sbds_is_mix():
    assert plain("sbds", 3) == pytest.approx(HARD[3] + 9 * PLAIN["mix"], rel=1e-9)


@worked("none")
def none():
    return [(evaluate("none", apart(logits(Q, 3)), LABELS), HARD[3])]


@worked("mse")
def mse():
    """Raw logits: 3 log(p / q) is the difference, six of them."""
    squares = log(3 / 2) ** 2 + 2 * log(3 / 4) ** 2 + log(1 / 2) ** 2 + log(4 / 3) ** 2 + log(2) ** 2
    return [(plain("mse", 3), HARD[3] + 9 * squares / 6)]


@worked("wsld")
def wsld():
    return [
        (plain("wsld", 3), HARD[3] + 9 * soft_labels_weighted(3)),
        (plain({"name": "wsld", "temperature": 1.0}, 1), HARD[1] + soft_labels_weighted(1)),
    ]


@worked("dist")
def dist():
    p = [[1 / 2, 1 / 3, 1 / 6], [1 / 3, 1 / 6, 1 / 2]]
    q = [[1 / 2, 1 / 3, 1 / 6], [1 / 6, 1 / 2, 1 / 3]]
    # rows: equal, 1; then (0, -1, 1) and (-1, 1, 0) around 1/3, -1 / (sqrt 2 sqrt 2)
    rows = 1 - (1 - 1 / 2) / 2
    # columns have two numbers, hence correlation 1 or -1: both fall; one falls, one rises; both rise
    columns = 1 - (1 - 1 + 1) / 3
    # q cubed is (27, 8, 1) / 36 with label 1 and (1, 27, 8) / 36 with label 0
    hard = (log(36 / 8) + log(36)) / 2
    return [
        (plain("dist", 3, p, q), hard + 9 * (rows + columns)),
        (plain({"name": "dist", "beta": 2.0, "gamma": 0.5}, 3, p, q), hard + 9 * (2 * rows + columns / 2)),
    ]


def test_the_gradient_of_todi_is_that_of_frozen_weights():
    """Of the first sample alone; with gradient through the weights it would be that of jeffreys."""
    student = logits([Q[0]], 1)[None].requires_grad_()
    objective = make_objective(build_loss({"name": "todi", "temperature": 1.0, "hard": {"weight": 0.0}}))
    objective(
        BatchOutputs(student=student, labels=torch.tensor([0]), teacher=logits([P[0]], 1))
    ).total.backward()
    # w = p / (p + q) is (3/5, 3/7, 3/7); d/dq of w p log(p/q) + (1 - w) q log(q/p) is -w p/q + (1 - w)
    # (log(q/p) + 1)
    first = -3 / 5 * 3 / 2 + 2 / 5 * (log(2 / 3) + 1)
    other = -3 / 7 * 3 / 4 + 4 / 7 * (log(4 / 3) + 1)
    mean = (first + 2 * other) / 3
    expected = [(first - mean) / 3, (other - mean) / 3, (other - mean) / 3]  # q (d/dq - sum q d/dq)
    assert student.grad.flatten().tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("alpha", "beta", "expected"),
    [
        (1.0, 0.0, sum(FORWARD) / 2),
        (0.0, 1.0, sum(REVERSE) / 2),
        # half of sum (p - q)^2
        (1.0, 1.0, (1 / 36 + 1 / 144 + 1 / 144 + 1 / 16 + 1 / 64 + 1 / 64) / 4),
        # half of sum log(p / q)^2
        (0.0, 0.0, (log(3 / 2) ** 2 + 2 * log(3 / 4) ** 2 + 2 * log(2) ** 2 + log(4 / 3) ** 2) / 4),
        # sum p / q - 1 - log(p / q)
        (
            1.0,
            -1.0,
            (3 - 3 - log(3 / 2) - 2 * log(3 / 4) + 1 / 2 + 4 / 3 + 2 - 3 - log(1 / 2) - log(4 / 3) - log(2))
            / 2,
        ),
    ],
)
def test_abkd_at_its_limits(alpha, beta, expected):
    found = plain({"name": "abkd", "temperature": 1.0, "alpha": alpha, "beta": beta}, 1)
    assert found == pytest.approx(HARD[1] + expected, rel=1e-9)


@pytest.mark.parametrize(
    ("epoch", "weight"), [(0, 1 / 19.92), (9, 10 / 19.92), (18, 19 / 19.92), (19, 1), (239, 1)]
)
def test_dkd_warms_up_in_20_of_240_epochs(epoch, weight):
    assert plain("dkd", 3, epoch=epoch, epochs=240) == pytest.approx(
        HARD[3] + weight * 9 * PLAIN["dkd"], rel=1e-9
    )


# -- every timestep --
@worked("tet")
def tet():
    two = log(2)  # logit of a class twice as likely as one at 0; twice that is four times as likely
    student = tensor([[[two, 0, 0], [0, 0, two]], [[0, two, 0], [0, 0, 2 * two]]])
    # probabilities of the labels 0 and 2: 1/2, 1/2, then 1/4, 4/6
    hard = (log(2) + log(2) + log(4) + log(6 / 4)) / 4
    squares = 3 * ((two - 1) ** 2 + 1 + 1) + (2 * two - 1) ** 2 + 1 + 1  # of logit - 1
    return [(evaluate("tet", student, [0, 2]), 0.95 * hard + 0.05 * squares / 12)]


@worked("tser")
def tser():
    teacher = [[1 / 2, 1 / 4, 1 / 4], [1 / 4, 1 / 4, 1 / 2]]
    steps = [[[1 / 2, 1 / 4, 1 / 4], [1 / 3] * 3], [[1 / 4, 1 / 2, 1 / 4], [1 / 4, 1 / 4, 1 / 2]]]
    # cubed: (8, 1, 1) / 10 of label 0, 1/3, (1, 8, 1) / 10, (1, 1, 8) / 10 of label 2
    hard = (log(10 / 8) + log(3) + log(10) + log(10 / 8)) / 4
    # KL(p || q_t): 0; p / q is (3/4, 3/4, 3/2); (2, 1/2, 1); 0
    taught = (0 + 1 / 2 * log(3 / 4) + 1 / 2 * log(3 / 2) + 1 / 2 * log(2) + 1 / 4 * log(1 / 2) + 0) / 4
    entropy = (3 * 3 / 2 * log(2) + log(3)) / 4  # of (1/2, 1/4, 1/4): 1/2 log 2 + 1/2 log 4
    found = evaluate("tser", logits(steps, 3), [0, 2], logits(teacher, 3))
    return [(found, 0.5 * hard + 0.5 * 9 * taught - 0.1 * entropy)]


# the first sample is right (0) in its first timestep only, the second (2) in both: there the logits add up
RIGHT = 3 * log(2) * tensor([[[1, 0, 0], [0, 0, 1]], [[0, 1, 0], [0, 0, 3]]])
RIGHT_LABELS = [0, 2]


@worked("twsnn")
def twsnn():
    # at temperature 3: (2, 1, 1) / 4, (1, 1, 2) / 4; (1, 2, 1) / 4, (1, 1, 8) / 10; cubed 8/10, 8/10;
    # 1/10, 512/514
    hard = (log(10 / 8) + log(10 / 8) + log(10) + log(514 / 512)) / 4
    # the teacher is the first timestep: p / q_1 = (2, 1/2, 1) and (5/2, 5/2, 5/8)
    taught = (0 + 0 + 1 / 2 * log(2) + 1 / 4 * log(1 / 2) + 1 / 2 * log(5 / 2) + 1 / 2 * log(5 / 8)) / 4
    # the right ones: of the first sample that first timestep; of the second the mean logit (0, 0, 2 log
    # 2): (1, 1, 4) / 6
    ensemble = (
        0
        + (1 / 2 * log(2) + 1 / 4 * log(1 / 2))
        + (2 / 6 * log(4 / 6) + 4 / 6 * log(8 / 6))  # over (1, 1, 2) / 4
        + (2 / 6 * log(10 / 6) + 4 / 6 * log(40 / 48))  # over (1, 1, 8) / 10
    ) / 4
    teacher = logits([[1 / 2, 1 / 4, 1 / 4], [1 / 4, 1 / 4, 1 / 2]], 3)
    return [(evaluate("twsnn", RIGHT, RIGHT_LABELS, teacher), hard + 0.2 * 9 * taught + 0.5 * 9 * ensemble)]


@worked("tks")
def tks():
    # time mean: (3/2, 3/2, 0) log 2 of the first sample, (0, 0, 6) log 2 of the second
    hard = (log((2 * 2**1.5 + 1) / 2**1.5) + log(66 / 64)) / 2
    # s: (1, 0, 0) 3 log 2, at temperature 3 (2, 1, 1) / 4; (0, 0, 4) 3 log 2, (1, 1, 16) / 18
    # against log softmax at temperature 1: (8, 1, 1) / 10, (1, 8, 1) / 10; (1, 1, 8) / 10, (1, 1, 512) / 514
    taught = (
        -(1 / 2 * log(0.8) + 1 / 2 * log(0.1))
        - (1 / 4 * log(0.8) + 3 / 4 * log(0.1))
        - (16 / 18 * log(0.8) + 2 / 18 * log(0.1))
        - (16 / 18 * log(512 / 514) + 2 / 18 * log(1 / 514))
    ) / 4
    pairs = []
    for epoch, a in ((0, 1.0), (5, 1 - 0.7 * 5 / 10), (9, 1 - 0.7 * 9 / 10)):
        pairs.append(
            (evaluate("tks", RIGHT, RIGHT_LABELS, epoch=epoch, epochs=10), a * hard + (1 - a) * 9 * taught)
        )
    return pairs


# step 0 is weak, step 1 strong; s2w and w2s have no teacher
SURER = [[[1 / 2, 1 / 4, 1 / 4], [1 / 3] * 3], [[1 / 4, 1 / 2, 1 / 4], [1 / 10, 1 / 10, 8 / 10]]]
# the mean of 2 log q is log of the product: (2, 2, 1) / 16, then (1, 1, 8) / 30
HARD_SURER = (log(5 / 2) + log(10 / 8)) / 2


@worked("w2s")
def w2s():
    taught = 1 / 2 * log(2) + 1 / 4 * log(1 / 2) + 2 / 3 * log(10 / 3) + 1 / 3 * log(10 / 24)
    return [(evaluate("w2s", logits(SURER, 2), [0, 2]), HARD_SURER + 4 * taught / 2)]


@worked("s2w")
def s2w():
    taught = 1 / 4 * log(1 / 2) + 1 / 2 * log(2) + 2 / 10 * log(3 / 10) + 8 / 10 * log(24 / 10)
    return [(evaluate("s2w", logits(SURER, 2), [0, 2]), HARD_SURER + 4 * taught / 2)]


@worked("seal")
def seal():
    teacher = [[1 / 2, 1 / 4, 1 / 4], [1 / 6, 1 / 3, 1 / 2]]
    steps = [[[2 / 3, 1 / 6, 1 / 6], [1 / 4, 1 / 2, 1 / 4]], [[1 / 4, 1 / 2, 1 / 4], [1 / 4, 1 / 4, 1 / 2]]]
    # labels 0 and 2; cubed (64, 1, 1) / 66, (1, 8, 1) / 10; (1, 8, 1) / 10, (1, 1, 8) / 10
    hard = (log(66 / 64) + log(10) + log(10) + log(10 / 8)) / 4
    corrected = (
        (1 / 2 * log(3 / 4) + 1 / 2 * log(3 / 2))  # right: KL(p || (4, 1, 1) / 6)
        + (
            1 / 5 * log(3 / 5) + 4 / 5 * log(6 / 5)
        )  # 1 for 2: student's logit 1 is as 2, equal all; teacher's 1 and 2 are 1/3: (1, 2, 2) / 5
        + 0  # 1 for 0: equal all, on both sides
        + (1 / 6 * log(2 / 3) + 1 / 3 * log(4 / 3))  # right
    ) / 4
    # of two timesteps each is taught by the other alone
    others = (
        (1 / 4 * log(3 / 8) + 1 / 2 * log(3) + 1 / 4 * log(3 / 2))
        + (2 / 3 * log(8 / 3) + 1 / 6 * log(1 / 3) + 1 / 6 * log(2 / 3))
        + 2 * (1 / 4 * log(1 / 2) + 1 / 2 * log(2))
    ) / 4
    found = evaluate("seal", logits(steps, 3), [0, 2], logits(teacher, 3))
    return [(found, hard + 0.6 * 9 * corrected + 0.15 * 9 * others)]


# -- features; those of the student are [T*B, ...], first both samples of the first timestep --
ANSWERS = apart(logits([[1 / 2, 1 / 4, 1 / 4], [1 / 4, 1 / 4, 1 / 2]], 1))
HARD_ANSWERS = (log(2) + log(4)) / 2  # label 0 of both
TEACHER = logits(P, 3)


@torch.no_grad()
def set_weights(layer, weight, bias):
    layer.weight.copy_(tensor(weight).reshape(layer.weight.shape))
    layer.bias.copy_(tensor(bias))


@worked("kdsnn-feature")
def kdsnn_feature():
    ours = {
        "stage1": tensor([[1, 0, 0, 0], [0, 2, 0, 0], [1, 2, 0, 0], [0, 0, 0, 2]]).reshape(4, 1, 2, 2),
        "stage2": tensor([[1, 0], [0, 4], [3, 0], [0, 0]]).reshape(4, 2, 1, 1),
    }
    # over time (1, 1, 0, 0), (0, 1, 0, 1); the aligner makes channels 2 x and 1 - x of it:
    # (2, 2, 0, 0 | 0, 0, 1, 1) and (0, 2, 0, 2 | 1, 0, 1, 0)
    theirs = {
        "stage1": tensor([[1, 2, 0, 0, 0, 0, 0, 1], [0, 2, 0, 0, 1, 1, 1, 0]]).reshape(2, 2, 2, 2),
        "stage2": tensor([[2, 1], [3, 2]]).reshape(2, 2, 1, 1),
    }
    first = (1 + 1 + 4 + 1) / 16
    second = (0 + 1 + 9 + 0) / 4  # (2, 0) and (0, 2) over time

    def prepare(objective):
        set_weights(objective.feature_terms[0].aligners[0], [2, -1], [0, 1])

    found = evaluate("kdsnn-feature", ANSWERS, [0, 0], TEACHER, ours, theirs, prepare=prepare)
    return [(found, HARD_ANSWERS + first + second)]


@worked("lasnn")
def lasnn():
    ours = {
        "stage1": tensor(
            [
                [4, 0, 0, 0, 0, 2, 0, 0],
                [1, 1, 1, 1, 0, 0, 0, 0],
                [0, 0, 0, 0, 0, 2, 0, 0],
                [1, 1, 1, 1, 0, 0, 0, 0],
            ]
        ),
        "stage2": tensor([[2, 0], [6, 2], [0, 2], [0, 6]]).reshape(4, 1, 1, 2),
    }
    ours["stage1"] = ours["stage1"].reshape(4, 2, 2, 2)
    theirs = {
        "stage1": torch.zeros(2, 3, 2, 2, dtype=torch.float64),
        "stage2": tensor([[0, 5], [0, 3]]).reshape(2, 1, 1, 2),
    }
    theirs["stage1"][0, 2, 0, 0] = -3  # a map of one position: (1, 0, 0, 0)
    theirs["stage1"][1, :, 0, 1] = 2
    # student, squares over time mean and channels, as unit vectors: (1, 1, 0, 0) / sqrt 2 and (1, 1, 1,
    # 1) / 2
    first = (2 - 2 / sqrt(2)) + (2 - 2 / 2)
    second = (2 - 2 / sqrt(2)) + (
        2 - 2 * 16 / sqrt(9**2 + 16**2)
    )  # (1, 1) and (3, 4) over time against (0, 1)
    return [
        (evaluate("lasnn", ANSWERS, [0, 0], TEACHER, ours, theirs), HARD_ANSWERS + first / 2 + second / 2)
    ]


@worked("bkdsnn")
def bkdsnn():
    """Without drop and rescaling; only the last stage counts."""
    ours = {
        "stage1": torch.full((4, 1, 2, 2), 9.0),
        "stage2": tensor([[6, 0, 0, 4], [0, 1, 1, 1], [0, 2, 0, 0], [0, 1, 1, 1]]),
    }
    ours["stage2"] = ours["stage2"].reshape(4, 1, 2, 2)
    theirs = {
        "stage1": torch.zeros(2, 1, 2, 2),
        "stage2": tensor([[5, 2, 1, 3], [0, 3, 1, 3]]).reshape(2, 1, 2, 2),
    }

    def prepare(objective):
        first, _, second = objective.feature_terms[0].rebuilders[0]
        set_weights(first, [0, 0, 0, 0, 1, -1, 0, 0, 0], [0])  # minus the right neighbour
        set_weights(second, [0, 0, 0, 0, 2, 0, 0, 0, 0], [1])

    # over time [3 1; 0 2] and [0 1; 1 1]; minus the neighbour, ReLU: [2 1; 0 2] and [0 1; 0 1]; 2 x +
    # 1: [5 3; 1 5] and [1 3; 1 3]
    squares = (0 + 1 + 0 + 4) + 1
    loss = {"name": "bkdsnn", "drop": 0.0, "rescale": False}
    found = evaluate(loss, apart(logits(Q, 2)), LABELS, logits(P, 2), ours, theirs, prepare=prepare)
    return [(found, HARD[2] + 4 * soft_labels_weighted(2) + 2e-3 * squares / 2)]


CAMS = torch.full((2, 3, 4), 7.0, dtype=torch.float64)  # of the classes that are not answered
CAMS[0, 0], CAMS[1, 1] = tensor([1, 0, 0, 0]), tensor([0, 1, 1, 0])
SPIKES = torch.zeros(4, 2, 4, dtype=torch.float64)
SPIKES[2, 1, 1] = SPIKES[1, 0, 0] = (
    1  # of the first sample in the second timestep, of the second in the first
)
MAPS = {"stage2": SPIKES.reshape(4, 2, 2, 2)}, {"class_map": CAMS.reshape(2, 3, 2, 2)}
# both maps run from 0 to 1; with r = exp(1/2) the teacher's are (r, 1, 1, 1) / (r + 3) and (1, r, r, 1) /
# (2 r + 2), the student's
# (1, r, 1, 1) and (r, 1, 1, 1), both over r + 3
ROOT = sqrt(e)
SALIENCY = (
    (ROOT * 1 / 2 - 1 / 2) / (ROOT + 3)
    + (-1 * 1 / 2 + 2 * ROOT * 1 / 2) / (2 * ROOT + 2)
    + log(ROOT + 3)
    - log(2 * ROOT + 2)
) / 2


@worked("ckdsnn")
def ckdsnn():
    """Without noise, and with a tenth of it, whose normal numbers are drawn again here."""
    student, teacher = apart(logits(Q, 2)), logits(P, 2)
    quiet = evaluate({"name": "ckdsnn", "noise": 0.0}, student, LABELS, teacher, *MAPS)
    loud = evaluate("ckdsnn", student, LABELS, teacher, *MAPS, prepare=lambda _: torch.manual_seed(5))
    torch.manual_seed(5)
    noised = 0.0
    for p, q, z, numbers in zip(
        P, Q, teacher.tolist(), torch.randn(2, 3, dtype=torch.float64).tolist(), strict=True
    ):
        mean = sum(z) / 3
        std = sqrt(sum((x - mean) ** 2 for x in z) / 2)
        powers = [exp((mean + std * n) / 2) for n in numbers]
        mixed = [0.9 * x + 0.1 * power / sum(powers) for x, power in zip(p, powers, strict=True)]
        noised += sum(m * log(m / x) for m, x in zip(mixed, q, strict=True)) / 2
    return [(quiet, HARD[2] + 4 * SALIENCY + 4 * PLAIN["kl"]), (loud, HARD[2] + 4 * SALIENCY + 4 * noised)]


@worked("enof")
def enof():
    head = nn.Linear(2, 3).double().requires_grad_(False)
    set_weights(head, [log(2), 0, 0, 0, 0, log(4)], [0, log(2), 0])
    # over time (1, 0) and (0, 1): the head gives (2, 2, 1) / 5 and (1, 2, 4) / 7
    ours = {"output": tensor([[2, 0], [0, 0], [0, 0], [0, 2]])}
    # (1, 2, 1) / 4 and (2, 2, 4) / 8
    theirs = {"output": tensor([[0, 0], [1, 1]])}
    first = 1 / 4 * log(5 / 8) + 1 / 2 * log(5 / 4) + 1 / 4 * log(5 / 4)
    second = 1 / 4 * log(7 / 4) + 1 / 4 * log(7 / 8) + 1 / 2 * log(7 / 8)
    return [
        (
            evaluate("enof", ANSWERS, [0, 0], TEACHER, ours, theirs, head=head),
            HARD_ANSWERS + (first + second) / 2,
        )
    ]


@worked("sakd")
def sakd():
    ours = {
        "stage1": tensor([[0, 1], [3, 0], [2, 1], [1, 0]]).reshape(4, 1, 1, 2)
    }  # over time (1, 1) and (2, 0)
    theirs = {"stage1": tensor([[1, 0], [0, 1]]).reshape(2, 1, 1, 2)}
    found = evaluate("sakd", apart(logits(Q, 3)), LABELS, TEACHER, ours, theirs)
    return [(found, HARD[3] + 9 * PLAIN["kl"] + (0 + 1 + 4 + 1) / 4)]


def test_what_methods_say_outside_the_loss():
    said = {
        e.name: {key: value for key, value in preset_section(e.name).items() if key != "loss"} for e in LOSSES
    }
    assert {name: value for name, value in said.items() if value} == {
        "enof": {"neuron": {"last": "relu"}},
        "sakd": {"train": {"init": "teacher"}},
    }


def test_who_needs_no_teacher():
    assert {e.name for e in LOSSES if not build_loss(e.name).needs_teacher} == {
        "none",
        "tet",
        "tks",
        "w2s",
        "s2w",
    }
