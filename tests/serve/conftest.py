"""Real servers on free ports of this machine, around one small network with random weights."""

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hrseg.inference.predictor import Predictor
from hrseg.labels import load_labels
from hrseg.models import create_model

httpx = pytest.importorskip("httpx", reason="needs the extra 'test'")
for _name in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
    pytest.importorskip(_name, reason="needs the extra 'serve'")

from hrseg.serve.server import Running, listen  # noqa: E402 - after the check for the extra


class Served:
    """A server that runs in a thread, and a client of it."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.url = running.url
        self.service: Any = running.app.state.service
        self.client = httpx.Client(base_url=self.url, timeout=60, trust_env=False)
        self.thread = threading.Thread(target=running.serve, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.client.close()
        self.running.server.should_exit = True
        self.thread.join(30)
        assert not self.thread.is_alive()

    def predict(self, content: bytes, **options: Any) -> Any:
        return self.client.post("/predict", params=options, content=content, headers={"Content-Type": "image/png"})

    def metric(self, name: str) -> float:
        lines = self.client.get("/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith(f"{name} ")).split()[-1])

    @contextmanager
    def blocked(self) -> Iterator[threading.Event]:
        """Let the worker wait; yields an event that tells when it has begun."""
        begun, free = threading.Event(), threading.Event()
        run = self.service.queue.run

        def wait(kind: str, items: list[Any]) -> Any:
            begun.set()
            assert free.wait(30)
            return run(kind, items)

        self.service.queue.run = wait
        try:
            yield begun
        finally:
            free.set()
            self.service.queue.run = run


@pytest.fixture(scope="package")
def predictor() -> Predictor:
    torch.manual_seed(0)
    network = create_model("hrnet_w18_small_v1", "v2", 11)
    return Predictor(network, load_labels("camvid"), device="cpu", precision="fp32")


@pytest.fixture(scope="package")
def start(predictor: Predictor) -> Iterator[Callable[..., Served]]:
    with ExitStack() as stack:

        def begin(extend: Callable[[Any], None] = lambda app: None, **options: Any) -> Served:
            running = listen(**{"predictor": predictor, "port": 0} | options)
            extend(running.app)
            served = Served(running)
            stack.callback(served.stop)
            return served

        yield begin


@pytest.fixture(scope="package")
def served(start: Callable[..., Served]) -> Served:
    """A server with the default limits, for tests that leave it as it is."""
    return start(model="small")


def picture(height: int = 64, width: int = 96, seed: int = 0) -> np.ndarray:
    """A smooth picture, so that classes form areas."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
    return np.array(coarse.resize((width, height), Image.Resampling.BICUBIC))


def file_of(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def opened(content: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(content)))


def sentence(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.text
    detail = answer.json()["detail"]
    assert set(answer.json()) == {"detail"}
    assert detail.endswith(".")
    assert "\n" not in detail
    return detail
