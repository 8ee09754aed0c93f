"""Pictures on disk, and the names of what sources give."""

import io
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def png(shade: int = 0, size: tuple[int, int] = (4, 6)) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((*size, 3), shade, np.uint8)).save(file, "PNG")
    return file.getvalue()


def write(path: Path, data: bytes | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png() if data is None else data)
    return path


def names(pictures: object) -> list[str]:
    return [picture.name for picture in pictures]  # type: ignore[attr-defined]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        answers = {
            "/street.png": (200, {}, png(7)),
            "/a%20b.png": (200, {}, png(8)),
            "/moved": (302, {"Location": "/street.png"}, b""),
            "/round": (302, {"Location": "/round"}, b""),
            "/nowhere": (302, {}, b""),
            "/file": (302, {"Location": "file:///etc/hostname"}, b""),
            "/page.png": (200, {"Content-Type": "text/html"}, b"<html>"),
            "/cut.png": (200, {"Content-Length": "1999"}, png()),
            "/endless.png": (200, {"Content-Length": None}, bytes(5000)),
        }
        if self.path.startswith("/slow"):
            self.drip()
            return
        status, headers, body = answers.get(self.path.partition("?")[0], (404, {}, b""))
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def drip(self) -> None:
        """Send the status, the headers or the body byte by byte, never pausing for long."""
        parts = {"status": b"", "headers": b"HTTP/1.1 200 OK\r\nX: "}
        parts["body"] = parts["headers"] + b"y\r\nContent-Length: 100000\r\n\r\n"
        parts["chunks"] = parts["headers"] + b"y\r\nTransfer-Encoding: chunked\r\n\r\n186a0\r\n"
        try:
            self.wfile.write(parts[self.path.rpartition("_")[2]])
            for _ in range(400):
                self.wfile.write(b"H")
                time.sleep(0.02)
        except OSError:
            pass  # the client is gone
        self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
