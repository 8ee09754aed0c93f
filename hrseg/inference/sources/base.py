"""Types and result names shared by all image sources; no file is opened here."""

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np

from hrseg.errors import ConfigError, HrsegError, name_text
from hrseg.imaging.archives import LARGEST


@dataclass(frozen=True)
class Clip:
    """Properties shared by the frames of one video or camera.

    Attributes:
        name: Folder of the numbered frames.
        rate: Frames per second after subsampling.
        live: Whether frames arrive in real time, so that none should wait for others.
        tick: Seconds of which the times of frames are multiples.
        sound: File or address whose sound belongs to the frames; None where it has none.
        start: Seconds that its clock shows at the beginning.
    """

    name: str
    rate: float
    live: bool = False
    tick: Fraction = Fraction(1, 90_000)
    sound: str | None = None
    start: float = 0.0


@dataclass(frozen=True)
class Picture:
    """One image of a source, not yet decoded except for frames.

    Attributes:
        origin: Shown to users: a path, an address, "clip.mp4#12.04s", "a.zip/b.png".
        name: Name of its results, unique in one run, without suffix; may contain "/".
        path: Its file on disk.
        pixels: uint8 RGB (H, W, 3) of a frame.
        error: The reason why it cannot be read.
        time: Seconds from the beginning of its clip.
        fetch: Returns the content of a file that is not on disk.
        clip: The video or camera of a frame.
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
    """Limits for untrusted sources.

    Attributes:
        size: Bytes of one picture from an address, an archive, a cloud or standard input.
        seconds: Time to fetch one picture from an address.
        ratio: Compression ratio of a file in an archive.
    """

    size: int = LARGEST
    seconds: float = 60.0
    ratio: int = 1000


@dataclass(frozen=True)
class Every:
    """Subsampling of a clip: each n-th frame, or one in `seconds`, where that is not 0."""

    frames: int = 1
    seconds: float = 0.0

    @classmethod
    def read(cls, text: str) -> "Every":
        """Read "10" (each tenth frame) or "0.5s" (one each half second).

        Raises:
            ConfigError: The text is neither.

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

    def selector(self) -> Callable[[int, float], bool]:
        """Return a function that tells from a frame's number and time, in order, whether it is taken.

        Example:
            >>> wanted = Every(seconds=1).selector()
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
        """Return the frame rate that remains."""
        return min(rate, 1 / self.seconds) if self.seconds else rate / self.frames


@dataclass(frozen=True)
class SourceOptions:
    """Options of all sources: those of `open_sources`, and the folder that result names begin with."""

    recursive: bool = True
    every: Every = field(default_factory=Every)
    limits: Limits = field(default_factory=Limits)
    skip: Path | None = None
    prefix: str = ""


@dataclass(frozen=True)
class Source:
    """An opened argument: its pictures, and whether a file on disk is one of them."""

    pictures: Callable[[], Iterator[Picture]]
    covers: Callable[[Path], bool] = lambda path: False


_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\]')
_MAX_LENGTH = 120


def result_names(paths: Sequence[Path]) -> list[str]:
    """Return a unique result name for each image: its stem, with folder and suffix where stems repeat.

    Names that differ in the case of letters only count as equal.

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
        counts = Counter(map(fold_name, names))
        names = [more if counts[fold_name(name)] > 1 else name for name, more in zip(names, longer, strict=True)]
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
    """Drop the suffixes of files in one folder, except where stems repeat.

    Example:
        >>> stems_of(["x.png", "X.jpg", "y.png"])
        ['x.png', 'X.jpg', 'y']
    """
    stems = [Path(name).stem for name in names]
    counts = Counter(map(fold_name, stems))
    return [name if counts[fold_name(stem)] > 1 else stem for name, stem in zip(names, stems, strict=True)]


def safe_name(text: str, *, stem: bool = True) -> str:
    """Return a result name from an untrusted path: relative, without ".." and reserved characters.

    Args:
        text: The path.
        stem: Whether to drop the suffix.

    Example:
        >>> safe_name("../../etc/a:b.png"), safe_name("C:\\\\x\\\\y.png"), safe_name("")
        ('etc/a_b', 'C_/x/y', 'image')
    """
    parts = [part.strip() for part in text.replace("\\", "/").split("/")]
    parts = [part for part in parts if part.strip(". ")]
    if parts and stem:
        parts[-1] = Path(parts[-1]).stem
    clean = [_FORBIDDEN.sub("_", part)[:_MAX_LENGTH] for part in parts]
    return "/".join(clean) or "image"


class Namer:
    """Unique names within a run; stores digests, not names."""

    def __init__(self) -> None:
        self._taken: set[bytes] = set()
        self._folders: set[bytes] = set()
        self._clips: set[bytes] = set()

    def claim(self, name: str) -> str:
        """Return the name, or one with a number where it is taken."""
        name = chosen = name_text(name)
        number = 1
        top, _, below = name.partition("/")
        while self._is_taken(chosen):
            number += 1
            inside_clip = digest(fold_name(top)) in self._clips
            chosen = f"{top}-{number}/{below}" if below and inside_clip else f"{name}-{number}"
        self._taken.add(digest(fold_name(chosen)))
        self._folders |= set(_parents(chosen))
        return chosen

    def reserve(self, name: str) -> str:
        """Return the name, or one with a number, for a folder that holds the frames of one clip."""
        name = chosen = name_text(name)
        number = 1
        while self._is_taken(chosen) or digest(fold_name(chosen)) in self._folders | self._clips:
            number += 1
            chosen = f"{name}-{number}"
        self._clips.add(digest(fold_name(chosen)))
        self._folders |= set(_parents(chosen))
        return chosen

    def _is_taken(self, name: str) -> bool:
        return digest(fold_name(name)) in self._taken or any(up in self._clips for up in _parents(name))


def fold_name(name: str) -> str:
    """Fold differences that some file systems ignore."""
    return unicodedata.normalize("NFC", name).casefold()


def digest(text: str) -> bytes:
    """Return a 16-byte hash of a text."""
    return hashlib.blake2b(os.fsencode(text), digest_size=16).digest()


def _parents(name: str) -> list[bytes]:
    parts = fold_name(name).split("/")
    return [digest("/".join(parts[:depth])) for depth in range(1, len(parts))]


def _numbered(names: list[str]) -> list[str]:
    """Number names that are still equal, for example x.PNG beside x.png."""
    taken = {fold_name(name) for name in names}
    seen: set[str] = set()
    unique = []
    for name in names:
        chosen, number = name, 1
        while fold_name(chosen) in seen or (number > 1 and fold_name(chosen) in taken):
            number += 1
            chosen = f"{name}-{number}"
        seen.add(fold_name(chosen))
        unique.append(chosen)
    return unique
