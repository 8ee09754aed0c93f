"""Batching queue in front of the network, and the service that the routes share.

How much may wait is bounded on admission (`requests.Capacity`), so the queue itself refuses nothing.
"""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from starlette.requests import ClientDisconnect, Request

from hrseg.errors import ConfigError, DataError
from hrseg.imaging import LoadedImage, to_tensor
from hrseg.inference.predictor import Predictor
from hrseg.models.hrnet import stride_of
from hrseg.serve.metrics import Metrics
from hrseg.serve.requests import (
    Capacity,
    Limits,
    RequestError,
    decode,
    open_upload,
    read_image_bytes,
    server_full,
    timed_out,
)

MAX_BATCH_PIXELS = 2**21
"""Pixels of a batch; larger batches gain nothing and need memory."""
MAX_FEATURE_PIXELS = 2**20
"""Images are shrunk to this before their branches are shown."""
_SMOOTHING = 0.2
_FILE_THREADS = 2
"""Threads that decode and encode files beside the network."""
Result = TypeVar("Result")


@dataclass(eq=False)
class Task:
    """One item in the queue.

    Attributes:
        key: Kind of work and shape; tasks of one key may form a batch.
        item: Input of the work.
        max_batch: Size of a batch of this key.
        future: Receives the result.
    """

    key: tuple[str, Hashable]
    item: Any
    max_batch: int
    future: Future[Any] = field(default_factory=Future)


