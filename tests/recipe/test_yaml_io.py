"""YAML in and out: plain data makes the round trip, everything else is refused as a bad file."""

import dataclasses
import math

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from snnkd.catalog.losses import DIVERGENCES
from snnkd.errors import FileError
from snnkd.recipe import yaml_io
from snnkd.schema.loss import LossConfig


def letters(most: int) -> st.SearchStrategy[str]:
    """Text without the line ends of other alphabets, which PyYAML writes as they are and reads as line
    ends."""
    return st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\x85\u2028\u2029"), max_size=most
    )


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | letters(20)
    | st.sampled_from(["010", "1:30", "1e5", "1_000", "0x1f", "2026-01-01", "+.5e3", ".inf"])
)
words = letters(8)
data = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


def refusal(content: bytes | str) -> str:
    with pytest.raises(FileError) as caught:
        yaml_io.parse_yaml(content.encode() if isinstance(content, str) else content, "mine.yaml")
    message = str(caught.value)
    assert caught.value.exit_code == 3
    assert message.startswith("mine.yaml: ")
    assert message.splitlines() == [message]
    return message


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(words, data, max_size=4))
def test_round_trip(value):
    assert yaml_io.parse_yaml(yaml_io.dump_yaml(value).encode(), "x") == value


def test_a_dataclass_is_written_without_its_empty_optional_keys():
    made = yaml_io.parse_yaml(
        yaml_io.dump_yaml(
            LossConfig(name="hta-kl", terms=(DIVERGENCES["hta-kl"].options(divergence="hta-kl"),))
        ).encode(),
        "x",
    )
    assert made["terms"][0]["delta"] == 0.5
    assert "[crop, flip]" in yaml_io.dump_yaml({"augment": ["crop", "flip"]})

    @dataclasses.dataclass
    class Optional:
        a: int | None = None
        b: int | None = 1

    assert yaml_io.to_plain(Optional(b=None)) == {"b": None}


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=40) | st.text(alphabet="abc:-[]{}&*!<>?#'\"|, \n\t12~", max_size=40))
def test_any_text_gives_a_mapping_or_one_line(content):
    try:
        made = yaml_io.parse_yaml(content.encode("utf-8", "surrogatepass"), "x")
    except FileError as error:
        made = str(error)
    assert isinstance(made, dict) or made.splitlines() == [made]


@pytest.mark.parametrize(
    "tagged",
    [
        "a: !!python/object/apply:os.system [id]",
        "a: !!python/name:os.system",
        "a: !!binary aGk=",
        "a: !custom {b: 1}",
        "a: !!set {b, c}",
        "!!map {a: 1}",
        "!!python/tuple [1]",
    ],
)
def test_tags_are_refused(tagged):
    assert "tag" in refusal(tagged)


@pytest.mark.parametrize(
    "doubled", ["seed: 1\nseed: 2", "a: {b: 1, b: 2}", "a: 1\n'a': 2", "l: [{x: 1, x: 1}]"]
)
def test_a_key_given_twice_is_refused(doubled):
    assert "given twice" in refusal(doubled)


def bomb(levels: int, width: int) -> str:
    lines = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, levels)]
    return "\n".join(["a0: &a0 [lol, lol, lol]", *lines])


def test_an_alias_bomb_is_refused_however_few_its_aliases():
    assert "aliases" in refusal(bomb(9, 11))
    small = bomb(10, 9)
    assert small.count("*") < yaml_io.MAX_ALIASES
    assert "values" in refusal(small)


def test_an_alias_inside_its_own_anchor_is_refused():
    assert "'*a'" in refusal("a: &a {b: *a}")


def test_ordinary_anchors_are_legal():
    made = yaml_io.parse_yaml(b"base: &base {x: 1, y: 2}\nlist: &l [1, 2]\nb: *base\nc: *l", "x")
    assert made["b"] == {"x": 1, "y": 2}
    assert made["c"] == [1, 2]
    assert made["b"] is not made["base"]


@pytest.mark.parametrize(
    "content",
    [
        "a: &a {x: 1}\nb:\n  <<: *a",
        "a: &a {x: 1}\nb: {<<: [*a, {y: 2}]}",
        "\na: {<<: 1}",
        "b: 1\na: &a {<<: *a}",
        "\na: <<",
    ],
)
def test_merge_keys_are_refused(content):
    message = refusal(content)
    assert "merge keys (<<) are not supported; use `extends`, or write the keys out" in message
    assert f"line {content[: content.index('<<')].count(chr(10)) + 1}: " in message


def test_two_less_than_signs_in_quotes_are_text():
    assert yaml_io.parse_yaml(b"a: {'<<': '<<'}", "x") == {"a": {"<<": "<<"}}


def test_an_equals_sign_is_a_key_like_any_other():
    assert yaml_io.parse_yaml(b"a: {=: 1}", "x") == {"a": {"=": 1}}


@pytest.mark.parametrize(
    "nested",
    ["a: " + "[" * 25 + "]" * 25, "a: " + "[" * 25 + "1" + "]" * 25, "a: " + "{b: " * 25 + "1" + "}" * 25],
)
def test_too_deep(nested):
    assert "levels" in refusal(nested)


def test_very_deep_text_does_not_exhaust_the_stack():
    refusal("a: " + "[" * 100_000)


def test_too_large():
    assert str(yaml_io.MAX_BYTES + 1) in refusal(b"#" * (yaml_io.MAX_BYTES + 1))


@pytest.mark.parametrize("number", ["1" * 5000, "0x" + "f" * 5000, "-" + "9" * 4999])
def test_a_number_too_long_to_print(number):
    assert "characters" in refusal(f"seed: {number}")


def test_not_utf8():
    assert "not UTF-8 text (byte 6)" in refusal(b"name: \xff")


@pytest.mark.parametrize("content", ["[1, 2]", "", "# only a comment", "word", "12", "null"])
def test_only_a_mapping_is_a_recipe(content):
    assert type(yaml.safe_load(content)).__name__ in refusal(content)


@pytest.mark.parametrize("content", ["1: 2", "on: 1", "a: 1\nnull: 2"])
def test_keys_are_text(content):
    assert "is not a string; quote it" in refusal(content)


@pytest.mark.parametrize(
    "content",
    ["a: [1", "a: b: c", "\tx: 1", "a: \x01", "? [a, b]\n: c", "? {a: 1}\n: c", "--- {}\n--- {}", "a: *b"],
)
def test_not_yaml(content):
    assert "not plain YAML" in refusal(content)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("010", "010"), ("0x1f", "0x1f"), ("0b11", "0b11"), ("1:30", "1:30"), ("1:30.5", "1:30.5"), ("1_000", "1_000"),
        ("2026-01-01", "2026-01-01"), ("2024-13-45", "2024-13-45"), ("2026-01-01 12:00:00", "2026-01-01 12:00:00"),
        ("10", 10), ("-3", -3), ("+7", 7), ("0", 0), ("1e-4", 1e-4), ("1E5", 1e5), ("5.0e-4", 5e-4),
        (".5", 0.5), ("2.", 2.0), ("-.inf", -math.inf),
        ("on", True), ("null", None), ("~", None),
    ],
)  # fmt: skip
def test_numbers_are_read_as_people_mean_them(written, read):
    """YAML 1.1 makes 010 an 8, 1:30 a 90 and 2026-01-01 a date."""
    made = yaml_io.parse_yaml(f"a: {written}".encode(), "x")["a"]
    assert made == read
    assert type(made) is type(read)
