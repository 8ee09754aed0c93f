"""A file server on loopback that can be told how to misbehave, answer by answer."""

import hashlib
import http.server
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Behavior = Callable[[Any], None]


class Server:
    """Serves one content under any path; `plan` holds how the next requests are answered, then all goes well."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.asked: list[dict[str, str]] = []
        self.plan: deque[Behavior] = deque()
        self.url = ""

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.content).hexdigest()}"'

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@contextmanager
def serving(content: bytes) -> Iterator[Server]:
    server = Server(content)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.server_state = server
            server.asked.append({"path": self.path, **{k.lower(): v for k, v in self.headers.items()}})
            behave = server.plan.popleft() if server.plan else whole
            behave(self)

        def log_message(self, *words: Any) -> None:
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that go away are part of the tests
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    server.url = f"http://127.0.0.1:{httpd.server_port}"
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def whole(handler: Any) -> None:
    """Serve the content, or the rest of it where its ETag still fits."""
    _send(handler, ranges=True)


def without_ranges(handler: Any) -> None:
    """Serve everything, whatever was asked."""
    _send(handler, ranges=False)


def cut(count: int, ranges: bool = True) -> Behavior:
    """Promise everything and break off after some bytes."""
    return lambda handler: _send(handler, ranges=ranges, most=count)


def held(event: threading.Event, count: int = 1_000_000) -> Behavior:
    """Send a beginning, and the rest when told."""
    return lambda handler: _send(handler, ranges=True, most=count, hold=event)


def silent(seconds: float) -> Behavior:
    """Accept, and say nothing for a while."""
    return lambda handler: time.sleep(seconds)


def status(code: int, body: bytes = b"", **headers: str) -> Behavior:
    """Answer with a status."""

    def answer(handler: Any) -> None:
        handler.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def page(kind: str = "text/html") -> Behavior:
    """Answer with a web page."""
    return status(200, b"<!DOCTYPE html><html><body>Please log in</body></html>", Content_Type=kind)


def endless(handler: Any) -> None:
    """Serve everything without saying how much it is."""
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(handler.server_state.content)


def _send(handler: Any, ranges: bool, most: int | None = None, hold: threading.Event | None = None) -> None:
    state = handler.server_state
    content, start = state.content, 0
    asked = handler.headers.get("Range")
    if ranges and asked and handler.headers.get("If-Range", state.etag) == state.etag:
        start = int(asked.removeprefix("bytes=").rstrip("-"))
    if start >= len(content) > 0:
        return status(416, Content_Range=f"bytes */{len(content)}")(handler)
    handler.send_response(206 if start else 200)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    handler.send_header("Content-Length", str(len(content) - start))
    handler.send_header("Content-Type", "application/octet-stream")
    handler.send_header("ETag", state.etag)
    handler.end_headers()
    body = content[start:]
    handler.wfile.write(body[:most])
    if hold is not None:
        handler.wfile.flush()
        hold.wait(60)
        handler.wfile.write(body[most:])
    return None
