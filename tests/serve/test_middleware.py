"""Admission: other sites, capacity, time limits, tokens, and errors behind the middleware."""

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from hrseg.errors import ConfigError
from hrseg.serve.middleware import TOKEN_VARIABLE, read_token
from hrseg.serve.requests import Limits
from tests.serve.conftest import Served, file_of, picture, sentence


def test_pages_of_other_sites_may_not_use_it(served: Served) -> None:
    content = file_of(picture())
    for origin, status in (("http://evil.example", 403), ("null", 403), (served.url, 200)):
        headers = {"Origin": origin, "Content-Type": "image/png"}
        assert served.client.post("/predict", content=content, headers=headers).status_code == status


def test_a_full_server_says_when_to_come_again(start: Callable[..., Served]) -> None:
    one = start(limits=Limits(max_queue=2, max_wait=0))
    with ThreadPoolExecutor(2) as clients:
        with one.blocked() as begun:
            first = clients.submit(one.predict, file_of(picture()))
            assert begun.wait(30)
            second = clients.submit(one.predict, file_of(picture()))
            while one.metric("hrseg_queue_length") < 1:
                assert not second.done()
            third = one.predict(file_of(picture()))
            assert "full" in sentence(third, 429)
            assert 1 <= int(third.headers["retry-after"]) <= 60
            assert one.client.get("/healthz").json()["queue"] == 1
        assert first.result().status_code == second.result().status_code == 200
    assert one.predict(file_of(picture())).status_code == 200
    assert one.metric("hrseg_places_taken") == 0


def test_pixels_that_wait_are_bounded(start: Callable[..., Served]) -> None:
    one = start(limits=Limits(max_pixels=64 * 96, max_wait=0))
    with ThreadPoolExecutor(4) as clients:
        with one.blocked() as begun:
            waiting = [clients.submit(one.predict, file_of(picture()))]
            assert begun.wait(30)  # alone: it would take the next along
            waiting += [clients.submit(one.predict, file_of(picture())) for _ in range(3)]
            while one.metric("hrseg_queue_length") < 3:
                assert not any(future.done() for future in waiting)
            sentence(one.predict(file_of(picture())), 429)
        assert [future.result().status_code for future in waiting] == [200] * 4


def test_an_answer_that_takes_too_long_is_given_up(start: Callable[..., Served]) -> None:
    one = start(limits=Limits(timeout=0.2))
    with one.blocked():
        answer = one.predict(file_of(picture()))
        assert "within 0.2 s" in sentence(answer, 503)
        assert answer.headers["retry-after"] == "5"
    assert one.metric("hrseg_places_taken") == 0


def test_a_body_that_never_comes_is_given_up(start: Callable[..., Served]) -> None:
    one = start(limits=Limits(timeout=0.2))
    host, port = one.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as plug:
        plug.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\nhalf")
        assert plug.recv(4096).startswith(b"HTTP/1.1 408 ")
    assert one.metric("hrseg_places_taken") == 0


def test_who_hangs_up_leaves_the_queue(start: Callable[..., Served]) -> None:
    one = start(limits=Limits(max_wait=0))
    with ThreadPoolExecutor(1) as clients, one.blocked() as begun:
        first = clients.submit(one.predict, file_of(picture()))
        assert begun.wait(30)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(one.url + "/predict", content=file_of(picture()), timeout=0.3, trust_env=False)
        while one.metric("hrseg_places_taken") > 1:
            assert not first.done()
    assert first.result().status_code == 200
    text = one.client.get("/metrics").text
    assert 'hrseg_requests_total{path="/predict",status="499"} 1' in text


def test_a_bug_is_a_plain_500_and_the_next_image_is_answered(start: Callable[..., Served], caplog) -> None:
    one = start()
    run = one.service.queue.run
    one.service.queue.run = lambda kind, items: 1 / 0
    answer = one.predict(file_of(picture()))
    assert sentence(answer, 500) == "The server made a mistake; its log tells more."
    assert "ZeroDivisionError" in caplog.text
    one.service.queue.run = run
    assert one.predict(file_of(picture())).status_code == 200


def test_too_little_memory_is_said(start: Callable[..., Served]) -> None:
    one = start()

    def fail(kind: str, items: list[Any]) -> Any:
        raise MemoryError

    one.service.queue.run = fail
    assert "memory" in sentence(one.predict(file_of(picture())), 503)


def test_a_token_locks_all_but_the_page(start: Callable[..., Served]) -> None:
    one = start(token="sesame")
    for path in ("/", "/page.js", "/page.css", "/healthz", "/openapi.json"):
        assert one.client.get(path).status_code == 200, path
    for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic sesame"}):
        for path in ("/labels", "/metrics"):
            answer = one.client.get(path, headers=header)
            assert "Authorization: Bearer" in sentence(answer, 401)
            assert answer.headers["www-authenticate"] == "Bearer"
        assert one.client.post("/predict", headers=header).status_code == 401
    one.client.headers["Authorization"] = "Bearer sesame"
    assert one.client.get("/labels").status_code == 200
    assert one.predict(file_of(picture())).status_code == 200


def test_where_the_token_comes_from(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert read_token() is None
    monkeypatch.setenv(TOKEN_VARIABLE, "from-outside")
    assert read_token() == "from-outside"
    path = tmp_path / "token"
    path.write_text("abc123\n")
    assert read_token(path) == "abc123"
    for content, words in (("", "empty"), ("two words", "one plain word"), ("é", "one plain word")):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(ConfigError, match=words):
            read_token(path)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_token(tmp_path / "none")


@pytest.mark.parametrize("path", ["/", "/page.js", "/healthz", "/labels", "/metrics", "/openapi.json"])
def test_head_is_answered_as_get_without_a_body(served: Served, path: str) -> None:
    head, get = served.client.head(path), served.client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]
    if path != "/metrics":  # which counts the first
        assert head.headers["content-length"] == str(len(get.content))
    sentence(served.client.get("/predict"), 405)
    assert served.client.head("/predict").status_code == 405
