"""A local HTTP server that serves files the right way and every wrong one."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Turn = str | int  # what becomes of one request: a status code, or one of the words in Handler.do_GET


class ArchiveServer(ThreadingHTTPServer):
    """Serves `files` by path. `plan` says what becomes of the next requests; after it all goes right."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.plan: list[Turn] = []
        self.always: Turn = "right"
        self.ranges = True
        self.validator: tuple[str, str] | None = ("ETag", '"one"')
        self.seen: list[str | None] = []  # the Range of each request
        self.stalled = threading.Event()
        self.over = threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"


class Handler(BaseHTTPRequestHandler):
    server: ArchiveServer

    def do_GET(self) -> None:
        server = self.server
        asked = self.headers.get("Range")
        server.seen.append(asked)
        turn = server.plan.pop(0) if server.plan else server.always
        whole = server.files.get(self.path.lstrip("/"))
        if isinstance(turn, int) or whole is None:
            self.send_error(turn if isinstance(turn, int) else 404)
            return
        start = int(re.match(r"bytes=(\d+)-", asked)[1]) if asked and server.ranges and self.is_unchanged() else 0
        if start >= len(whole):
            self.send_error(416)
            return
        self.send_head(start, len(whole), "text/html" if turn == "page" else "application/gzip")
        self.send_body(whole[start:], turn)

    def is_unchanged(self) -> bool:
        condition = self.headers.get("If-Range")
        return condition is None or self.server.validator is None or condition == self.server.validator[1]

    def send_head(self, start: int, total: int, kind: str) -> None:
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if self.server.validator:
            self.send_header(*self.server.validator)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(total - start))
        self.end_headers()

    def send_body(self, body: bytes, turn: Turn) -> None:
        """right | page: all of it; half: then the connection ends; stall: half, then nothing; slow: bit by bit."""
        part = body[: len(body) // 2] if turn in ("half", "stall") else body
        for place in range(0, len(part), len(part) // 20 + 1 if turn == "slow" else len(part)):
            self.wfile.write(part[place : place + (len(part) // 20 + 1 if turn == "slow" else len(part))])
            self.wfile.flush()
            if turn == "slow":
                self.server.over.wait(0.01)
        if turn == "stall":
            self.server.stalled.set()
            self.server.over.wait(60)

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[ArchiveServer]:
    with ArchiveServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()
