"""Terms between features: aligners, pairing, sizes, what gets gradients, and that each can be minimised."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from snnkd.catalog.losses import FEATURES
from snnkd.errors import UsageError
from snnkd.losses.features import attention_map, match_sizes, mean_over_time
from snnkd.losses.objective import NetworkInfo, make_objective
from snnkd.losses.outputs import BatchOutputs
from snnkd.recipe.loss_section import build_loss
from snnkd.training.step import Teacher

D = torch.float64
T, B, C = 2, 3, 4
NAMES = [entry.name for entry in FEATURES]
WITH_ALIGNER = ["mse", "blurred", "classifier"]
every = pytest.mark.parametrize("name", NAMES)
aligned = pytest.mark.parametrize("name", WITH_ALIGNER)


def section(name, **options):
    return build_loss({"name": "custom", "hard": {"weight": 0.0}, "terms": [{"feature": name, **options}]})


def features(rows, stages, output, size=4, seed=0):
    """What a network offers: stage1, stage2, ... of these channels, each half as high as the one before,
    output, class_map."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [max(1, size >> i) for i in range(len(stages))]
    found = {
        f"stage{i + 1}": torch.rand(rows, c, s, s, generator=generator, dtype=D)
        for i, (c, s) in enumerate(zip(stages, sizes, strict=True))
    }
    found["output"] = torch.rand(rows, output, generator=generator, dtype=D)
    found["class_map"] = torch.randn(rows, C, sizes[-1], sizes[-1], generator=generator, dtype=D)
    return found


def shapes(found):
    return {name: tuple(x.shape[1:]) for name, x in found.items()}


class Scene:
    """A feature term between a student and a teacher of given stages; `value()` is the term."""

    def __init__(self, name, ours=(3, 5), theirs=(3, 5), size=4, teacher_size=4, head=None, **options):
        torch.manual_seed(0)
        self.ours = {key: x.requires_grad_() for key, x in features(T * B, ours, ours[-1], size).items()}
        self.theirs = features(B, theirs, theirs[-1], teacher_size, seed=1)
        self.head = head or nn.Linear(theirs[-1], C, dtype=D).requires_grad_(False)
        self.logits = torch.randn(B, C, dtype=D)
        around = NetworkInfo(
            classes=C, student=shapes(self.ours), teacher=shapes(self.theirs), teacher_head=self.head
        )
        self.objective = make_objective(section(name, **options), 0.0, around).double()
        (self.term,) = self.objective.feature_terms

    @property
    def pairs(self):
        return [(pair.student, pair.teacher) for pair in self.term.pairs]

    def value(self, **changed):
        given = {
            "student_features": self.ours,
            "teacher_features": self.theirs,
            "teacher": self.logits,
            **changed,
        }
        student = torch.zeros(T, B, C, dtype=D)
        return self.objective(
            BatchOutputs(student=student, labels=torch.zeros(B, dtype=torch.int64), **given)
        ).total


# -- aligners --
@aligned
def test_aligners_exist_only_where_widths_differ(name):
    same, wider = Scene(name).term.aligners, Scene(name, (2, 5), (3, 6)).term.aligners
    assert all(isinstance(aligner, nn.Identity) for aligner in same)
    assert not any(isinstance(aligner, nn.Identity) for aligner in wider)
    one = Scene("mse", (2, 5), (3, 5)).term.aligners
    assert [type(aligner) for aligner in one] == [nn.Conv2d, nn.Identity]
    assert one[0].weight.shape == (3, 2, 1, 1)
    (linear,) = Scene("classifier", (2, 5), (3, 6)).term.aligners
    assert linear.weight.shape == (6, 5)


@pytest.mark.parametrize("name", ["attention", "saliency"])
def test_maps_over_positions_need_no_aligner(name):
    scene = Scene(name, (2, 5), (3, 6))
    assert not list(scene.objective.parameters())
    assert scene.value().isfinite()


@aligned
def test_aligners_are_trained(name):
    scene = Scene(name, (2, 5), (3, 6))
    scene.value().backward()
    parameters = dict(scene.objective.named_parameters())
    assert any("aligners" in key for key in parameters)
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in parameters.values())


