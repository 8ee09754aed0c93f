"""The queue before the network: one thread takes what waits, equal sizes together.

Whoever submits gets a future. How much may wait is bounded at the door (`limits.Places`), so nothing is refused here.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

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
