"""Connections: half-sent, dripping and unread ones end, and lock nobody out."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from hrseg.serve import connections, requests
from hrseg.serve.requests import Limits
from tests.serve.conftest import Served, file_of, picture

HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"


def connect(one: Served, address: str = "127.0.0.1") -> socket.socket:
    host, port = one.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30, source_address=(address, 0))


@contextmanager
def crowd(one: Served, count: int, sent: bytes, address: str = "127.0.0.1") -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(count):
            plug = stack.enter_context(connect(one, address))
            plug.sendall(sent)
        yield


def read_all(plug: socket.socket) -> bytes:
    taken = b""
    try:
        while part := plug.recv(2**16):
            taken += part
    except ConnectionResetError:
        pass  # an end like any other
    return taken


def drips(plug: socket.socket) -> float:
    """Send a byte now and then; returns after how many seconds the server ended it."""
    begun = time.monotonic()
    with suppress(OSError):
        while time.monotonic() < begun + 10:
            plug.sendall(b"1")
            time.sleep(0.05)
    return time.monotonic() - begun


@pytest.mark.parametrize("sent", [b"", b"GET / HT", HEAD, HEAD + b"X: y"])
def test_more_half_sent_heads_than_there_is_room_for_lock_nobody_out(
    start: Callable[..., Served], monkeypatch, sent: bytes
) -> None:
    monkeypatch.setattr(connections, "CLIENT_CONNECTIONS", 10)
    one = start(limits=Limits(max_queue=4))
    with crowd(one, 40, sent):
        assert len(one.running.server.server_state.connections) <= 14
        assert one.client.get("/healthz").status_code == 200
        assert one.predict(file_of(picture())).status_code == 200


def test_clients_of_many_addresses_lock_nobody_out(start: Callable[..., Served], monkeypatch) -> None:
    monkeypatch.setattr(connections, "EXTRA_CONNECTIONS", 20)
    one = start(limits=Limits(max_queue=4))
    with ExitStack() as stack:
        for number in range(2, 12):
            stack.enter_context(crowd(one, 4, HEAD, f"127.0.0.{number}"))
        assert one.client.get("/healthz").status_code == 200
        assert len(one.running.server.server_state.connections) <= 25


@pytest.mark.parametrize("sent", [b"GET / HT", HEAD, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET"])
def test_a_head_that_never_ends_is_refused_in_time(start: Callable[..., Served], sent: bytes) -> None:
    one = start(limits=Limits(timeout=0.2))
    with connect(one) as plug:
        start_time = time.monotonic()
        plug.sendall(sent)
        answer = read_all(plug)
    assert time.monotonic() - start_time < 5
    assert b"HTTP/1.1 408 " in answer
    assert answer.endswith(b'{"detail":"The head of the request did not arrive within 0.2 s."}')


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ",
        HEAD + b"Content-Type: image/png\r\nContent-Length: 99999\r\n\r\n",
        HEAD + b"Content-Type: text/html\r\nContent-Length: 99999\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\n",
        b"POST /none HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["head", "image", "refused", "unread", "chunked"],
)
def test_bytes_that_drip_do_not_hold_a_connection(start: Callable[..., Served], sent: bytes) -> None:
    one = start(limits=Limits(timeout=0.3))
    with connect(one) as plug:
        plug.sendall(sent)
        assert drips(plug) < 10
    assert one.metric("hrseg_places_taken") == 0


def test_a_body_must_keep_a_rate(start: Callable[..., Served], monkeypatch) -> None:
    monkeypatch.setattr(requests, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(requests, "BODY_RATE", 10_000)
    one = start(limits=Limits(timeout=30))
    content = file_of(picture())

    def parts(size: int) -> Iterator[bytes]:
        for first in range(0, len(content), size):
            yield content[first : first + size]
            time.sleep(0.15)

    headers = {"Content-Type": "image/png"}
    answer = one.client.post("/predict", content=parts(2000), headers=headers)
    assert (len(content) > 6000, answer.status_code) == (True, 200)  # 0.6 s or more
    with connect(one) as plug:
        plug.sendall(HEAD + b"Content-Type: image/png\r\nContent-Length: 9999\r\n\r\nhalf")
        before = time.monotonic()
        assert plug.recv(4096).startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - before < 5


def test_an_answer_that_nobody_takes_is_dropped(start: Callable[..., Served]) -> None:
    one = start(limits=Limits(timeout=0.1))
    state = one.running.server.server_state
    request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connect(one) as plug:
        plug.settimeout(0.2)
        try:
            for _ in range(3000):
                plug.sendall(20 * request)
        except TimeoutError:
            pass  # the server reads no further before its answers are taken
        assert state.connections
        end = time.monotonic() + 10
        while state.connections and time.monotonic() < end:
            time.sleep(0.05)
        assert not state.connections


def test_one_client_does_not_take_all_places(start: Callable[..., Served]) -> None:
    one = start(limits=Limits(max_queue=4))
    body = HEAD + b"Content-Type: image/png\r\nContent-Length: 99999\r\n\r\nhalf"
    with crowd(one, 6, body, "127.0.0.2"):
        while one.metric("hrseg_places_taken") < 3:
            time.sleep(0.01)
        assert one.predict(file_of(picture())).status_code == 200
        with connect(one, "127.0.0.2") as plug:
            plug.sendall(body)
            assert plug.recv(4096).startswith(b"HTTP/1.1 429 ")


def test_what_is_not_http_is_refused_like_all_else(served: Served) -> None:
    for sent in (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"GET / HTTP/1.1\r\nBad header\r\n\r\n"):
        with connect(served) as plug:
            plug.sendall(sent)
            head, _, body = read_all(plug).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert body == b'{"detail":"Invalid HTTP request received."}'