def test_what_is_trained_besides_aligners():
    """The rebuilders of blurred: two 3x3 convolutions at the teacher's width; nothing else, not the teacher's
    head."""
    for name in NAMES:
        found = [tuple(p.shape) for p in Scene(name).objective.parameters()]
        assert found == ([(5, 5, 3, 3), (5,), (5, 5, 3, 3), (5,)] if name == "blurred" else [])
    assert not any("head" in key for key in Scene("classifier", (2, 5), (3, 6)).objective.state_dict())


def test_aligners_follow_the_seed():
    first, second = (Scene("mse", (2, 5), (3, 6)).objective.state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)


# -- gradients --
@every
def test_the_compared_student_features_get_gradients(name):
    scene = Scene(name)
    scene.value().backward()
    taught = {key for key, x in scene.ours.items() if x.grad is not None and x.grad.abs().max() > 0}
    expected = {"classifier": {"output"}, "mse": {"stage1", "stage2"}, "attention": {"stage1", "stage2"}}
    assert taught == expected.get(name, {"stage2"})
    assert taught == set(scene.objective.student_features)


@every
def test_every_timestep_gets_the_same_gradient(name):
    scene = Scene(name)
    scene.value().backward()
    for key in scene.objective.student_features:
        first, second = scene.ours[key].grad.unflatten(0, (T, B))
        assert torch.equal(first, second)


class TeacherNetwork(nn.Module):
    """A network with the features of a stage, its mean and a map of classes."""

    def __init__(self):
        super().__init__()
        self.stage, self.head = nn.Conv2d(1, 5, 3, padding=1), nn.Linear(5, C)
        self.specification = SimpleNamespace(T=1)

    def forward(self, images, T, features):
        stage = self.stage(images).relu()
        output = stage.mean((2, 3))
        class_map = torch.einsum("nchw,kc->nkhw", stage, self.head.weight)
        for key, value in (("stage1", stage), ("output", output), ("class_map", class_map)):
            features.kept[key] = value
        return self.head(output)[None]


@every
def test_the_teacher_gets_no_gradient(name):
    """Neither its features nor its head, through which classifier's gradient passes."""
    network = TeacherNetwork().double()
    logits, features = Teacher(network, ["stage1", "output", "class_map"])(torch.rand(B, 1, 4, 4, dtype=D))
    scene = Scene(name, (5,), (5,), head=network.head)
    assert not any(x.requires_grad for x in features.values())
    before = [p.clone() for p in network.parameters()]
    optimizer = torch.optim.SGD([*scene.ours.values(), *scene.objective.parameters()], lr=0.1)
    scene.value(teacher=logits, teacher_features=features).backward()
    optimizer.step()
    assert all(p.grad is None for p in network.parameters())
    assert all(torch.equal(p, old) for p, old in zip(network.parameters(), before, strict=True))
    assert any(x.grad is not None for x in scene.ours.values())


# -- gradient descent --
DIFFERENT = {"ours": (2, 5), "theirs": (3, 6), "size": 4, "teacher_size": 8}


@every
@pytest.mark.parametrize("widths", [{}, DIFFERENT], ids=["alike", "different"])
def test_gradient_descent_lowers_the_term(name, widths):
    """By 90 %; the least value of each is 0. blurred without drop, which is noise."""
    options = {"drop": 0.0} if name == "blurred" else {}
    scene = Scene(name, **widths, **options)
    optimizer = torch.optim.Adam([*scene.ours.values(), *scene.objective.parameters()], lr=0.05)
    first = scene.value().item()
    for _ in range(300):
        optimizer.zero_grad()
        scene.value().backward()
        optimizer.step()
    assert first > 1e-3
    assert -1e-12 < scene.value().item() < 0.1 * first


