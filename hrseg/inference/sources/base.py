"""One picture of a source, and what sources may be told. Nothing here opens a file."""

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hrseg.errors import ConfigError, HrsegError, name_text


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
class SourceOptions:
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


_STRANGE = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\]')
_LONGEST = 120


def result_names(paths: Sequence[Path]) -> list[str]:
    """Name the results of images so that none overwrites another: stems, and more where stems repeat.

    Where two images share a stem, their folders become part of the name, and where they lie in one
    folder, their suffixes too. Names differ in more than the case of letters.

    Example:
        >>> result_names([Path("a/x.png"), Path("b/x.png"), Path("b/y.jpg")])
        ['a/x', 'b/x', 'y']
        >>> result_names([Path("x.png"), Path("x.jpg")])
        ['x.png', 'x.jpg']
    """
    if not paths:
        return []
    stems = [path.stem for path in paths]
    full = [Path(os.path.abspath(path)) for path in paths]
    common = common_folder(full)
    folders = [path.relative_to(common or path.anchor) for path in full]
    names = stems
    for longer in (
        [folder.with_name(stem).as_posix() for folder, stem in zip(folders, stems, strict=True)],
        [folder.as_posix() for folder in folders],
    ):
        counts = Counter(map(same, names))
        names = [
            more if counts[same(name)] > 1 else name
            for name, more in zip(names, longer, strict=True)
        ]
    return _numbered([name_text(name) for name in names])


def common_folder(full: Iterable[Path]) -> Path | None:
    """Return the deepest folder above all of some absolute paths; None on several drives."""
    common: Path | None = None
    for path in full:
        if common is None:
            common = path.parent
        while path.parent != common and common not in path.parents:
            if common == common.parent:
                return None
            common = common.parent
    return common


def stems_of(names: Sequence[str]) -> list[str]:
    """Drop the suffixes of files in one folder, but where two would be the same then.

    Example:
        >>> stems_of(["x.png", "X.jpg", "y.png"])
        ['x.png', 'X.jpg', 'y']
    """
    stems = [Path(name).stem for name in names]
    counts = Counter(map(same, stems))
    return [
        name if counts[same(stem)] > 1 else stem for name, stem in zip(names, stems, strict=True)
    ]


def safe_name(text: str, *, stem: bool = True) -> str:
    """Make a name for results of what strangers called their file: no way out of the folder, nothing odd.

    Args:
        text: Parts between slashes.
        stem: Whether to drop the suffix.

    Example:
        >>> safe_name("../../etc/a:b.png"), safe_name("C:\\\\x\\\\y.png"), safe_name("")
        ('etc/a_b', 'C_/x/y', 'image')
    """
    parts = [part.strip() for part in text.replace("\\", "/").split("/")]
    parts = [part for part in parts if part.strip(". ")]
    if parts and stem:
        parts[-1] = Path(parts[-1]).stem
    clean = [_STRANGE.sub("_", part)[:_LONGEST] for part in parts]
    return "/".join(clean) or "image"


class Namer:
    """Gives each picture of a run a name of its own, without keeping the names."""

    def __init__(self) -> None:
        self._taken: set[bytes] = set()
        self._folders: set[bytes] = set()
        self._clips: set[bytes] = set()

    def claim(self, name: str) -> str:
        """Return the name, or one with a number where it is taken."""
        name = chosen = name_text(name)
        number = 1
        top, _, below = name.partition("/")
        while self._known(chosen):
            number += 1
            inside_clip = digest(same(top)) in self._clips
            chosen = f"{top}-{number}/{below}" if below and inside_clip else f"{name}-{number}"
        self._taken.add(digest(same(chosen)))
        self._folders |= set(_above(chosen))
        return chosen

    def reserve(self, name: str) -> str:
        """Return the name, or one with a number, for a folder that nobody else gets names in."""
        name = chosen = name_text(name)
        number = 1
        while self._known(chosen) or digest(same(chosen)) in self._folders | self._clips:
            number += 1
            chosen = f"{name}-{number}"
        self._clips.add(digest(same(chosen)))
        self._folders |= set(_above(chosen))
        return chosen

    def _known(self, name: str) -> bool:
        return digest(same(name)) in self._taken or any(up in self._clips for up in _above(name))


def same(name: str) -> str:
    """Fold what some file systems do not tell apart."""
    return unicodedata.normalize("NFC", name).casefold()


def digest(text: str) -> bytes:
    """Return sixteen bytes that stand for a text."""
    return hashlib.blake2b(os.fsencode(text), digest_size=16).digest()


def _above(name: str) -> list[bytes]:
    parts = same(name).split("/")
    return [digest("/".join(parts[:depth])) for depth in range(1, len(parts))]


def _numbered(names: list[str]) -> list[str]:
    """Number what is still the same, for example x.PNG beside x.png."""
    taken = {same(name) for name in names}
    seen: set[str] = set()
    unique = []
    for name in names:
        chosen, number = name, 1
        while same(chosen) in seen or (number > 1 and same(chosen) in taken):
            number += 1
            chosen = f"{name}-{number}"
        seen.add(same(chosen))
        unique.append(chosen)
    return unique
