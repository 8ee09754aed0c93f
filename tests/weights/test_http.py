import io
import os
import urllib.request
from email.message import Message

import pytest

from hrseg.weights import http
from tests.weights import server as serve


def test_a_redirect_never_leaves_encryption():
    handler = http._Redirects()
    request = urllib.request.Request("https://example.org/a")
    for target in ("http://example.org/a", "ftp://example.org/a"):
        with pytest.raises(http.TransferError, match="not safe"):
            handler.redirect_request(request, io.BytesIO(), 302, "Found", Message(), target)


@pytest.fixture
def server(monkeypatch):
    for name in [*os.environ]:
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    with serve.serving(bytes(range(200))) as running:
        yield running


def test_the_rest_of_a_file_is_asked_for_from_where_it_stopped(server):
    whole = http.request(f"{server.url}/w.pth")
    assert b"".join(whole.chunks()) == server.content
    rest = http.request(f"{server.url}/w.pth", 150, whole.validator)
    assert (rest.start, rest.total) == (150, 200)
    assert b"".join(rest.chunks()) == server.content[150:]
    asked = server.asked[1]
    assert (asked["range"], asked["if-range"]) == ("bytes=150-", server.etag)


def test_a_refusal_says_whether_and_when_another_try_makes_sense(server):
    for status, headers, passing, wait in (
        (404, {}, False, None),
        (403, {}, False, None),
        (429, {"Retry_After": "3"}, True, 3.0),
        (503, {"Retry_After": "Thu, 01 Jan 1970 00:00:00 GMT"}, True, 0.0),
        (503, {"Retry_After": "soon"}, True, None),
    ):
        server.plan.append(serve.status(status, **headers))
        with pytest.raises(http.TransferError, match=f"answers {status}") as refusal:
            http.request(f"{server.url}/w.pth")
        assert (refusal.value.passing, refusal.value.wait) == (passing, wait)


def test_pages_and_messages_of_servers_are_told_from_files():
    for page in (b" \n<!DOCTYPE HTML>", b"<html>", b'<?xml version="1.0"?>', b'{"error": "gone"}'):
        assert http.looks_like_page(page)
    for file in (b"PK\x03\x04", b"\x80\x02}q", b"", b'{"__metadata__": {}}'):
        assert not http.looks_like_page(file)