@pytest.mark.parametrize("name", ["mse", "attention", "saliency", "classifier"])
def test_the_least_value_is_0(name):
    """Where the time mean of the student's features is the teacher's (saliency: where the spikes add up to
    its map)."""
    scene = Scene(name)
    theirs = dict(scene.theirs)
    if name == "saliency":
        scene.logits = F.one_hot(torch.tensor([1, 0, 2]), C).double()
        answered = theirs["class_map"][torch.arange(B), [1, 0, 2]][:, None]
        ours = {"stage2": torch.cat([answered, torch.zeros(B, 4, 2, 2, dtype=D)], 1).repeat(T, 1, 1, 1)}
    else:
        ours = {key: torch.cat([0.5 * x, 1.5 * x]) for key, x in theirs.items()}
    assert scene.value(student_features=ours).item() == pytest.approx(0, abs=1e-12)
    assert scene.value().item() > 1e-3


# -- time and size --
def test_the_mean_over_time_is_by_sample():
    """Rows are (t, b): [0, 1 | 10, 11] at T = 2 has the means 5 and 6."""
    assert mean_over_time(torch.tensor([[0.0], [1], [10], [11]]), 2).tolist() == [[5], [6]]
    assert mean_over_time(torch.ones(4, 1, dtype=torch.float16), 2).dtype == torch.float32


def test_the_larger_map_is_averaged_to_the_smaller():
    large, small = torch.arange(16.0).reshape(1, 1, 4, 4), torch.zeros(1, 1, 2, 2)
    for x, y in (match_sizes(large, small), match_sizes(small, large)[::-1]):
        assert x.flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
        assert y is not large
        assert y.shape == (1, 1, 2, 2)
    tall, wide = torch.ones(1, 1, 4, 2), torch.ones(1, 1, 2, 4)
    assert [x.shape for x in match_sizes(tall, wide)] == [(1, 1, 2, 2)] * 2
    vectors = torch.ones(2, 3), torch.ones(2, 3)
    assert match_sizes(*vectors) == vectors


def test_a_larger_teacher_is_compared_at_the_students_size():
    """mse of ones with blocks whose means are 1, 1, 1 and 3: 4 over four places."""
    teacher = torch.ones(B, 1, 4, 4)
    teacher[:, :, 2, 2], teacher[:, :, 3, 3] = 5, 5
    scene = Scene("mse", (1,), (1,), size=2)
    value = scene.value(
        student_features={"stage1": torch.ones(T * B, 1, 2, 2)}, teacher_features={"stage1": teacher}
    )
    assert value.item() == pytest.approx(1)


@pytest.mark.parametrize("name", ["mse", "attention", "blurred", "saliency"])
@pytest.mark.parametrize(("size", "teacher_size"), [(4, 8), (8, 4), (6, 4)])
def test_unlike_sizes_are_compared(name, size, teacher_size):
    scene = Scene(name, size=size, teacher_size=teacher_size)
    value = scene.value()
    value.backward()
    assert value.isfinite()
    assert value.item() > 0
    assert all(scene.ours[key].grad.isfinite().all() for key in scene.objective.student_features)


# -- single terms --
def test_attention_maps_are_unit_vectors_and_silence_stays_zero():
    found = attention_map(torch.rand(B, 5, 2, 2))
    assert torch.allclose(found.norm(dim=1), torch.ones(B))
    silent = torch.zeros(B, 5, 2, 2, requires_grad=True)
    attention_map(silent).sum().backward()
    assert attention_map(silent).count_nonzero() == 0
    assert silent.grad.isfinite().all()


def test_attention_does_not_see_scale():
    scene = Scene("attention")
    louder = {key: 7 * x for key, x in scene.ours.items()}
    assert scene.value(student_features=louder).item() == pytest.approx(scene.value().item(), rel=1e-5)


def pass_on(rebuilder):
    for layer in rebuilder[::2]:
        nn.init.dirac_(layer.weight)
        nn.init.zeros_(layer.bias)


@pytest.mark.parametrize("drop", [0.15, 0.5])
def test_blurred_drops_channels(drop):
    """All is 1: each dropped channel is 1 away at its 4 places, a kept one (not raised for the others) at
    none; new ones each time."""
    scene = Scene("blurred", (400,), (400,), size=2, teacher_size=2, drop=drop)
    pass_on(scene.term.rebuilders[0])
    ones = {"stage1": torch.ones(T * B, 400, 2, 2, dtype=D)}
    torch.manual_seed(0)
    first, second = (
        scene.value(student_features=ones, teacher_features={"stage1": ones["stage1"][:B]}).item() * B / 4
        for _ in range(2)
    )
    assert first == pytest.approx(round(first), abs=1e-9)
    assert first / (400 * B) == pytest.approx(drop, abs=4 * (drop * (1 - drop) / (400 * B)) ** 0.5)
    assert first != second


