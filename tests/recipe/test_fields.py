"""Coercion by the field's type, ranges, unknown keys; every refusal is one line that shows the value."""

import dataclasses
import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snnkd.catalog.losses import DIVERGENCES
from snnkd.errors import UsageError
from snnkd.schema import data, fields, model, neuron, run

SECTIONS = [
    value
    for value in vars(run).values()
    if isinstance(value, type)
    and dataclasses.is_dataclass(value)
    and value is not run.Bounds
    and value is not run.StageRecipe
]
FIELDS = [(section, field.name) for section in SECTIONS for field in dataclasses.fields(section)]

numbers = (
    st.integers(-(10**20), 10**20)
    | st.floats()
    | st.sampled_from(["1e-4", "12", "12.0", " 7 ", "0x10", "1_000", "nan", "-inf", ""])
)
leaves = (
    st.none()
    | st.booleans()
    | numbers
    | st.text(max_size=6)
    | st.dates()
    | st.sampled_from(["on", "off", "lif", "crop", "kl", "\n", "a\nb"])
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4) | st.integers() | st.none(), inner, max_size=3)
    ),
    max_leaves=6,
)


def refusal(section: type, key: str, value: object) -> str:
    with pytest.raises(UsageError) as caught:
        fields.build(section, {key: value}, "s")
    message = str(caught.value)
    assert message.splitlines() == [message]
    assert f"s.{key}" in message
    assert str(value) in message or repr(value) in message
    return message


def train(**given_values: object) -> run.TrainConfig:
    return fields.build(run.TrainConfig, given_values, "train")


@pytest.mark.parametrize("value", ["1e-4", 1e-4, "0.0001"])
def test_text_that_yaml_does_not_read_as_a_number_becomes_one(value):
    assert train(weight_decay=value).weight_decay == 1e-4


@pytest.mark.parametrize("value", [12, "12", 12.0, "12.0", "1.2e1"])
def test_whole_numbers(value):
    made = train(epochs=value).epochs
    assert made == 12
    assert type(made) is int


def test_a_whole_number_in_quotes_keeps_all_its_digits():
    assert fields.build(run.TeachRecipe, {**stage(), "seed": str(2**63 - 1)}, "").seed == 2**63 - 1


def stage() -> dict[str, object]:
    return {"data": {}, "model": {}, "train": {}}


@pytest.mark.parametrize(
    "value", [12.5, "12.5", True, False, None, "many", [3], "1e400", "nan", float("inf")]
)
def test_what_is_no_whole_number(value):
    assert "number" in refusal(run.TrainConfig, "epochs", value)


@pytest.mark.parametrize("value", ["nan", float("nan"), float("inf"), "-inf", ".inf", "1e999", True, None])
def test_what_is_no_number(value):
    assert "number" in refusal(run.TrainConfig, "lr", value)


@pytest.mark.parametrize(("value", "wanted"), [(True, "on"), (False, "off"), ("on", "on"), ("auto", "auto")])
def test_on_and_off_are_words_where_they_are_choices(value, wanted):
    assert fields.build(run.ExecutionConfig, {"compile": value}, "execution").compile == wanted


def test_a_truth_value_is_no_choice_elsewhere():
    assert "hard" in refusal(neuron.NeuronConfig, "reset", "firm")
    refusal(data.GlyphsConfig, "channels", 2)
    with pytest.raises(UsageError, match=r"s\.channels"):
        fields.build(data.GlyphsConfig, {"channels": True}, "s")


@pytest.mark.parametrize(("value", "wanted"), [("yes", True), ("off", False), (True, True), ("False", False)])
def test_truth_values(value, wanted):
    assert fields.build(neuron.NeuronConfig, {"detach_reset": value}, "neuron").detach_reset is wanted


@pytest.mark.parametrize("value", [1, 0, "maybe", None, []])
def test_what_is_no_truth_value(value):
    refusal(neuron.NeuronConfig, "detach_reset", value)


def test_lists_become_tuples():
    assert fields.build(data.DataConfig, {"augment": ["flip", "crop"]}, "data").augment == ("flip", "crop")
    assert fields.build(data.DataConfig, {"augment": []}, "data").augment == ()


@pytest.mark.parametrize("value", ["crop", {"crop": 1}, None, 3, "a\nb"])
def test_what_is_no_list(value):
    refusal(data.DataConfig, "augment", value)


def test_a_bad_list_item_is_named_by_its_number():
    with pytest.raises(UsageError, match=r"data\.augment\.1: 'mirror'"):
        fields.build(data.DataConfig, {"augment": ["crop", "mirror"]}, "data")


def test_text_takes_numbers_and_dates_but_no_truth_value():
    assert fields.build(run.TeacherConfig, {"run": 12}, "teacher").run == "12"
    assert fields.build(run.TeacherConfig, {"run": datetime.date(2024, 1, 2)}, "teacher").run == "2024-01-02"
    refusal(run.TeacherConfig, "run", True)


@pytest.mark.parametrize(
    ("section", "key", "good", "bad"),
    [
        (data.DataConfig, "val_fraction", [0, 0.5], [-0.01, 0.51]),
        (data.GlyphsConfig, "size", [8, 64], [7, 65]),
        (neuron.NeuronConfig, "tau", [1.0001], [1, 0]),
        (neuron.NeuronConfig, "threshold", [1e-9], [0, -1]),
        (run.TrainConfig, "momentum", [0, 0.999], [1, 1.0, -0.1]),
        (DIVERGENCES["hta-kl"].options, "delta", [0.001, 1], [0, 1.001]),
        (model.ModelConfig, "T", [1, 1024, None], [0, 1025, -1]),
        (run.TrainConfig, "batch_size", [2], [1]),
    ],
)
def test_bounds_open_and_closed(section, key, good, bad):
    for value in good:
        assert getattr(fields.build(section, {key: value}, "s"), key) == value
    for value in bad:
        assert "it must be" in refusal(section, key, value)


def test_an_unknown_key_has_a_suggestion():
    with pytest.raises(
        UsageError, match=r"unknown key 'train\.weight_decai'; did you mean 'train\.weight_decay'\?"
    ):
        train(weight_decai=1)
    with pytest.raises(UsageError, match=r"unknown key 'train\.3'"):
        fields.build(run.TrainConfig, {3: 1}, "train")


def test_what_is_no_section():
    with pytest.raises(UsageError, match="train: 'fast' is not a mapping"):
        fields.build(run.TrainConfig, "fast", "train")


def test_a_missing_section_is_named():
    with pytest.raises(UsageError, match="recipe: lacks data, model"):
        fields.build(run.TeachRecipe, {"train": {}}, "")


@settings(max_examples=15, deadline=None)
@pytest.mark.parametrize(("section", "key"), FIELDS)
@given(value=values)
def test_any_value_for_any_field_is_taken_or_refused_in_one_line(section, key, value):
    try:
        made = fields.build(section, {key: value}, "s")
    except UsageError as error:
        made, message = None, str(error)
    if made is None:
        assert message.splitlines() == [message]
        assert f"s.{key}" in message or "s: lacks" in message
    else:
        assert isinstance(made, section)
