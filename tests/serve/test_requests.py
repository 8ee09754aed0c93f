"""Requests that are refused: each with one sentence and the right status, and never a 500."""

import io
import random
import socket
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator

import httpx
import numpy as np
import pytest
from PIL import Image

from hrseg.errors import ConfigError
from hrseg.serve.requests import Capacity, Limits
from tests.imaging.test_rasters import ITSELF, SIDECARS, Server, hostile
from tests.serve.conftest import Served, file_of, picture, sentence


def png_that_claims(height: int, width: int) -> bytes:
    """A valid head, and one row of pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def small(start: Callable[..., Served]) -> Served:
    return start(limits=Limits(max_bytes=100_000, max_pixels=10_000))


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
        (png_that_claims(60_000, 60_000), 422, "which no picture has"),
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
        plug.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100001\r\n\r\n")
        assert plug.recv(4096).startswith(b"HTTP/1.1 413 ")  # not a byte of it was sent


def test_a_body_without_a_length_is_cut_at_the_limit(small: Served) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(200):
            yield b"x" * 1000

    answer = small.client.post("/predict", content=parts(), headers={"Content-Type": "image/png"})
    assert "100,000 bytes" in sentence(answer, 413)


@pytest.mark.slow
def test_a_hundred_megabytes_are_refused(served: Served) -> None:
    assert "33,554,432 bytes" in sentence(served.predict(bytes(100_000_000)), 413)


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-www-form-urlencoded", "x"])
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


def test_places_are_given_back() -> None:
    capacity = Capacity(Limits(max_queue=1, max_pixels=10))
    place = capacity.acquire()
    assert place is not None
    assert capacity.acquire() is None
    assert not capacity.reserve(place, 41)
    assert capacity.reserve(place, 40)
    capacity.release(place)
    again = capacity.acquire()
    assert again is not None
    assert capacity.reserve(again, 40)


# Many wrong requests, the same ones every time

SEEDS = [
    file_of(picture()),
    file_of(picture(), "JPEG"),
    file_of(picture(), "WEBP"),
    file_of(picture(), "GIF"),
    file_of(picture(), "BMP"),
    file_of(picture(), "TIFF"),
    b"\xff\xd8\xff\xe0" + bytes(64),
    b"II*\0\x08\0\0\0" + bytes(range(256)),
    b"",
]
TYPES = [
    "image/png", "image/tiff", "application/octet-stream", "multipart/form-data; boundary=B",
    "multipart/form-data; boundary=" + "x" * 300, "multipart/form-data", "image/", ";;", "text/html",
]  # fmt: skip
PATHS = [
    "/predict",
    "/features",
    "/predict?output=json&maps=true",
    "/predict?alpha=-1e999",
    "/predict?output=%00",
]


def spoiled(content: bytes, rng: random.Random) -> bytes:
    """Change, cut, double or repeat some bytes."""
    data = bytearray(content or b"\0")
    for _ in range(rng.choice((0, 1, 1, 4, 30))):
        place = rng.randrange(len(data))
        data[place] = rng.randrange(256)
    cut = rng.randrange(len(data) + 1)
    return bytes(rng.choice((data, data, data[:cut], data[cut:] + data[:cut], data + data)))


def in_form(content: bytes, rng: random.Random) -> bytes:
    name = rng.choice(('name="image"', 'name="image"; filename="a/../b"', "name*=utf-8''image", "", 'name="\xff"'))
    head = f"--B\r\nContent-Disposition: form-data; {name}\r\nContent-Type: image/png\r\n\r\n"
    return head.encode("latin-1") + content + rng.choice((b"\r\n--B--\r\n", b"\r\n--B", b"", b"\r\n--B--"))


@pytest.mark.slow
def test_nothing_makes_it_stumble(served: Served) -> None:
    rng = random.Random(7)
    seen: Counter[int] = Counter()
    for _ in range(200):
        content = spoiled(rng.choice(SEEDS), rng)
        kind = rng.choice(TYPES)
        if kind.endswith("=B"):
            content = in_form(content, rng)
        url = served.url + rng.choice(PATHS)
        answer = served.client.post(url, content=content, headers={"Content-Type": kind})
        assert answer.status_code in (200, 413, 415, 422), (answer.status_code, answer.text, kind)
        if answer.status_code != 200:
            assert set(answer.json()) == {"detail"}
        seen[answer.status_code] += 1
    assert set(seen) == {200, 415, 422}
    assert served.predict(SEEDS[0]).status_code == 200
    assert served.metric("hrseg_places_taken") == 0


@pytest.mark.slow
def test_strange_requests_are_answered(served: Served) -> None:
    host, port = served.url.removeprefix("http://").split(":")
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE"):
        for path in ("/predict", "/labels", "/", "/nothing", "/%00", "/predict/", "//predict"):
            url = httpx.URL(scheme="http", host=host, port=int(port), raw_path=path.encode())
            assert served.client.request(method, url).status_code in (200, 404, 405, 307), (
                method,
                path,
            )
