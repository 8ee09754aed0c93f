"""Label Studio's requests, as version 1.23.2 sent them, to a real server; a small site stands for Label Studio."""

import base64
import json
import logging
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from hrseg.errors import ConfigError, DataError
from hrseg.imaging.rle import from_label_studio
from hrseg.labels import load_labels
from tests.serve.conftest import Served, file_of, picture, sentence

label_studio = pytest.importorskip("hrseg.integrations.label_studio")

RECORDED = json.loads((Path(__file__).parent / "label_studio_requests.json").read_text())
CONFIG = RECORDED["setup"]["schema"]
TOKEN = "e30.e30.c2ln"  # the form of a JSON web token
ACCESS = "access-of-today"
FILES = {
    "/data/upload/2/6c0b1835-0016E5_07959.png": file_of(picture(64, 96, 1)),
    "/data/local-files/?d=lf/a%20b.png": file_of(picture(32, 64, 2)),
    "/val/0016E5_07963.png": file_of(picture(64, 96, 3)),
    "/broken.png": b"no image",
    "/big.png": bytes(300_000),
}


class Web(ThreadingHTTPServer):
    """A site with files; of `key` it asks, and gives an access token for a refresh token."""

    daemon_threads = True

    def __init__(self, key=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.key, self.asked, self.url = key, [], f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert (self.path, body) == ("/api/token/refresh", {"refresh": TOKEN})
        self.server.asked.append(("POST", self.path, None))
        self.answer(200, json.dumps({"access": ACCESS}).encode())

    def do_GET(self):
        self.server.asked.append(("GET", self.path, self.headers["Authorization"]))
        if self.server.key not in (None, self.headers["Authorization"]):
            self.answer(401, b"")
        elif self.path.startswith("/moved/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/moved/"))
            self.end_headers()
        elif self.path == "/slow.png":
            self.send_response(200)
            self.end_headers()
            for _ in range(100):
                self.wfile.write(b"x")
                time.sleep(0.1)
        else:
            self.answer(200 if self.path in FILES else 404, FILES.get(self.path, b""))

    def answer(self, status, content):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass

    def handle(self):
        try:
            super().handle()
        except OSError:  # the client has cut a slow answer
            self.close_connection = True


@pytest.fixture(scope="module")
def webs():
    both = Web(f"Bearer {ACCESS}"), Web()
    yield both
    for web in both:
        web.shutdown()
        web.server_close()


@pytest.fixture(scope="module")
def backend(start, webs):
    served: Served = start(model="small", token="secret")
    label_studio.add_routes(served.running.app, label_studio.Site(webs[0].url, TOKEN, (webs[1].url,)))
    served.client.auth = ("any", "secret")
    return served


def recorded(webs, *addresses):
    """The recorded request, with the addresses of the sites of this test, or those given."""
    body = json.loads(json.dumps(RECORDED["predict"]).replace("http://127.0.0.1:8902", webs[1].url))
    first = body["tasks"][0]
    if addresses:
        body["tasks"] = [first | {"id": 50 + i, "data": {"image": url}} for i, url in enumerate(addresses)]
    return body


def test_recorded_requests_get_the_predicted_masks(backend, predictor, webs):
    assert backend.client.get("/label-studio/health").json()["status"] == "UP"
    version = backend.client.post("/label-studio/setup", json=RECORDED["setup"]).json()["model_version"]
    body = recorded(webs)
    answer = backend.client.post("/label-studio/predict", json=body)
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    images = [picture(64, 96, 1), picture(64, 96, 3), picture(32, 64, 2)]
    for image, result in zip(images, results, strict=True):
        size, expected = image.shape[:2], predictor(image)
        mask = np.full(size, 255, np.uint8)
        for region in result["result"]:
            assert (region["from_name"], region["to_name"], region["type"]) == ("label", "image", "brushlabels")
            assert (region["original_height"], region["original_width"]) == size
            pixels = from_label_studio(region["value"]["rle"], size)
            mask[pixels] = predictor.labels.names.index(region["value"]["brushlabels"][0])
        assert (mask == expected.mask).all()
        assert result["score"] == pytest.approx(expected.mean_confidence, abs=1e-5)
        assert result["model_version"] == version
    assert ("POST", "/api/token/refresh", None) in webs[0].asked
    assert ("GET", "/data/local-files/?d=lf/a%20b.png", f"Bearer {ACCESS}") in webs[0].asked
    assert webs[1].asked[-1][2] is None  # no key for another site