def test_dropped_channels_are_not_seen():
    """Channels without gradient may say anything; others may not. Without drop all are seen, each time the
    same."""
    scene = Scene("blurred", (8,), (8,), drop=0.5, rescale=False)

    def seeded(**changed):
        torch.manual_seed(1)
        return scene.value(**changed)

    value = seeded()
    (gradient,) = torch.autograd.grad(value, scene.ours["stage1"])
    dropped = gradient.abs().sum((2, 3), keepdim=True) == 0
    assert 0.2 < dropped.double().mean() < 0.8
    for which, same in ((dropped, True), (~dropped, False)):
        assert (
            seeded(student_features={"stage1": scene.ours["stage1"] + 5 * which}).item() == value.item()
        ) == same
    steady = Scene("blurred", drop=0.0)
    steady.value().backward()
    assert (steady.ours["stage2"].grad.abs().sum((2, 3)) > 0).all()
    assert steady.value().item() == steady.value().item()


def test_blurred_is_the_distance_to_the_teacher():
    """Rebuilders that pass on; student up to 2, teacher 10 times it: equal after scaling, 9 x away
    without."""
    ours = torch.tensor([0.0, 1, 2, 0.5], dtype=D).reshape(1, 1, 2, 2).repeat(T * B, 1, 1, 1)
    for rescale, expected in ((True, 0), (False, 81 * (1 + 4 + 0.25))):
        scene = Scene("blurred", (1,), (1,), drop=0.0, rescale=rescale)
        pass_on(scene.term.rebuilders[0])
        value = scene.value(student_features={"stage1": ours}, teacher_features={"stage1": 10 * ours[:B]})
        assert value.item() == pytest.approx(expected, abs=1e-5)


def test_blurred_without_anything_positive_stays_bounded():
    scene = Scene("blurred", (8,), (8,), drop=0.0)
    assert scene.value(teacher_features={"stage1": -scene.theirs["stage1"].abs() - 1}).item() < 1e5
    assert scene.value(student_features={"stage1": torch.zeros_like(scene.ours["stage1"])}).item() < 1e5


def test_a_silent_stage_gets_a_bounded_gradient_from_saliency():
    scene = Scene("saliency")
    silent = torch.zeros_like(scene.ours["stage2"], requires_grad=True)
    scene.value(student_features={"stage2": silent}).backward()
    assert silent.grad.abs().max() < 1e3


def test_saliency_scales_both_maps_to_0_and_1():
    scene = Scene("saliency")
    ours = {"stage2": 3 * scene.ours["stage2"]}
    theirs = {"class_map": 5 * scene.theirs["class_map"] + 2}
    assert scene.value(student_features=ours, teacher_features=theirs).item() == pytest.approx(
        scene.value().item(), rel=1e-4
    )


def test_saliency_looks_at_the_class_the_teacher_answers():
    scene = Scene("saliency")
    scene.logits = torch.tensor([[0.0, 9, 1, 2]], dtype=D).repeat(B, 1)
    before = scene.value().item()
    scene.theirs["class_map"][:, [0, 2, 3]] += 100
    assert scene.value().item() == before
    scene.theirs["class_map"][0, 1, 0, 0] += 2
    assert scene.value().item() != pytest.approx(before, rel=1e-3)


@pytest.mark.parametrize("name", ["saliency", "classifier"])
def test_the_temperature_of_a_feature_term(name):
    """Far above all differences KL x temperature^2 goes to half the variance of the differences of its
    logits: it settles."""
    values = [Scene(name, temperature=temperature).value().item() for temperature in (1.0, 200.0, 400.0)]
    assert values[1] == pytest.approx(values[2], rel=0.01)
    assert values[0] != pytest.approx(values[1], rel=1e-4)


