import json
import re

import httpx
import pytest

from hrseg.serve.middleware import POLICY
from tests.serve.conftest import Served, sentence

PAGE = {"/": "text/html", "/page.css": "text/css", "/page.js": "text/javascript"}


def test_labels_and_health(served: Served) -> None:
    labels = served.client.get("/labels").json()
    first = {"train_id": 0, "id": 0, "name": "sky", "color": [128, 128, 128]}
    assert labels["classes"][0] == first
    assert (len(labels["classes"]), labels["branches"], labels["max_pixels"]) == (11, True, 25e6)
    assert served.client.get("/healthz").json() == {"status": "ok", "model": "small", "queue": 0}


@pytest.mark.parametrize("path", PAGE)
def test_the_page_asks_for_nothing_from_elsewhere(served: Served, path: str) -> None:
    answer = served.client.get(path)
    assert answer.headers["content-type"].startswith(PAGE[path])
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    text = answer.text.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|//cdn|@import|url\(", text)
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=", text)


def test_openapi_names_every_path_and_refusal(served: Served) -> None:
    schema = served.client.get("/openapi.json").json()
    assert set(schema["paths"]) == {"/predict", "/features", "/labels", "/healthz", "/metrics"}
    predict = schema["paths"]["/predict"]["post"]
    assert {"200", "413", "415", "422", "429", "503"} <= set(predict["responses"])
    assert "image/png" in predict["responses"]["200"]["content"]
    assert "multipart/form-data" in predict["requestBody"]["content"]
    assert "HTTPValidationError" not in json.dumps(schema)
    assert served.client.get("/docs").status_code == 404


@pytest.mark.parametrize("path", ["/../../etc/passwd", "/page.css/../x", "/%2e%2e/x", "/page/index.html", "/static/"])
def test_no_path_leads_to_a_file(served: Served, path: str) -> None:
    url = httpx.URL(served.url).copy_with(raw_path=path.encode())
    sentence(served.client.get(url), 404)


def test_other_methods_are_refused(served: Served) -> None:
    answer = served.client.get("/predict")
    assert "another method" in sentence(answer, 405)
    assert answer.headers["allow"] == "POST"
