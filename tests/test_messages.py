"""Error messages: one line of at most 20 words, placeholders counted as one word each."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import snnkd

ERRORS = ("UsageError", "FileError", "RunError", "Preempted", "Interrupted", "RunLocked", "NotPrepared")
MAX_WORDS = 20
PACKAGE = Path(snnkd.__file__).parent


def message(node: ast.expr) -> str:
    """The text of a string, `{}` standing for whatever is put in; empty for another expression."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return (message(node.left) or "{}") + (message(node.right) or "{}")
    return ""


def messages(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of every message that an error of snnkd is made with."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS:
            for part in ast.walk(node.args[0]) if isinstance(node.args[0], ast.IfExp) else node.args[:1]:
                if isinstance(part, ast.expr) and message(part):
                    yield part.lineno, message(part)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("raise UsageError(f'{where}: {value!r} is not text; ' f'quote it')", 7),
        ("raise FileError('; '.join(lines) + '; no checkpoint is left')", 5),
        ("raise ValueError('is not a message for users')", None),
    ],
)
def test_words_are_counted(source: str, words: int | None) -> None:
    assert [len(text.split()) for _, text in messages(source)] == ([] if words is None else [words])


def test_no_message_is_long() -> None:
    paths = sorted(PACKAGE.rglob("*.py"))
    lines = [(path, *item) for path in paths for item in messages(path.read_text(encoding="utf-8"))]
    assert len(lines) > 300
    long = [
        f"{path.relative_to(PACKAGE)}:{line}: {text}"
        for path, line, text in lines
        if len(text.split()) > MAX_WORDS or "\n" in text
    ]
    assert not long, "\n".join(long)
