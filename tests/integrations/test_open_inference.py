"""The Open Inference Protocol on a real server: its JSON by hand, and NVIDIA's own client where it is installed."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hrseg.inference.predictor import Predictor

pytest.importorskip("fastapi", reason="needs the extra 'serve'")

from hrseg.integrations.open_inference import HEADER, add_open_inference
from hrseg.serve.requests import Limits
from tests.serve.conftest import Served, picture


@pytest.fixture(scope="module")
def served(start: Callable[..., Served]) -> Served:
    limits = Limits(max_pixels=64 * 96 * 4)
    return start(extend=add_open_inference, model="mine/best.ckpt", limits=limits)


MODEL = "/v2/models/mine/best.ckpt"


def question(images: np.ndarray, **more: Any) -> dict[str, Any]:
    tensor = {"name": "image", "datatype": "UINT8", "shape": list(images.shape), "data": images.ravel().tolist()}
    return {"inputs": [tensor], **more}


def error(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    return answer.json()["error"]


def test_server_and_model_describe_themselves(served: Served) -> None:
    client = served.client
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    for path in (MODEL, f"{MODEL}/versions/1"):
        about = client.get(path).json()
        assert (about["name"], about["versions"]) == ("mine/best.ckpt", ["1"])
        assert about["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}]
        assert client.get(f"{path}/ready").json()["ready"] is True
    assert "this server has mine/best.ckpt" in error(client.get("/v2/models/other"), 404)
    assert "no model" in error(client.post("/v2/models/other/infer", json={}), 404)
    error(client.get("/v2/nothing"), 404)


def test_json_tensors_of_a_batch(served: Served, predictor: Predictor) -> None:
    images = np.stack([picture(seed=i) for i in range(3)])
    nested = question(images, id="7")
    nested["inputs"][0]["data"] = images.tolist()
    for body in (nested, question(images, id="7")):
        answer = served.client.post(f"{MODEL}/infer", json=body).json()
        assert (answer["model_name"], answer["model_version"], answer["id"]) == ("mine/best.ckpt", "1", "7")
        labels, probability = answer["outputs"]
        assert (labels["name"], labels["datatype"], labels["shape"]) == ("labels", "UINT8", [3, 64, 96])
        right = [predictor(image) for image in images]
        assert np.array_equal(np.reshape(labels["data"], (3, 64, 96)), [one.mask for one in right])
        confidence = np.reshape(probability["data"], (3, 64, 96))
        assert np.allclose(confidence, [one.confidence for one in right], atol=1e-5)
    assert served.metric("hrseg_places_taken") == 0


def test_tensors_as_bytes(served: Served, predictor: Predictor) -> None:
    images = picture()[None]
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 64, 96, 3]}
    tensor["parameters"] = {"binary_data_size": images.nbytes}
    outputs = [{"name": "labels", "parameters": {"binary_data": True}}]
    head = json.dumps({"inputs": [tensor], "outputs": outputs}).encode()
    answer = served.client.post(f"{MODEL}/infer", content=head + images.tobytes(), headers={HEADER: str(len(head))})
    length = int(answer.headers[HEADER])
    (labels,) = json.loads(answer.content[:length])["outputs"]
    assert labels["parameters"] == {"binary_data_size": 64 * 96}
    assert np.array_equal(np.frombuffer(answer.content[length:], np.uint8).reshape(64, 96), predictor(images[0]).mask)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "photo"}, "its input is photo"),
        ({"datatype": "FP32"}, "its input is image FP32"),
        ({"shape": [1, 3, 8, 8]}, "Right is:"),
        ({"shape": [1, -8, 8, 3]}, "its shape is"),
        ({"shape": [1, 8, 9, 3]}, "should be 216 whole numbers, and are 192"),
        ({"data": [0.5] * 192}, "of float64"),
        ({"data": [256] * 192}, "from 256 to 256"),
        ({"data": [[1], [2, 3]]}, "are no tensor"),
        ({"parameters": {"binary_data_size": 5}}, "should have 192 bytes, declares 5"),
    ],
)
def test_tensors_that_the_model_does_not_take_are_refused(served: Served, change: dict[str, Any], says: str) -> None:
    body = question(np.zeros((1, 8, 8, 3), np.uint8))
    body["inputs"][0] |= change
    assert says in error(served.client.post(f"{MODEL}/infer", json=body), 400)


def test_bodies_of_something_else_are_refused(served: Served) -> None:
    def post(content: bytes, **headers: str) -> str:
        return error(served.client.post(f"{MODEL}/infer", content=content, headers=headers), 400)

    assert "one input" in post(b"{")
    assert "it has no 'inputs'" in post(b"{}")
    assert "one input" in post(b'{"inputs": []}')
    assert "one input" in post(b"[" * 100_000)
    assert HEADER in post(b"{}", **{HEADER: "3"})
    body = question(np.zeros((1, 8, 8, 3), np.uint8), outputs=[{"name": "depth"}])
    assert "output 'depth'" in post(json.dumps(body).encode())
    large = question(np.zeros((5, 64, 96, 3), np.uint8))
    assert "at most 24,576" in error(served.client.post(f"{MODEL}/infer", json=large), 413)
    assert served.metric("hrseg_places_taken") == 0


def test_the_token_and_the_places_hold_for_it_too(start: Callable[..., Served]) -> None:
    one = start(extend=add_open_inference, model="small", token="sesame", limits=Limits(max_queue=1))
    body = question(np.zeros((1, 8, 8, 3), np.uint8))
    path = "/v2/models/small/infer"
    error(one.client.post(path, json=body), 401)
    error(one.client.get("/v2/models/small"), 401)
    assert one.client.get("/v2/health/ready").status_code == 200
    one.client.headers["Authorization"] = "Bearer sesame"
    place = one.service.capacity.acquire("another")
    assert "full" in error(one.client.post(path, json=body), 429)
    one.service.capacity.release(place)
    assert one.client.post(path, json=body).status_code == 200
    assert one.metric(f'hrseg_requests_total{{path="{path}",status="200"}}') == 1


def test_the_client_of_triton_gets_our_labels(served: Served, predictor: Predictor) -> None:
    triton = pytest.importorskip("tritonclient.http", reason="needs tritonclient[http]")
    client = triton.InferenceServerClient(served.url.removeprefix("http://"))
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("mine/best.ckpt")
    assert client.get_model_metadata("mine/best.ckpt", "1")["outputs"][0]["name"] == "labels"
    images = np.stack([picture(seed=i) for i in range(2)])
    right = np.stack([predictor(image).mask for image in images])
    for binary in (True, False):
        tensor = triton.InferInput("image", list(images.shape), "UINT8")
        tensor.set_data_from_numpy(images, binary_data=binary)
        wanted = [triton.InferRequestedOutput("labels", binary_data=binary)]
        for outputs in (wanted, None):
            answer = client.infer("mine/best.ckpt", [tensor], outputs=outputs)
            assert np.array_equal(answer.as_numpy("labels"), right)
    with pytest.raises(triton.InferenceServerException, match="no model 'other'"):
        client.infer("other", [tensor])
    client.close()
