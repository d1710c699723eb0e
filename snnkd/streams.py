"""Standard output and error as users connect them: closed, full, without a reader, or not in UTF-8."""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import Any

PLAIN = {
    "µ": "u", "±": "+-", "×": "x", "−": "-", "–": "-", "→": "->", "≤": "<=", "≥": ">=", "²": "^2", "·": "*",
    "α": "alpha", "β": "beta", "τ": "tau", "δ": "delta", "Δ": "delta", "─": "-", "━": "-", "│": "|",
}  # fmt: skip
"""What stands for a character that a terminal's or pipe's encoding lacks."""


class Stderr(io.TextIOBase):
    """sys.stderr, as it is when this is made, for writing; what it does not take is lost, and no error."""

    def __init__(self) -> None:
        self._stream = sys.stderr
        """None if closed when the process started. Kept, since rich replaces sys.stderr during a bar."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, text: str) -> int:
        if self._stream is not None:
            try:
                self._stream.write(text)
                self._stream.flush()
            except OSError:
                discard(self._stream)
        return len(text)


def discard(stream: Any) -> None:
    """Send what is still in the buffer of `stream`, and all that follows, to /dev/null.

    Otherwise the interpreter fails to flush it at its end and replaces the exit code by 120.
    """
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def prepare_streams() -> None:
    """Keep files from becoming standard output or error, and printing from failing on a character."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # the place of a closed stream
        pass
    os.close(descriptor)
    if sys.stdout is None:  # closed: printing must fail, as into a full disk
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")
    codecs.register_error("snnkd", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="snnkd")


def _plain(error: UnicodeError) -> tuple[bytes, int]:
    """Bytes for characters that cannot be encoded: those of a file name that is no UTF-8 as they were."""
    assert isinstance(error, UnicodeEncodeError)
    return b"".join(map(_byte_or_words, error.object[error.start : error.end])), error.end


def _byte_or_words(character: str) -> bytes:
    if "\udc80" <= character <= "\udcff":  # surrogateescape, as os.fsdecode leaves them
        return bytes([ord(character) - 0xDC00])
    return PLAIN.get(character, character).encode("ascii", "backslashreplace")
