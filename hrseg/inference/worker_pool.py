"""Daemon worker threads, and a bound on what they hold in memory.

`concurrent.futures.ThreadPoolExecutor` joins its threads when the interpreter exits, so a read from a hung network
disk would keep the process alive after Ctrl-C. These threads are daemons and can be abandoned; futures are the
standard library's.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
POLL_SECONDS = 0.2
"""Seconds between checks for Ctrl-C, which a plain wait ignores on Windows."""


class Stopped(Exception):
    """The run has ended; the result is no longer needed."""


class Pool:
    """A fixed number of daemon threads.

    Args:
        count: Threads.
        name: Prefix of the threads' names, for debuggers.
    """

    def __init__(self, count: int, name: str) -> None:
        self._tasks: SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]] | None]
        self._tasks = SimpleQueue()
        self._stopped = False
        self._threads = [threading.Thread(target=self._work, name=f"{name}-{i}", daemon=True) for i in range(count)]
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[..., T], *args: Any) -> "Future[T]":
        """Schedule a call and return the future of its result."""
        future: Future[T] = Future()
        self._tasks.put((future, function, args))
        return future

    def stop(self, wait: bool) -> None:
        """Cancel the tasks not yet begun; wait for the running ones, or abandon them."""
        self._stopped = True
        for _ in self._threads:
            self._tasks.put(None)  # one for each thread, which ends it
        for thread in self._threads if wait else ():
            thread.join()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            future, function, args = task
            if self._stopped or not future.set_running_or_notify_cancel():
                future.cancel()
                continue
            try:
                future.set_result(function(*args))
            except BaseException as error:
                future.set_exception(error)
            # an idle thread must hold neither an image nor the network
            del task, future, function, args


class MemoryBudget:
    """Upper bound of the pixels in memory; the next picture in order always passes, so no thread waits forever.

    Args:
        limit: Pixels.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._used, self._next = 0, 0
        self._stopped = False
        self._changed = threading.Condition()

    @property
    def exceeded(self) -> bool:
        """Whether more than the limit is in use."""
        return self._used > self.limit

    def acquire(self, number: int, cost: int) -> None:
        """Wait until there is room, or until no earlier picture is unfinished.

        Args:
            number: Of the picture, in order.
            cost: Its pixels.

        Raises:
            Stopped: The run has ended.
        """
        with self._changed:
            self._changed.wait_for(lambda: number <= self._next or self._used + cost <= self.limit or self._stopped)
            if self._stopped:
                raise Stopped
            self._used += cost

    def release(self, cost: int) -> None:
        """Give back what was acquired."""
        with self._changed:
            self._used -= cost
            self._changed.notify_all()

    def advance(self, number: int) -> None:
        """Let this picture, and all before it, pass."""
        with self._changed:
            self._next = number
            self._changed.notify_all()

    def stop(self) -> None:
        """Raise Stopped in all waiting threads."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


def result_of(future: "Future[T]") -> T:
    """Wait for a result, interruptible by Ctrl-C."""
    while True:
        try:
            return future.result(timeout=POLL_SECONDS)
        except FutureTimeout:
            if future.done():  # the task itself timed out
                return future.result()


def finished(value: T) -> "Future[T]":
    """Return a future that is done."""
    future: Future[T] = Future()
    future.set_result(value)
    return future
