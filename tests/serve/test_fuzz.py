"""Many wrong requests, the same ones every time: each is answered, none by a 500, and the server works on."""

import random
from collections import Counter

import httpx

from tests.serve.conftest import Served, file_of, picture

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
    name = rng.choice(
        ('name="image"', 'name="image"; filename="a/../b"', "name*=utf-8''image", "", 'name="\xff"')
    )
    head = f"--B\r\nContent-Disposition: form-data; {name}\r\nContent-Type: image/png\r\n\r\n"
    return (
        head.encode("latin-1")
        + content
        + rng.choice((b"\r\n--B--\r\n", b"\r\n--B", b"", b"\r\n--B--"))
    )


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


def test_strange_requests_are_answered(served: Served) -> None:
    host, port = served.url.removeprefix("http://").split(":")
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE"):
        for path in ("/predict", "/labels", "/", "/nothing", "/%00", "/predict/", "//predict"):
            url = httpx.URL(scheme="http", host=host, port=int(port), raw_path=path.encode())
            assert served.client.request(method, url).status_code in (200, 404, 405, 307), (
                method,
                path,
            )