class BatchQueue:
    """A worker thread with a queue.

    The oldest task is always next; those of its key join its batch, also while they come within max_wait. The others
    keep their order.

    Args:
        run: (kind, items) → one result each; called in one thread only.
        max_wait: Seconds that the first of a batch waits for others.
        on_batch: Called with the size of each batch.
    """

    def __init__(
        self,
        run: Callable[[str, list[Any]], Sequence[Any]],
        max_wait: float = 0.005,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        self.run = run
        self.max_wait = max_wait
        self.on_batch = on_batch
        self.seconds_per_task = 0.5
        """Exponential running mean."""
        self._waiting: deque[Task] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="hrseg-serve", daemon=True)

    def start(self) -> None:
        """Start the worker thread."""
        self._thread.start()

    def submit(self, kind: str, item: Any, shape: Hashable = None, max_batch: int = 1) -> Future[Any]:
        """Append an item; its future can be cancelled until its turn.

        Args:
            kind: Kind of work.
            item: Its input.
            shape: Items of equal kind and shape may form a batch.
            max_batch: Size of that batch.
        """
        task = Task((kind, shape), item, max_batch)
        with self._changed:
            if self._closing:
                raise RuntimeError("the queue is closed")
            self._waiting.append(task)
            self._changed.notify()
        return task.future

    def close(self) -> None:
        """Finish the queued tasks, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def length(self) -> int:
        """Number of waiting tasks."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _work(self) -> None:
        while batch := self._next_batch():
            tasks = [task for task in batch if task.future.set_running_or_notify_cancel()]
            if tasks:
                self._run_batch(tasks)
            del batch, tasks  # images would stay in memory until the next ones come

    def _next_batch(self) -> list[Task]:
        """Wait for the next batch; empty when the queue is closed and done."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            if not self._waiting:
                return []
            first = self._waiting[0]
            self._changed.wait_for(lambda: self._closing or len(self._alike(first)) >= first.max_batch, self.max_wait)
            batch = self._alike(first)[: first.max_batch]
            self._waiting = deque(task for task in self._waiting if task not in batch)
            return batch

    def _alike(self, first: Task) -> list[Task]:
        return [task for task in self._waiting if task.key == first.key]

    def _run_batch(self, tasks: list[Task]) -> None:
        self.on_batch(len(tasks))
        start = time.monotonic()
        try:
            results = self.run(tasks[0].key[0], [task.item for task in tasks])
            if len(results) != len(tasks):
                raise RuntimeError(f"the model answers {len(tasks)} images by {len(results)}")
        except BaseException as error:  # of any kind, a panic of a runtime too: this thread goes on
            if len(tasks) == 1:
                ours = isinstance(error, Exception)
                tasks[0].future.set_exception(error if ours else RuntimeError(repr(error)))
                return
            for task in tasks:  # one may be at fault, or the batch was too large: each alone
                self._run_batch([task])
            return
        for task, result in zip(tasks, results, strict=True):
            task.future.set_result(result)
        seconds = (time.monotonic() - start) / len(tasks)
        self.seconds_per_task += _SMOOTHING * (seconds - self.seconds_per_task)


class Service:
    """Predictor, queue, capacity and metrics of one server.

    Args:
        predictor: The network with its labels.
        model: Display name.
        limits: Of the server.

    Raises:
        ConfigError: The network does not take RGB images.
    """

    def __init__(self, predictor: Predictor, model: str, limits: Limits) -> None:
        if predictor.bands is not None or predictor.in_channels != 3:
            raise ConfigError(
                f"This model sees {predictor.in_channels} bands as stored, and the server takes RGB pictures. Use: "
                "hrseg predict IMAGE --model MODEL"
            )
        self.predictor = predictor
        self.labels = predictor.labels
        self.model = model
        self.limits = limits
        self.capacity = Capacity(limits)
        self.metrics = Metrics()
        self.queue = BatchQueue(self.run, limits.max_wait, self.metrics.batch_size.observe)
        self.metrics.queue_length.set_function(lambda: self.queue.length)
        self.metrics.places_taken.set_function(lambda: self.capacity.taken)
        self.threads = ThreadPoolExecutor(_FILE_THREADS, "hrseg-files")

    @property
    def shows_branches(self) -> bool:
        """Whether the network gives its branches; exported files do not."""
        return hasattr(self.predictor.network, "forward_branches")

    def run(self, kind: str, images: list[LoadedImage]) -> Sequence[Any]:
        """Run one kind of work in the worker thread: "segment" or "branches"."""
        if kind == "segment":
            return self.predictor.batch(images)
        return [self._branches(image.pixels) for image in images]

    def _branches(self, image: np.ndarray) -> list[tuple[float, torch.Tensor]]:
        """Return stride and last maps of each branch."""
        image = shrink(image, MAX_FEATURE_PIXELS)
        tensor = to_tensor(image, self.predictor.mean, self.predictor.std)[None]
        network: Any = self.predictor.network
        device = next(network.parameters()).device
        with torch.no_grad():
            maps = network.eval().forward_branches(tensor.to(device))
        scale = float(getattr(network, "spec", {}).get("input_scale", 1.0))
        return [(stride_of(image.shape[0], one.shape[-2], scale), one) for one in maps]

    async def in_thread(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call a function in a thread for files."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads, function, *arguments)

    async def read_image(self, request: Request) -> LoadedImage:
        """Return the decoded image of a request."""
        return await self.decoded(request, await read_image_bytes(request, self.limits))

    async def decoded(self, request: Request, content: bytes) -> LoadedImage:
        """Decode an image file when there is room for its pixels.

        Args:
            request: That the image is for; has a place.
            content: Of the file.

        Raises:
            RequestError: No image, too large, or no room.
        """
        file = await self.in_thread(open_upload, content, self.limits, self.predictor.bits)
        if not self.capacity.reserve(request.state.place, file.width * file.height):
            file.close()
            raise server_full(self.seconds_to_wait())
        return await self.in_thread(decode, file)

    async def result(self, request: Request, future: Future[Result], end: float) -> Result:
        """Wait for a result of the queue while the client stays connected.

        Args:
            request: Of the client.
            future: Of the queue; cancelled if the wait ends before it is done.
            end: Latest time, on the loop's clock.

        Raises:
            RequestError: Too late, or too little memory.
            ClientDisconnect: The client has gone.
        """
        waiting = asyncio.wrap_future(future)
        leaving = asyncio.ensure_future(_disconnected(request))
        try:
            left = end - asyncio.get_running_loop().time()
            both: set[asyncio.Future[Any]] = {waiting, leaving}
            await asyncio.wait(both, timeout=left, return_when="FIRST_COMPLETED")
            if waiting.done():
                return waiting.result()
            raise ClientDisconnect if leaving.done() else timed_out(self.limits)
        except DataError as error:  # such as an image too small for an exported file
            raise RequestError(422, str(error)) from error
        except (MemoryError, torch.OutOfMemoryError) as error:
            raise RequestError(
                503, "The server has too little memory for this image now; send a smaller one.", 5
            ) from error
        finally:
            waiting.cancel()
            leaving.cancel()

    def seconds_to_wait(self) -> float:
        """Estimate after how many seconds the present requests will be done."""
        return self.capacity.taken * self.queue.seconds_per_task


def batch_limit(size: tuple[int, ...], max_batch: int) -> int:
    """Return how many images of this (height, width) go through the network together."""
    return max(1, min(max_batch, MAX_BATCH_PIXELS // (size[0] * size[1])))


def shrink(image: np.ndarray, max_pixels: int) -> np.ndarray:
    """Downsize an image that has more than max_pixels. Shape: (H, W, 3) → (h, w, 3).

    Example:
        >>> shrink(np.zeros((200, 100, 3), np.uint8), 5000).shape
        (100, 50, 3)
    """
    height, width = image.shape[:2]
    if height * width <= max_pixels:
        return image
    factor = math.sqrt(max_pixels / (height * width))
    size = (max(1, int(width * factor)), max(1, int(height * factor)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
