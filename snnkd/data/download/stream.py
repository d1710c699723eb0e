"""One HTTP answer, read in a thread of its own, so that the one who waits for it can be stopped at any time.

A name look-up cannot be interrupted in Python, and a read that a signal's handler does not end goes on: here both may
hang in their thread, while the main one looks every tenth of a second whether it was asked to stop.
"""

from __future__ import annotations

import contextlib
import queue
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from types import TracebackType
from typing import Any

BLOCK = 2**16
AGENT = "snnkd"
PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Answers of servers that may do better in a moment."""


class Broken(Exception):
    """The file did not come, or not all of it."""

    def __init__(self, said: str, worth_retrying: bool) -> None:
        super().__init__(said)
        self.worth_retrying = worth_retrying


class Refused(Broken):
    """The server answered with an error."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(f"answered {code} {said}".strip(), code in PASSING)
        self.code = code


class Unreachable(Broken):
    """Nobody answered."""

    def __init__(self, said: str) -> None:
        super().__init__(said, worth_retrying=False)


@dataclass(frozen=True)
class Answer:
    """The head of an answer; `start` is the first byte that it holds, 0 where it holds the whole file."""

    partial: bool
    start: int
    headers: HTTPMessage


class Stream:
    """A context manager: `answer` once, then `read` until it gives nothing."""

    def __init__(self, url: str, headers: dict[str, str], stall: float) -> None:
        plain = {"User-Agent": AGENT, "Accept-Encoding": "identity"}
        self._request = urllib.request.Request(url, headers={**plain, **headers})
        self._stall = stall
        self._came: queue.Queue[Any] = queue.Queue(maxsize=64)
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Stream:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()  # the thread ends at its next block, or when its socket gives up

    def answer(self, look: Callable[[], None]) -> Answer:
        """Wait for the head of the answer; `look` raises when asked to stop. Raises Broken."""
        status, headers = self._next(look)
        start = 0
        if status == 206:
            match = re.match(r"bytes (\d+)-", headers.get("Content-Range", ""))
            if match is None:
                raise Broken("answered with a part of the file without saying which", worth_retrying=False)
            start = int(match[1])
        return Answer(status == 206, start, headers)

    def read(self, look: Callable[[], None]) -> bytes:
        """The next bytes, none at the end. Raises Broken when the connection breaks or nothing comes for too long."""
        return self._next(look)

    def _next(self, look: Callable[[], None]) -> Any:
        end = time.monotonic() + self._stall
        while True:
            look()
            try:
                item = self._came.get(timeout=0.1)
            except queue.Empty:
                if time.monotonic() > end:
                    raise Broken(f"nothing came for {self._stall:g} s", worth_retrying=True) from None
                continue
            if isinstance(item, Exception):
                raise item
            return item

    def _run(self) -> None:
        try:
            # a little longer than the one who waits: it is that one who says so
            with urllib.request.urlopen(self._request, timeout=self._stall + 1) as response:
                self._give((response.status, response.headers))
                while block := response.read1(BLOCK):
                    if not self._give(block):
                        return
                self._give(b"")
        except Exception as error:
            self._give(_explained(error))

    def _give(self, item: Any) -> bool:
        """Hand it over; False when nobody wants it any more."""
        while not self._left.is_set():
            with contextlib.suppress(queue.Full):
                self._came.put(item, timeout=0.5)
                return True
        return False


def _explained(error: Exception) -> Broken:
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        return Refused(
            error.code, str(error.reason).strip().splitlines()[0] if str(error.reason).strip() else ""
        )
    if isinstance(error, urllib.error.URLError):
        why = error.reason
        if isinstance(why, TimeoutError):
            return Broken("did not answer in time", worth_retrying=True)
        if isinstance(why, ConnectionResetError):
            return Broken(_line(why), worth_retrying=True)
        return Unreachable(_line(why))
    # the connection stood, and broke
    passing = isinstance(error, (OSError, HTTPException))
    return Broken(_line(error), worth_retrying=passing)


def _line(error: object) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return (str(text).strip().splitlines() or [type(error).__name__])[0]
