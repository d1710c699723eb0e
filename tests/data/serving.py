"""A local HTTP server that serves a file well, or as bad servers do."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server:
    """Serves `files` (by path). Each request takes the next of `moods`, the last one again and again.

    whole: as asked, ranges too; break: half of what is asked, then the connection ends; trickle: two bytes,
    then the end; stall: half, then silence; silent: no answer; wrong: other bytes of the same length; page:
    an error page with 200; redirect: to the same path under /moved; loop: to itself; no-range: the whole file
    whatever is asked; no-range-break: half of the whole file; no-length: without Content-Length;
    no-length-break: half, without; changed: a new file under a new ETag; bad-range: a part from elsewhere; or
    a status, such as 404 or 503.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.moods = ["whole"]
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.validator = True
        self.released = threading.Event()
        self.url = ""

    def next_mood(self) -> str:
        return self.moods.pop(0) if len(self.moods) > 1 else self.moods[0]

    @property
    def ranges(self) -> list[str | None]:
        return [headers.get("Range") for _, headers in self.asked]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        server: Server = self.server.about  # type: ignore[attr-defined]
        server.asked.append((self.path, dict(self.headers.items())))
        mood = server.next_mood()
        content = server.files.get(self.path.removeprefix("/moved"))
        self.close_connection = True
        if mood == "silent":
            server.released.wait(30)
            return
        if mood in ("redirect", "loop"):
            self._head(
                302,
                {
                    "Location": f"/moved{self.path}" if mood == "redirect" else self.path,
                    "Content-Length": "0",
                },
            )
            return
        if mood.isdecimal() or content is None:
            self._head(int(mood) if mood.isdecimal() else 404, {"Content-Length": "0"})
            return
        self._content(server, mood, content)

    def _content(self, server: Server, mood: str, content: bytes) -> None:
        tag = '"new"' if mood == "changed" else '"old"'
        if mood == "page":
            content = b"<html>please log in</html>"
        if mood in ("wrong", "changed"):
            content = bytes(255 - byte for byte in content) if mood == "wrong" else content
        begin = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = self.headers.get("If-Range") in (None, tag)
        start = int(begin[1]) if begin and same and not mood.startswith(("no-range", "no-length")) else 0
        if start and start >= len(content):
            self._head(416, {"Content-Range": f"bytes */{len(content)}", "Content-Length": "0"})
            return
        body = content[start:]
        headers = {"ETag": tag} if server.validator else {}
        if start:
            shown = start + 1 if mood == "bad-range" else start
            headers["Content-Range"] = f"bytes {shown}-{len(content) - 1}/{len(content)}"
        if not mood.startswith("no-length"):
            headers["Content-Length"] = str(len(body))
        self._head(206 if start else 200, headers)
        cut = 2 if mood == "trickle" else len(body) // 2 if mood.endswith(("break", "stall")) else len(body)
        self.wfile.write(body[:cut])
        self.wfile.flush()
        if mood == "stall":
            server.released.wait(30)

    def _head(self, code: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for key, value in {**headers, "Connection": "close"}.items():
            self.send_header(key, value)
        self.end_headers()


@contextmanager
def serving() -> Iterator[Server]:
    """A server on a free port of this machine."""
    about = Server()
    made = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    made.about = about  # type: ignore[attr-defined]
    made.daemon_threads = True
    made.handle_error = lambda *_: None  # type: ignore[method-assign]  # who asked may have left
    about.url = f"http://127.0.0.1:{made.server_address[1]}"
    thread = threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield about
    finally:
        about.released.set()
        made.shutdown()
        made.server_close()
        thread.join()
