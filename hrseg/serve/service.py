"""What the paths of a server share: the queue with its network, the room, and an image's way from bytes to its turn."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from fastapi import Request

from hrseg.imaging import LoadedImage
from hrseg.inference.predictor import Predictor
from hrseg.serve.body import GoneError, image_bytes, read_body
from hrseg.serve.limits import Limits, Places, Refusal, no_room, too_slow
from hrseg.serve.metrics import Metrics
from hrseg.serve.pictures import decode, open_picture
from hrseg.serve.queue import BatchQueue
from hrseg.serve.work import Work

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