def test_the_version_follows_the_weights(backend):
    version = backend.client.post("/label-studio/setup", json=RECORDED["setup"]).json()["model_version"]
    assert version == f"small {backend.service.predictor.settings()['model'][:8]}"


@pytest.mark.parametrize(
    "address",
    [
        "http://169.254.169.254/latest/meta-data/",
        "file:///etc/passwd",
        "/data/../..\\@127.0.0.1:1/x",
        "s3://bucket/a.png",
        "http://127.0.0.1:1/a.png",
        "https://{host}/a.png",
        "http://{host}@127.0.0.1:1/a.png",
        "http://{host}.example.org/a.png",
        "http://[::1/a.png",
        "",
        7,
    ],
)
def test_images_are_taken_from_the_named_sites_only(webs, address):
    site = label_studio.Site(webs[0].url, TOKEN, (webs[1].url,))
    asked = len(webs[0].asked)
    text = address.format(host=webs[0].url.removeprefix("http://")) if isinstance(address, str) else address
    if isinstance(text, str) and text.startswith("/"):  # a path is one in Label Studio, whatever it looks like
        assert site.address(text).startswith(f"{webs[0].url}/")
    else:
        with pytest.raises(DataError, match="is not in Label Studio"):
            site.fetch(text, 10**6)
    assert len(webs[0].asked) == asked


def test_a_redirect_stays_on_its_site(webs):
    site = label_studio.Site(webs[0].url, TOKEN)
    assert site.fetch("/moved//broken.png", 100) == b"no image"
    asked = len(webs[1].asked)
    with pytest.raises(DataError, match="another site") as error:
        site.fetch(f"/moved/{webs[1].url}/broken.png", 100)
    assert "pre-signed URLs off" in str(error.value)
    assert len(webs[1].asked) == asked
    with pytest.raises(DataError, match="another site") as error:  # digits of an address are no status
        site.fetch("/moved/http://127.0.0.1:40369/401.png", 100)
    assert "pre-signed URLs off" in str(error.value)


def test_files_are_bounded_in_size_and_time(webs):
    site = label_studio.Site(webs[1].url, "an-old-key")
    with pytest.raises(DataError, match="larger than 1,000 bytes"):
        site.fetch("/big.png", 1000)
    begin = time.monotonic()
    with pytest.raises(DataError, match="cannot be fetched"):
        site.fetch("/slow.png", 1000, seconds=0.4)
    assert time.monotonic() - begin < 3
    assert webs[1].asked[-1][2] == "Token an-old-key"
    with pytest.raises(DataError, match="answers 404"):
        site.fetch("/nowhere.png", 1000)
    with pytest.raises(DataError, match="LABEL_STUDIO_API_KEY"):
        label_studio.Site(webs[0].url, "wrong").fetch("/broken.png", 1000)


def test_a_task_that_fails_is_named_and_the_others_are_done(backend, webs, caplog):
    good = "/data/upload/2/6c0b1835-0016E5_07959.png"
    with caplog.at_level(logging.WARNING):
        answer = backend.client.post("/label-studio/predict", json=recorded(webs, "/broken.png", good, "http://x/y"))
    results = answer.json()["results"]
    assert [bool(result) for result in results] == [False, True, False]
    assert "task 50: This file is no image" in caplog.text
    assert "task 52: The image 'http://x/y' is not in Label Studio" in caplog.text
    alone = backend.client.post("/label-studio/predict", json=recorded(webs, "/broken.png"))
    assert "no image that can be read" in sentence(alone, 415)
    assert "not in Label Studio" in sentence(
        backend.client.post("/label-studio/predict", json=recorded(webs, "x")), 424
    )


def test_many_tasks_are_asked_for_one_by_one(backend, webs):
    good = "/data/local-files/?d=lf/a%20b.png"
    answer = backend.client.post("/label-studio/predict", json=recorded(webs, *[good] * 9))
    assert len(answer.json()["results"]) == 1


