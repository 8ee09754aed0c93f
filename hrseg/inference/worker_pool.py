"""Threads that can be left behind, and a budget that keeps what they hold small. Nothing here knows images.

The threads are daemons: one that waits for a slow server must not hold up a user who stops.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from queue import Empty, Full, Queue, SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_LOOK_UP = 0.2
"""Seconds between looks at whether it is time to stop."""


class Stopped(Exception):
    """Others have stopped; nobody waits for what was to be done."""


class Pool:
    """Threads that take one job after the other.

    Args:
        count: Threads.
        name: Of the threads, for debuggers.
    """

    def __init__(self, count: int, name: str) -> None:
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]] | None]
        self._jobs = SimpleQueue()
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{i}", daemon=True)
            for i in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, call: Callable[..., T], *words: Any) -> "Future[T]":
        """Have a call made; what it returns or raises is in the future."""
        future: Future[T] = Future()
        self._jobs.put((future, call, words))
        return future

    def stop(self, wait: bool) -> None:
        """Begin no other job; wait for those that are under way or leave them behind."""
        self._stopped = True
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads if wait else ():
            thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, call, words = job
            if self._stopped or not future.set_running_or_notify_cancel():
                future.cancel()
                continue
            try:
                future.set_result(call(*words))
            except BaseException as error:  # whoever asks for the result gets it
                future.set_exception(error)
            # A waiting thread must keep neither an image nor the network.
            del job, future, call, words


class Line(Generic[T]):
    """A queue of bounded length between threads that can all be told to stop.

    Args:
        length: Things in it at most.
    """

    def __init__(self, length: int) -> None:
        self._queue: Queue[T] = Queue(length)
        self.stopped = threading.Event()

    def put(self, thing: T) -> None:
        """Add to the end, as soon as there is room.

        Raises:
            Stopped: Nobody takes anything any more.
        """
        while not self.stopped.is_set():
            try:
                return self._queue.put(thing, timeout=_LOOK_UP)
            except Full:
                continue
        raise Stopped

    def get(self) -> T:
        """Take the first, as soon as there is one."""
        while True:
            try:
                return self._queue.get(timeout=_LOOK_UP)
            except Empty:
                continue


class Budget:
    """What may be in memory at once. The next in line always gets its share, so nobody waits for ever.

    Args:
        limit: Of anything that is counted.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._used, self._turn = 0, 0
        self._stopped = False
        self._changed = threading.Condition()

    @property
    def over(self) -> bool:
        """Whether more is taken than the limit."""
        return self._used > self.limit

    def take(self, number: int, cost: int) -> None:
        """Wait until there is room, or until it is this number's turn.

        Raises:
            Stopped: There will be none.
        """
        with self._changed:
            while number > self._turn and self._used + cost > self.limit and not self._stopped:
                self._changed.wait()
            if self._stopped:
                raise Stopped
            self._used += cost

    def give(self, cost: int) -> None:
        """Give back what was taken."""
        with self._changed:
            self._used -= cost
            self._changed.notify_all()

    def turn(self, number: int) -> None:
        """Say whose turn it is: of this number, and all before it."""
        with self._changed:
            self._turn = number
            self._changed.notify_all()

    def stop(self) -> None:
        """Let everybody go who waits."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


def result_of(future: "Future[T]") -> T:
    """Wait for a result in a way that Ctrl-C ends on every system."""
    while True:
        try:
            return future.result(timeout=_LOOK_UP)
        except FutureTimeout:
            if future.done():  # the job itself timed out
                return future.result()


def finished(value: T) -> "Future[T]":
    """Return a future that is there already."""
    future: Future[T] = Future()
    future.set_result(value)
    return future
