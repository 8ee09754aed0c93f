"""The queue before the network: one thread takes what waits, equal sizes together.

Whoever submits gets a future. How much may wait is bounded at the door (`limits.Places`), so nothing is refused here.
"""

import asyncio
import logging
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
from fastapi import Request

from hrseg.errors import ConfigError
from hrseg.imaging import LoadedImage, to_tensor
from hrseg.inference.predictor import Prediction, Predictor
from hrseg.models.hrnet import stride_of
from hrseg.serve.metrics import Metrics
from hrseg.serve.requests import (
    GoneError,
    Limits,
    Places,
    Refusal,
    decode,
    image_bytes,
    no_room,
    open_picture,
    read_body,
    too_slow,
)
from hrseg.viz import mean_map, pca_rgb, top_channels

log = logging.getLogger(__name__)

_SMOOTHING = 0.2


@dataclass(eq=False)
class Job:
    """One thing to be done.

    Attributes:
        key: Jobs of one key may go together; the first word of it says what is to be done.
        item: What it is about.
        most: How many of its key may go together.
        future: Where the answer goes.
    """

    key: tuple[str, Hashable]
    item: Any
    most: int
    future: Future[Any] = field(default_factory=Future)


class BatchQueue:
    """A worker thread and what waits for it.

    The oldest job is always next. Jobs of its key join it, those that come within max_wait too; the others keep
    their order.

    Args:
        run: Does jobs of one kind: (kind, items) → one answer each. It is called in one thread only.
        max_wait: Seconds that the first of a batch waits for others.
        on_batch: Told the size of each batch.
    """

    def __init__(
        self,
        run: Callable[[str, list[Any]], Sequence[Any]],
        max_wait: float = 0.005,
        on_batch: Callable[[int], None] | None = None,
    ) -> None:
        self.run = run
        self.max_wait = max_wait
        self.on_batch = on_batch
        self.seconds_each = 0.5
        """Running mean of the time that one job takes."""
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="hrseg-serve", daemon=True)

    def start(self) -> None:
        """Start the worker thread."""
        self._thread.start()

    def submit(self, kind: str, item: Any, form: Hashable = None, most: int = 1) -> Future[Any]:
        """Put something at the end.

        Args:
            kind: What is to be done.
            item: With what.
            form: Items of equal form may go together.
            most: How many of them.

        Returns:
            Its answer, or what went wrong. Cancelled before its turn, it is left out.
        """
        job = Job((kind, form), item, most)
        with self._changed:
            if self._closing:
                raise RuntimeError("the queue is closed")
            self._waiting.append(job)
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Finish what waits, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def length(self) -> int:
        """Jobs that wait."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        """Whether the thread works."""
        return self._thread.is_alive()

    def _work(self) -> None:
        while batch := self._next():
            jobs = [job for job in batch if job.future.set_running_or_notify_cancel()]
            if jobs:
                self._do(jobs)
            del batch, jobs  # images would stay until the next ones come

    def _next(self) -> list[Job]:
        """Wait for the next batch; empty when all is done."""
        with self._changed:
            while not self._waiting and not self._closing:
                self._changed.wait()
            if not self._waiting:
                return []
            first = self._waiting[0]
            end = time.monotonic() + self.max_wait
            while not self._closing and (left := end - time.monotonic()) > 0:
                if self._alike(first) >= first.most:
                    break
                self._changed.wait(left)
            chosen = [job for job in self._waiting if job.key == first.key][: first.most]
            self._waiting = deque(job for job in self._waiting if job not in chosen)
            return chosen

    def _alike(self, first: Job) -> int:
        return sum(job.key == first.key for job in self._waiting)

    def _do(self, jobs: list[Job]) -> None:
        if self.on_batch is not None:
            self.on_batch(len(jobs))
        start = time.monotonic()
        try:
            answers = self.run(jobs[0].key[0], [job.item for job in jobs])
        except Exception as error:  # whatever it is, it belongs to whoever waits
            if len(jobs) > 1:  # one of them may be to blame, or all together were too much
                for job in jobs:
                    self._do([job])
            else:
                jobs[0].future.set_exception(error)
            return
        for job, answer in zip(jobs, answers, strict=True):
            job.future.set_result(answer)
        each = (time.monotonic() - start) / len(jobs)
        self.seconds_each += _SMOOTHING * (each - self.seconds_each)


BATCH_PIXELS = 2**21
"""Images go together up to this many pixels; larger batches gain nothing and need memory."""
LOOK_PIXELS = 2**20
"""Images are shrunk to this before their branches are looked at."""
STRONGEST = 3


@dataclass(frozen=True)
class BranchView:
    """One branch of one image, as pictures.

    Attributes:
        index: 0 is the finest.
        stride: Pixels of the image for one of the map, in each direction.
        channels: Of the map.
        mean: How strong, dark to bright, uint8 (h, w, 3).
        pca: How alike: like features, like colors.
        strongest: Channel → picture, those that vary most.
    """

    index: int
    stride: float
    channels: int
    mean: np.ndarray
    pca: np.ndarray
    strongest: dict[int, np.ndarray]


class Work:
    """The tasks of the worker thread, by name.

    Args:
        predictor: The network with its labels.

    Raises:
        ConfigError: It does not see RGB images.
    """

    def __init__(self, predictor: Predictor) -> None:
        if predictor.bands is not None or predictor.in_channels != 3:
            raise ConfigError(
                f"This model sees {predictor.in_channels} bands as stored, and the server takes RGB pictures. Use: "
                "hrseg predict IMAGE --model MODEL"
            )
        self.predictor = predictor
        self.kinds: dict[str, Callable[[list[LoadedImage]], Sequence[Any]]]
        self.kinds = {"segment": self.segment, "branches": self.branches}

    @property
    def shows_branches(self) -> bool:
        """Whether the network lets its branches be seen; exported files do not."""
        return hasattr(self.predictor.network, "forward_branches")

    def __call__(self, kind: str, images: list[LoadedImage]) -> Sequence[Any]:
        """Do one task for several images."""
        return self.kinds[kind](images)

    def segment(self, images: list[LoadedImage]) -> list[Prediction]:
        """Segment images of one size."""
        return self.predictor.batch(images)

    def branches(self, images: list[LoadedImage]) -> list[list[BranchView]]:
        """Show the last maps of every branch."""
        return [self._branches(image.pixels) for image in images]

    def _branches(self, image: np.ndarray) -> list[BranchView]:
        image = shrunk(image, LOOK_PIXELS)
        tensor = to_tensor(image, self.predictor.mean, self.predictor.std)[None]
        network: Any = self.predictor.network
        device = next(network.parameters()).device
        with torch.no_grad():
            maps = network.eval().forward_branches(tensor.to(device))
        scale = float(getattr(network, "spec", {}).get("input_scale", 1.0))
        strides = [stride_of(image.shape[0], one.shape[-2], scale) for one in maps]
        return [_view(i, *both) for i, both in enumerate(zip(strides, maps, strict=True))]


def most_together(size: tuple[int, ...], max_batch: int) -> int:
    """Return how many images of this (height, width) go through the network together."""
    return max(1, min(max_batch, BATCH_PIXELS // (size[0] * size[1])))


def shrunk(image: np.ndarray, most: int) -> np.ndarray:
    """Make an image smaller where it has more pixels than most. Shape: (H, W, 3) → (h, w, 3).

    Example:
        >>> shrunk(np.zeros((200, 100, 3), np.uint8), 5000).shape
        (100, 50, 3)
    """
    height, width = image.shape[:2]
    if height * width <= most:
        return image
    factor = math.sqrt(most / (height * width))
    size = (max(1, int(width * factor)), max(1, int(height * factor)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def _view(index: int, stride: float, maps: torch.Tensor) -> BranchView:
    return BranchView(
        index,
        round(stride, 2),
        int(maps.shape[1]),
        mean_map(maps),
        pca_rgb(maps),
        top_channels(maps, STRONGEST),
    )


Result = TypeVar("Result")
_THREADS = 2
"""Decode and encode files beside the network."""


class Service:
    """All that the paths share.

    Args:
        predictor: The network.
        model: Its name, as people know it.
        limits: Bounds.
    """

    def __init__(self, predictor: Predictor, model: str, limits: Limits) -> None:
        self.work = Work(predictor)
        self.labels = predictor.labels
        self.model = model
        self.limits = limits
        self.places = Places(limits)
        self.metrics = Metrics()
        self.queue = BatchQueue(self.work, limits.max_wait, self.metrics.batch)
        self.threads = ThreadPoolExecutor(_THREADS, "hrseg-files")

    async def aside(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call a function in a thread for files."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads, function, *arguments)

    async def image(self, request: Request) -> LoadedImage:
        """Return the image that a request brings."""
        body = await read_body(request.receive, self.limits)
        content = image_bytes(body, request.headers.get("content-type"))
        del body
        picture = await self.aside(open_picture, content, self.limits, self.work.predictor.bits)
        if not self.places.weigh(request.state.place, picture.width * picture.height):
            picture.close()
            raise no_room(self.seconds_to_wait())
        return await self.aside(decode, picture)

    async def turn(self, request: Request, future: Future[Result], end: float) -> Result:
        """Wait for an answer of the worker, as long as the client waits too.

        Args:
            request: Of the client.
            future: Of the queue.
            end: Until when, on the loop's clock.

        Raises:
            Refusal: Too late, or too little memory.
            GoneError: The client hung up.
        """
        waiting = asyncio.wrap_future(future)
        leaving = asyncio.ensure_future(_gone(request))
        try:
            left = end - asyncio.get_running_loop().time()
            both: set[asyncio.Future[Any]] = {waiting, leaving}
            await asyncio.wait(both, timeout=left, return_when="FIRST_COMPLETED")
            if waiting.done():
                return waiting.result()
            raise GoneError if leaving.done() else too_slow(self.limits)
        except (MemoryError, torch.OutOfMemoryError) as error:
            raise Refusal(
                503, "The server has too little memory for this image now; send a smaller one.", 5
            ) from error
        finally:
            waiting.cancel()
            leaving.cancel()

    def seconds_to_wait(self) -> float:
        """Return after how many seconds what waits now will be done."""
        return self.places.taken * self.queue.seconds_each


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
