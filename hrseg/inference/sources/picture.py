"""One picture of a source, and what sources may be told. Nothing here opens a file."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hrseg.errors import ConfigError, HrsegError


@dataclass(frozen=True)
class Clip:
    """What frames of one video or camera share.

    Attributes:
        name: Its stem; frames are numbered below it.
        rate: Frames a second, as they are given on.
        live: Whether frames come as they happen, so that none should wait for others.
    """

    name: str
    rate: float
    live: bool = False


@dataclass(frozen=True)
class Picture:
    """One picture, before it is decoded wherever that can wait.

    Attributes:
        origin: What a person would call it: a path, an address, "clip.mp4#12.04s", "a.zip/b.png".
        name: Of its results: unique among those of one run, without suffix; it may hold "/".
        path: Its file, where it has one of its own on disk.
        pixels: uint8 RGB (H, W, 3) of a frame, which nobody can decode later.
        error: Why there is no picture.
        time: Seconds from the beginning of its clip.
        fetch: Gives the bytes of its file, where it has no path.
        clip: The video or camera it is a frame of.
    """

    origin: str
    name: str
    path: Path | None = None
    pixels: np.ndarray | None = None
    error: HrsegError | None = None
    time: float | None = None
    fetch: Callable[[], bytes] | None = None
    clip: Clip | None = None


@dataclass(frozen=True)
class Limits:
    """The most that is taken from outside.

    Attributes:
        size: Bytes of one picture from an address, an archive, a cloud or standard input.
        seconds: For fetching one picture from an address.
        ratio: How many times larger than packed a file in an archive may be.
    """

    size: int = 256 << 20
    seconds: float = 60.0
    ratio: int = 1000


@dataclass(frozen=True)
class Every:
    """Which frames of a clip are taken: each n-th, or one in so many seconds.

    Attributes:
        frames: 1 takes all.
        seconds: 0 counts frames instead.
    """

    frames: int = 1
    seconds: float = 0.0

    @classmethod
    def read(cls, text: str) -> "Every":
        """Read "10" (each tenth frame) or "0.5s" (one each half second).

        Raises:
            ConfigError: Neither.

        Example:
            >>> Every.read("10"), Every.read("0.5s")
            (Every(frames=10, seconds=0.0), Every(frames=1, seconds=0.5))
        """
        found = re.fullmatch(r"(\d{1,9})|(\d{0,9}\.?\d{0,9})s", text)
        if found and found[1] and int(found[1]):
            return cls(frames=int(found[1]))
        if found and found[2] and found[2] != "." and float(found[2]):
            return cls(seconds=float(found[2]))
        raise ConfigError(
            f"'{text}' does not say which frames to take. Use a number, such as 10 for each tenth frame, or "
            "seconds, such as 0.5s."
        )

    def picks(self) -> Callable[[int, float], bool]:
        """Return what tells, frame after frame, from number and time whether one is taken.

        Example:
            >>> wanted = Every(seconds=1).picks()
            >>> [wanted(i, i * 0.4) for i in range(7)]
            [True, False, False, True, False, True, False]
        """
        if not self.seconds:
            return lambda number, time: number % self.frames == 0
        due = 0.0

        def picked(number: int, time: float) -> bool:
            nonlocal due
            if time + 1e-6 < due:
                return False
            due = self.seconds * (time // self.seconds + 1)
            return True

        return picked

    def rate(self, rate: float) -> float:
        """Return the frames a second that are left of a clip's."""
        return min(rate, 1 / self.seconds) if self.seconds else rate / self.frames


@dataclass(frozen=True)
class Wishes:
    """What sources are told.

    Attributes:
        recursive: Whether a folder stands for its subfolders too.
        every: Which frames of clips.
        limits: For what comes from outside.
        skip: Folder of the results, which is no source even where it lies in one.
        inside: Folder that names begin with, where several folders are meant.
    """

    recursive: bool = True
    every: Every = field(default_factory=Every)
    limits: Limits = field(default_factory=Limits)
    skip: Path | None = None
    inside: str = ""


@dataclass(frozen=True)
class Source:
    """What one word means, after it was looked at.

    Attributes:
        pictures: Gives them one after the other, from the first.
        covers: Tells whether a file on disk is one of them.
    """

    pictures: Callable[[], Iterator[Picture]]
    covers: Callable[[Path], bool] = lambda path: False
