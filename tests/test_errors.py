"""Counted nouns in messages."""

import pytest

from snnkd.errors import counted


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (0, "step", "0 steps"),
        (1, "epoch", "1 epoch"),
        (1, "empty class", "1 empty class"),
        (2, "empty class", "2 empty classes"),
        (1200, "training image", "1,200 training images"),
    ],
)
def test_one_is_singular(number: int, noun: str, text: str) -> None:
    assert counted(number, noun) == text
