"""Order, batching and cancellation in the queue."""

import threading
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from hrseg.inference.predictor import Predictor
from hrseg.serve.batching import BatchQueue, Service, batch_limit
from hrseg.serve.requests import Limits
from tests.serve.conftest import picture


class Recorder:
    """Remembers batches; it begins when the gate is opened."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.gate = threading.Event()

    def __call__(self, kind: str, items: list[Any]) -> list[Any]:
        assert self.gate.wait(30)
        self.batches.append(items)
        if "bad" in items:
            raise ValueError("bad")
        return [(kind, item) for item in items]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def started(queue: BatchQueue, recorder: Recorder, words: list[str], max_batch: int = 3) -> list[Future]:
    """Queue a stopper of its own kind, then words; equal first letters go together."""
    stopper = queue.submit("stop", "stopper")
    futures = [queue.submit("do", word, shape=word[0], max_batch=max_batch) for word in words]
    queue.start()
    recorder.gate.set()
    assert stopper.result(30) == ("stop", "stopper")
    return futures


def test_the_oldest_is_next_and_its_like_join_it(recorder: Recorder) -> None:
    queue = BatchQueue(recorder, max_wait=0)
    futures = started(queue, recorder, ["a1", "b1", "a2", "b2", "a3", "a4"])
    assert [future.result(30)[1] for future in futures] == ["a1", "b1", "a2", "b2", "a3", "a4"]
    assert recorder.batches[1:] == [["a1", "a2", "a3"], ["b1", "b2"], ["a4"]]
    queue.close()


def test_a_batch_waits_for_others_and_goes_when_it_is_full(recorder: Recorder) -> None:
    sizes: list[int] = []
    queue = BatchQueue(recorder, max_wait=30, on_batch=sizes.append)
    recorder.gate.set()
    queue.start()
    futures = [queue.submit("do", "a", max_batch=2) for _ in range(2)]  # in far less than 30 s
    assert [future.result(20) for future in futures] == [("do", "a")] * 2
    assert sizes == [2]
    queue.close()


def test_one_bad_item_fails_alone(recorder: Recorder) -> None:
    queue = BatchQueue(recorder, max_wait=0)
    good, bad = started(queue, recorder, ["boy", "bad"])
    assert good.result(30) == ("do", "boy")
    with pytest.raises(ValueError, match="bad"):
        bad.result(30)
    queue.close()


def test_cancelled_items_are_left_out(recorder: Recorder) -> None:
    queue = BatchQueue(recorder, max_wait=0)
    stopper = queue.submit("stop", "stopper")
    first, second = (queue.submit("do", word, max_batch=2) for word in ("x", "y"))
    assert first.cancel()
    recorder.gate.set()
    queue.start()
    assert second.result(30) == ("do", "y")
    assert stopper.done()
    assert recorder.batches == [["stopper"], ["y"]]
    queue.close()


def test_closing_finishes_what_waits_and_takes_no_more(recorder: Recorder) -> None:
    queue = BatchQueue(recorder, max_wait=30)
    futures = [queue.submit("do", i, shape=i) for i in range(5)]
    recorder.gate.set()
    queue.start()
    queue.close()
    assert [future.result(0) for future in futures] == [("do", i) for i in range(5)]
    assert not queue.alive
    with pytest.raises(RuntimeError, match="closed"):
        queue.submit("do", 6)


def test_images_together_are_as_each_alone(predictor: Predictor) -> None:
    images = [picture(seed=seed) for seed in range(3)]
    together = Service(predictor, "small", Limits()).run("segment", images)
    for image, found in zip(images, together, strict=True):
        alone = predictor(image)
        assert np.abs(found.confidence - alone.confidence).max() < 1e-4  # sums in another order
        assert (found.mask != alone.mask).mean() < 1e-3
        assert found.image is image


def test_large_images_go_alone() -> None:
    assert batch_limit((512, 512), 16) == 8
    assert batch_limit((512, 512), 4) == 4
    assert batch_limit((2000, 2000), 16) == 1


@pytest.mark.parametrize("failure", [ValueError("x"), SystemExit(1), KeyboardInterrupt(), []])
def test_the_worker_goes_on_after_a_failure_of_any_kind(failure: Any) -> None:
    def run(kind: str, items: list[Any]) -> list[Any]:
        if kind == "do":
            return items
        if isinstance(failure, BaseException):
            raise failure
        return failure

    queue = BatchQueue(run, max_wait=0)
    queue.start()
    future = queue.submit("fail", "a")
    with pytest.raises((ValueError, RuntimeError)):
        future.result(20)
    assert queue.submit("do", "b").result(20) == "b"
    queue.close()