def test_only_its_own_paths_take_the_token_as_password(backend):
    client = backend.client
    assert client.post("/label-studio/setup", json=RECORDED["setup"], auth=("any", "wrong")).status_code == 401
    header = {"Authorization": "Bearer secret"}
    assert client.post("/label-studio/setup", json=RECORDED["setup"], auth=None, headers=header).status_code == 200
    assert client.get("/labels").status_code == 401  # with Basic
    assert client.get("/labels", auth=None, headers=header).status_code == 200
    for wrong in ("Basic", "Basic %%%", "Basic " + base64.b64encode(b"\xff\xfe").decode()):
        answer = client.post("/label-studio/setup", json={}, auth=None, headers={"Authorization": wrong})
        assert answer.status_code == 401


@pytest.mark.parametrize(
    ("body", "text"),
    [(b"{", "no JSON"), (b"[]", "no JSON object"), (b"{}", "is no XML"), (b'{"label_config": 1}', "is no XML")],
)
def test_other_bodies_are_refused(backend, body, text):
    for path in ("setup", "predict"):
        assert text in sentence(backend.client.post(f"/label-studio/{path}", content=body), 422)


def test_labels_are_found_by_name(backend, caplog):
    xml = (
        '<View><Image name="img" value="$photo"/><RectangleLabels name="r" toName="img"><Label value="car"/>'
        '</RectangleLabels><BrushLabels name="b" toName="img"><Label value="Sky" alias="heaven"/>'
        '<Label value="person" predicted_values="pedestrian, bicyclist"/><Label value="dog"/></BrushLabels></View>'
    )
    brushes = label_studio.read_config(xml, load_labels("camvid"))
    assert (brushes.from_name, brushes.to_name, brushes.key) == ("b", "img", "photo")
    assert brushes.labels == {0: "heaven", 9: "person", 10: "person"}
    assert brushes.missing == tuple(load_labels("camvid").names[1:9])
    with caplog.at_level(logging.WARNING):
        backend.client.post("/label-studio/setup", json=RECORDED["setup"] | {"schema": xml})
    assert "has no label for building, pole" in caplog.text


@pytest.mark.parametrize(
    ("xml", "text"),
    [
        ("<View/>", "no brush for an image"),
        (CONFIG.replace("BrushLabels", "PolygonLabels"), "no brush for an image"),
        (CONFIG.replace("$image", "a.png"), "takes the image from 'a.png'"),
        ('<View><Image name="i" value="$i"/><BrushLabels name="b" toName="i"/></View>', "none of the model's classes"),
        ('<!DOCTYPE v [<!ENTITY a "b">]><View>&a;</View>', "entities"),
    ],
)
def test_configurations_without_brushes_are_refused(xml, text):
    with pytest.raises(DataError, match="labeling configuration") as error:
        label_studio.read_config(xml, load_labels("camvid"))
    assert text in str(error.value)


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://a", "http://", "http://user@host", "http://a:b"])
def test_addresses_that_are_none_are_refused(url):
    with pytest.raises(ConfigError, match="is no address"):
        label_studio.Site(url, "key")


def test_a_key_is_needed(monkeypatch):
    monkeypatch.delenv(label_studio.KEY_VARIABLE, raising=False)
    with pytest.raises(ConfigError, match="export LABEL_STUDIO_API_KEY"):
        label_studio.read_site(["http://localhost:8080"])
    monkeypatch.setenv(label_studio.KEY_VARIABLE, "secret-key")
    site = label_studio.read_site(["http://localhost:8080/", "https://images.example.org"])
    assert (site.url, site.others) == ("http://localhost:8080", ("https://images.example.org",))
    assert "secret-key" not in repr(site)


def test_a_label_studio_below_a_path(webs):
    site = label_studio.Site("http://example.org/studio", "key")
    assert site.address("/data/upload/1/a b.png") == "http://example.org/studio/data/upload/1/a%20b.png"
    assert site.address("/studio/data/upload/1/a.png") == "http://example.org/studio/data/upload/1/a.png"
