"""What the server does not take: each is one sentence with the right status, and never a 500."""

import io
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hrseg.errors import ConfigError
from hrseg.serve.middleware import VARIABLE, read_token
from hrseg.serve.requests import Limits
from tests.imaging.test_rasters import ITSELF, SIDECARS, Server, hostile
from tests.serve.conftest import Served, file_of, picture


def png_that_claims(height: int, width: int) -> bytes:
    """A valid head, and one row of pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + chunk(b"IDAT", zlib.compress(b"\0" * 99))
        + chunk(b"IEND", b"")
    )


@pytest.fixture(scope="module")
def small(start: Callable[..., Served]) -> Served:
    return start(limits=Limits(max_bytes=100_000, max_pixels=10_000))


def sentence(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.text
    detail = answer.json()["detail"]
    assert set(answer.json()) == {"detail"}
    assert detail.endswith(".")
    assert "\n" not in detail
    return detail


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"", 422, "empty"),
        (b"hello", 415, "no image that can be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", 415, "no image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "no image"),
        (file_of(picture())[:-400], 422, "damaged"),
        (file_of(picture(), "JPEG")[:300], 422, "damaged"),
        (png_that_claims(40, 50), 422, "damaged"),
        (png_that_claims(5_000, 5_000), 413, "5000 x 5000 pixels"),
        (png_that_claims(60_000, 60_000), 413, "pixels"),
        (file_of(np.zeros((101, 100, 3), np.uint8)), 413, "at most 10,000"),
    ],
)
def test_bad_images(small: Served, content: bytes, status: int, words: str) -> None:
    assert words in sentence(small.predict(content), status)


def test_a_zip_bomb_in_a_text_chunk_is_refused(small: Served) -> None:
    plain = file_of(np.zeros((2, 2, 3), np.uint8))
    packed = zlib.compress(b"\0" * 80_000_000, 9)
    body = b"zTXtk\0\0" + packed
    bomb = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    end = plain.index(b"IDAT") - 4
    sentence(small.predict(plain[:end] + bomb + plain[end:]), 422)


def test_a_body_that_announces_too_much_is_refused_unread(small: Served) -> None:
    host, port = small.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as plug:
        plug.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100001\r\n\r\n")
        assert plug.recv(4096).startswith(b"HTTP/1.1 413 ")  # not a byte of it was sent


def test_a_body_without_a_length_is_cut_at_the_limit(small: Served) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(200):
            yield b"x" * 1000

    answer = small.client.post("/predict", content=parts(), headers={"Content-Type": "image/png"})
    assert "100,000 bytes" in sentence(answer, 413)


def test_a_hundred_megabytes_are_refused(served: Served) -> None:
    assert "33,554,432 bytes" in sentence(served.predict(bytes(100_000_000)), 413)


@pytest.mark.parametrize(
    "kind", ["application/json", "text/plain", "application/x-www-form-urlencoded", "x"]
)
def test_other_types_are_refused(served: Served, kind: str) -> None:
    answer = served.client.post("/predict", content=b"{}", headers={"Content-Type": kind})
    assert "curl -F image=@street.jpg" in sentence(answer, 415)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..", "a\\..\\b"])
def test_names_with_paths_are_refused(served: Served, name: str) -> None:
    body = (
        f'--B\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'.encode()
        + file_of(picture())
        + b"\r\n--B--\r\n"
    )
    kind = {"Content-Type": "multipart/form-data; boundary=B"}
    answer = served.client.post("/predict", content=body, headers=kind)
    assert "holds a path" in sentence(answer, 422)


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        ("multipart/form-data", b"", "boundary"),
        ("multipart/form-data; boundary=B", b"nothing of the kind", "cannot be read"),
        ("multipart/form-data; boundary=B", b"--B\r\nContent-Dispo", "cannot be read"),
        ("multipart/form-data; boundary=B", b"--B--\r\n", "holds no 'image'"),
        (
            "multipart/form-data; boundary=B",
            b'--B\r\nContent-Disposition: form-data; name="image"\r\n\r\nx\r\n' * 2 + b"--B--\r\n",
            "2 fields 'image'",
        ),
        (
            "multipart/form-data; boundary=B",
            b'--B\r\nContent-Disposition: form-data; name="image"\r\n\r\n\r\n--B--\r\n',
            "empty",
        ),
    ],
)
def test_bad_forms(served: Served, kind: str, body: bytes, words: str) -> None:
    answer = served.client.post("/predict", content=body, headers={"Content-Type": kind})
    assert words in sentence(answer, 422)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"output": "svg"}, "output"),
        ({"alpha": "2"}, "alpha"),
        ({"alpha": "nan"}, "alpha"),
        ({"maps": "x"}, "maps"),
    ],
)
def test_wrong_options(served: Served, options: dict[str, str], name: str) -> None:
    assert f"Option '{name}'" in sentence(served.predict(file_of(picture()), **options), 422)


@pytest.mark.parametrize(
    "path", ["/../../etc/passwd", "/page.css/../x", "/%2e%2e/x", "/page/index.html", "/static/"]
)
def test_no_path_leads_to_a_file(served: Served, path: str) -> None:
    import httpx

    url = httpx.URL(served.url).copy_with(raw_path=path.encode())
    sentence(served.client.get(url), 404)


def test_other_methods_are_refused(served: Served) -> None:
    answer = served.client.get("/predict")
    assert "another method" in sentence(answer, 405)
    assert answer.headers["allow"] == "POST"


def test_pages_of_other_sites_may_not_use_it(served: Served) -> None:
    content = file_of(picture())
    for origin, status in (("http://evil.example", 403), ("null", 403), (served.url, 200)):
        headers = {"Origin": origin, "Content-Type": "image/png"}
        assert (
            served.client.post("/predict", content=content, headers=headers).status_code == status
        )


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
        plug.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nhalf")
        assert plug.recv(4096).startswith(b"HTTP/1.1 408 ")
    assert one.metric("hrseg_places_taken") == 0


def test_who_hangs_up_leaves_the_queue(start: Callable[..., Served]) -> None:
    import httpx

    one = start(limits=Limits(max_wait=0))
    with ThreadPoolExecutor(1) as clients, one.blocked() as begun:
        first = clients.submit(one.predict, file_of(picture()))
        assert begun.wait(30)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                one.url + "/predict", content=file_of(picture()), timeout=0.3, trust_env=False
            )
        while one.metric("hrseg_places_taken") > 1:
            assert not first.done()
    assert first.result().status_code == 200
    text = one.client.get("/metrics").text
    assert 'hrseg_requests_total{path="/predict",status="499"} 1' in text


def test_a_bug_is_a_plain_500_and_the_next_image_is_answered(
    start: Callable[..., Served], caplog
) -> None:
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
    monkeypatch.delenv(VARIABLE, raising=False)
    assert read_token() is None
    monkeypatch.setenv(VARIABLE, "from-outside")
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


def test_limits_that_let_nothing_through_are_refused() -> None:
    for options in (
        {"max_queue": 0},
        {"timeout": float("nan")},
        {"max_pixels": -1},
        {"max_wait": -1},
    ):
        with pytest.raises(ConfigError, match="lets nothing through"):
            Limits(**options)
    assert Limits(max_wait=0).max_wait == 0


def test_other_kinds_of_images_are_taken(served: Served) -> None:
    file = io.BytesIO()
    Image.fromarray(picture()).convert("P").save(file, "GIF")
    for content in (
        file.getvalue(),
        *(file_of(picture(), kind) for kind in ("WEBP", "BMP", "TIFF")),
    ):
        assert served.predict(content).status_code == 200
    assert served.predict(file_of(np.zeros((1, 1), np.uint8))).status_code == 200


@pytest.mark.parametrize("kind", [*SIDECARS, *ITSELF])
def test_a_raster_that_names_addresses_makes_the_server_ask_nobody(served, tmp_path, kind):
    with Server() as server:
        address = f"/vsicurl/{server.address}/a.tif"
        path = tmp_path / "x.tif"
        if kind in ITSELF:
            path.write_text(ITSELF[kind](address))
        else:
            hostile(tmp_path, kind, address)
        answer = served.predict(path.read_bytes())
        assert answer.status_code == (415 if kind in ITSELF else 200)
        assert server.asked == []
