"""Options that several commands share."""

import pytest

from snnkd.cli.options import command_line, parse_duration
from snnkd.errors import UsageError


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (None, None),
        ("3:50:00", 13800),
        ("50:00", 3000),
        ("0:05", 5),
        ("1:5:00", 3900),
        ("1-12:00:00", 129600),
        ("90s", 90),
        ("1.5s", 1.5),
        ("45m", 2700),
        ("2h", 7200),
        ("0s", 0),
        ("100:00:00", 360000),
    ],
)
def test_max_time(text, wanted):
    assert parse_duration(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "90",
        "3:5",
        "1:2:3",
        "-5s",
        "5d",
        "1-2",
        "1-30:00",
        "a:00",
        "1:00:00:00",
        "1h30m",
        " 90s",
        "90 s",
        "inf",
        "1e3s",
        "nan",
    ],
)
def test_what_is_no_time(text):
    with pytest.raises(UsageError, match=r"^--max-time .* is not auto, H:MM:SS") as caught:
        parse_duration(text)
    assert repr(text) in str(caught.value)
    assert caught.value.exit_code == 2


def test_the_command_line_can_be_pasted(monkeypatch):
    monkeypatch.setattr(
        "sys.argv", ["/usr/bin/snnkd", "teach", "my recipe.yaml", "--set", "data.name=npz:a b"]
    )
    assert command_line() == "snnkd teach 'my recipe.yaml' --set 'data.name=npz:a b'"