# -- names and pairs --
@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("mse", [("stage1", "stage1"), ("stage2", "stage2")]),
        ("attention", [("stage1", "stage1"), ("stage2", "stage2")]),
        ("blurred", [("stage2", "stage2")]),
        ("saliency", [("stage2", "class_map")]),
        ("classifier", [("output", "output")]),
    ],
)
def test_the_features_a_term_takes(name, pairs):
    assert Scene(name).pairs == pairs


@pytest.mark.parametrize(
    ("ours", "theirs", "pairs"),
    [
        ((3, 5), (3, 3, 5), [("stage1", "stage2"), ("stage2", "stage3")]),
        ((3, 3, 5), (5,), [("stage3", "stage1")]),
    ],
)
def test_of_unlike_depths_the_last_stages_are_paired(ours, theirs, pairs):
    scene = Scene("mse", ours, theirs)
    assert scene.pairs == pairs
    assert scene.objective.student_features == tuple(name for name, _ in pairs)
    assert scene.objective.teacher_features == tuple(name for _, name in pairs)
    assert scene.value().item() > 0


def test_named_features_are_paired_in_order():
    scene = Scene("mse", student=("stage2", "output"), teacher=("stage1", "output"))
    assert scene.pairs == [("stage2", "stage1"), ("output", "output")]
    assert scene.value().isfinite()


@every
@pytest.mark.parametrize("side", ["student", "teacher"])
def test_an_unknown_feature_is_refused_with_those_there_are(name, side):
    with pytest.raises(UsageError) as caught:
        Scene(name, **{side: ("stage9",)})
    assert str(caught.value).startswith(f"loss.terms.0.{side}: ")
    for said in ("'stage9'", "stage1, stage2, output, class_map"):
        assert said in str(caught.value)


@every
def test_a_network_without_features_is_refused(name):
    with pytest.raises(UsageError, match=r"loss\.terms\.0\.student: .* it has none"):
        make_objective(section(name), 0.0, NetworkInfo(teacher_head=nn.Linear(5, C)))


@pytest.mark.parametrize(
    "given",
    [
        {"student": ("stage1", "stage2"), "teacher": ("stage1",)},
        {"student": ("stage1",)},
        {"student": ("stage1",), "teacher": ("stage1", "stage2")},
    ],
)
def test_unequal_counts_are_refused(given):
    with pytest.raises(UsageError, match=r"loss\.terms\.0: \d student and \d teacher features"):
        Scene("mse", **given)


def test_a_map_and_a_vector_are_refused():
    with pytest.raises(UsageError, match=r"student stage1 has shape \[3, 4, 4\], teacher output \[5\]"):
        Scene("mse", student=("stage1",), teacher=("output",))


def test_a_teacher_without_a_head_is_refused():
    shape = shapes(features(B, (3, 5), 5))
    with pytest.raises(UsageError, match=r"loss\.terms\.0: .* no linear layer 'head'; classifier needs one"):
        make_objective(section("classifier"), 0.0, NetworkInfo(student=shape, teacher=shape))
    make_objective(section("mse"), 0.0, NetworkInfo(student=shape, teacher=shape))


@pytest.mark.parametrize(
    ("feature", "student", "teacher", "said"),
    [
        ("attention", "output", "output", "attention compares maps"),
        ("blurred", "output", "output", "blurred compares maps"),
        ("mse", "stage1", "output", "compare maps with maps"),
        ("saliency", "stage1", "stage1", "saliency takes the teacher's class_map, not stage1"),
        ("classifier", "stage1", "stage1", "classifier takes the teacher's output, not stage1"),
    ],
)
def test_features_that_a_term_cannot_compare_are_refused(feature, student, teacher, said):
    shapes = {"stage1": (4, 2, 2), "class_map": (3, 2, 2), "output": (4,)}
    loss = build_loss({"terms": [{"feature": feature, "student": [student], "teacher": [teacher]}]})
    with pytest.raises(UsageError, match=said):
        make_objective(
            loss, 0.0, NetworkInfo(student=shapes, teacher=shapes, teacher_head=torch.nn.Linear(4, 3))
        )
