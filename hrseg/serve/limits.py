"""What the server takes on: sizes, times, places, and the refusal of everything beyond."""

import math
import threading
from dataclasses import dataclass, fields

from hrseg.errors import ConfigError, HrsegError

PIXEL_BUDGET = 4
"""Decoded images held at once, in images of the largest size allowed."""


class Refusal(HrsegError):
    """A request that is not answered, with the reason in one sentence.

    Args:
        status: HTTP status.
        sentence: What is wrong and what would be right.
        retry_after: Seconds after which it may go better; None where it never will.
    """

    def __init__(self, status: int, sentence: str, retry_after: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """Headers that belong to it."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return headers | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})


@dataclass(frozen=True)
class Limits:
    """Bounds of a server.

    Attributes:
        max_queue: Images held at once, from the first byte of the request to the last of the answer.
        max_bytes: Size of a request's body.
        max_pixels: Height times width of an image.
        max_batch: Images of equal size that go through the network together.
        max_wait: Seconds that the first of a batch waits for others.
        timeout: Seconds from a request's arrival to its answer.

    Raises:
        ConfigError: A bound that lets nothing through.
    """

    max_queue: int = 16
    max_bytes: int = 32 * 2**20
    max_pixels: int = 25_000_000
    max_batch: int = 8
    max_wait: float = 0.005
    timeout: float = 60.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, least = getattr(self, field.name), 0 if field.name == "max_wait" else None
            if not math.isfinite(value) or value < 0 or (least is None and value == 0):
                raise ConfigError(
                    f"--{field.name.replace('_', '-')} {value} lets nothing through. Give a number above 0."
                )


class Places:
    """The server's room: so many requests, and so many decoded pixels.

    A place is taken before a body is read, so what waits is bounded whatever clients send.

    Args:
        limits: Of the server.
    """

    def __init__(self, limits: Limits) -> None:
        self.count = limits.max_queue
        self.pixels = PIXEL_BUDGET * limits.max_pixels
        self._taken: dict[int, int] = {}  # place → its pixels
        self._next = 0
        self._lock = threading.Lock()

    def take(self) -> int | None:
        """Return a place, or None where all are taken."""
        with self._lock:
            if len(self._taken) >= self.count:
                return None
            self._next += 1
            self._taken[self._next] = 0
            return self._next

    def weigh(self, place: int, pixels: int) -> bool:
        """Say how many pixels a place will hold; False where there is no room for them now."""
        with self._lock:
            if sum(self._taken.values()) + pixels > self.pixels:
                return False
            self._taken[place] = pixels
            return True

    def leave(self, place: int) -> None:
        """Give a place back."""
        with self._lock:
            self._taken.pop(place, None)

    @property
    def taken(self) -> int:
        """Places that are taken."""
        return len(self._taken)


def no_room(seconds: float) -> Refusal:
    """Say that the server is full, and when there may be room again."""
    after = min(60, max(1, math.ceil(seconds)))
    return Refusal(429, f"The server is full; try again in {after} s.", after)


def too_slow(limits: Limits) -> Refusal:
    """Say that an answer took too long."""
    return Refusal(
        503, f"No answer within {limits.timeout:g} s; send a smaller image, or try later.", 5
    )
