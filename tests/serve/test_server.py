"""The server as a process: it listens, and it ends without leaving anybody waiting."""

import io
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

import hrseg
from hrseg.cli import main
from hrseg.errors import ConfigError, DataError
from hrseg.inference.predictor import Predictor
from hrseg.serve.server import listen, model_name
from tests.serve.conftest import Served, file_of, picture

STREET = Path(__file__).parents[2] / "docs" / "images" / "street.jpg"


def takes_people(url: str) -> bool:
    try:
        return httpx.get(url + "/healthz", trust_env=False, timeout=5).is_success
    except httpx.TransportError:
        return False


def test_an_image_in_work_is_answered_before_the_end(start: Callable[..., Served]) -> None:
    one = start()
    with ThreadPoolExecutor(2) as clients:
        with one.blocked() as begun:
            first = clients.submit(one.predict, file_of(picture()))
            assert begun.wait(30)
            waiting = clients.submit(one.predict, file_of(picture(32, 32)))
            while one.metric("hrseg_queue_length") < 1:
                assert not waiting.done()
            one.running.server.should_exit = True
            while takes_people(one.url):
                assert not first.done()
            assert one.thread.is_alive()
            assert not first.done()
        assert first.result().status_code == waiting.result().status_code == 200
    one.thread.join(30)
    assert not one.thread.is_alive()
    assert not one.service.queue.alive


@pytest.mark.slow
@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (RuntimeError("onnxruntime: Fail\nat /opt/x.cc"), 500),
        (SystemExit(3), 500),
        (MemoryError(), 503),
        (DataError("An image of 8 x 8 pixels is too small. Send a larger one."), 422),
        ([], 500),
    ],
)
def test_a_model_that_fails_is_a_sentence_and_the_next_image_is_answered(
    start: Callable[..., Served], failure: Any, status: int
) -> None:
    served = start()
    run = served.service.queue.run

    def fail(kind: str, items: list[Any]) -> Any:
        if isinstance(failure, BaseException):
            raise failure
        return failure

    served.service.queue.run = fail
    answer = served.predict(file_of(picture(40, 60)))
    assert answer.status_code == status
    assert set(answer.json()) == {"detail"}
    assert "onnx" not in answer.text
    served.service.queue.run = run
    assert served.predict(file_of(picture(40, 60))).status_code == 200


@pytest.mark.slow
def test_the_command_serves_what_predict_writes_and_ends_well_at_sigterm(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(hrseg.__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-m", "hrseg", "serve", "--port", "0", "--precision", "fp32"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment,
    )  # fmt: skip
    watch = threading.Timer(120, process.kill)
    watch.start()
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("hrnet_w18_small_v2.camvid is served at http://127.0.0.1:")
        url = line.split()[4]
        with ThreadPoolExecutor(1) as clients:
            content = file_of(np.array(Image.open(STREET).resize((1024, 640))))
            ask = {"content": content, "trust_env": False, "timeout": 60}
            served = httpx.post(url + "/predict", **ask)
            flying = clients.submit(httpx.post, url + "/predict", **ask)
            while not flying.done() and "places_taken 0" in httpx.get(url + "/metrics", trust_env=False).text:
                pass
            process.send_signal(signal.SIGTERM)
            assert flying.result().content == served.content
        assert process.wait(60) == 0
        _, complaints = process.communicate(timeout=30)
        assert complaints == ""
    finally:
        watch.cancel()
        process.kill()
        process.wait(30)
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()
    (tmp_path / "street.png").write_bytes(content)
    assert main(["predict", str(tmp_path / "street.png"), "--out", str(tmp_path), "--precision", "fp32"]) == 0
    written = np.array(Image.open(tmp_path / "street_mask.png"))
    assert np.array_equal(np.array(Image.open(io.BytesIO(served.content))), written)


def test_a_port_that_is_taken(predictor: Predictor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port} cannot be used: .*--port 0"):
            listen(predictor, port=port)
    with pytest.raises(ConfigError, match="cannot be used"):
        listen(predictor, port=99999)


def test_an_open_address_without_a_token_is_warned_of(predictor: Predictor, caplog) -> None:
    for host, token, warned in (
        ("0.0.0.0", None, True),
        ("0.0.0.0", "x", False),
        ("127.0.0.1", None, False),
    ):
        caplog.clear()
        running = listen(predictor, host=host, port=0, token=token)
        running.listener.close()
        assert ("--token-file" in caplog.text) == warned


def test_what_a_model_is_called() -> None:
    assert model_name("/a/b/runs/mine/best.ckpt", "x") == "mine/best.ckpt"
    assert model_name("/a/b/runs/mine", "x") == "mine"


def test_a_model_of_other_bands_is_refused() -> None:
    network = hrseg.create_model("hrnet_w18_small_v1", num_classes=2, in_channels=4)
    predictor = Predictor(network, bands=range(4), mean=(0.5,) * 4, std=(0.2,) * 4)
    with pytest.raises(ConfigError, match="sees 4 bands"):
        listen(predictor, port=0)
