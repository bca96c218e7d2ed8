"""A local HTTP server that serves files, or fails to."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class ArchiveServer(ThreadingHTTPServer):
    """Serves `files` by path. `plan`: what becomes of the next requests, "right", "half" (then the connection ends) or
    a status code; after it all goes right."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.plan: list[str | int] = []
        self.asked: list[str] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"


class Handler(BaseHTTPRequestHandler):
    server: ArchiveServer

    def do_GET(self) -> None:
        path = self.path.lstrip("/")
        self.server.asked.append(path)
        turn = self.server.plan.pop(0) if self.server.plan else "right"
        body = self.server.files.get(path)
        if isinstance(turn, int) or body is None:
            self.send_error(turn if isinstance(turn, int) else 404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if turn == "half" else body)

    def log_message(self, *arguments: object) -> None:
        pass
