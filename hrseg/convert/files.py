"""JSON, XML and text files of annotation tools, which may be damaged, and the lookup of their images."""

import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import cached_property
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

import numpy as np

from hrseg.errors import DataError, parse_json
from hrseg.imaging import IMAGE_SUFFIXES
from hrseg.imaging.polygons import Ring

_FARTHEST = 1e7
"""Limit of coordinates in pixels."""


def first_bytes(path: Path) -> bytes:
    """Return the first 64 KiB of a file, from which its format is recognized; b"" where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(1 << 16).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError:
        return b""


_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|[][{},"]')
_CLOSING = {"{": "}", "[": "]"}


def json_start(path: Path) -> Any:
    """Parse the first 64 KiB of a JSON file, from which its format is recognized; None where it is no JSON.

    A file that begins with [{"id": 1, "data": {}}, {"id": 2, "da gives [{"id": 1, "data": {}}, {"id": 2}].
    """
    text = first_bytes(path).decode("utf-8", errors="replace")
    for candidate in (text, _closed(text)):
        try:
            return json.JSONDecoder().raw_decode(candidate)[0]
        except (ValueError, RecursionError):  # of a thousand nested lists
            continue
    return None


def _closed(text: str) -> str:
    """Cut a JSON text at its last comma outside of strings, and close what is open there."""
    brackets: list[str] = []
    end, closing = 0, ""
    for token in _TOKENS.finditer(text):
        sign = token[0]
        if sign == '"':  # the text ends in this string
            break
        if sign in _CLOSING:
            brackets.append(_CLOSING[sign])
        elif sign in ("}", "]") and brackets:
            brackets.pop()
        elif sign == ",":
            end, closing = token.start(), "".join(reversed(brackets))
    return text[:end] + closing


def json_files(path: Path, below: str = "*.json") -> list[Path]:
    """Return a JSON file, or those of a folder."""
    if path.is_dir():
        return [file for file in sorted(path.glob(below)) if not file.name.startswith(".")]
    return [path] if path.suffix.lower() == ".json" and path.is_file() else []


def files_of_tool(files: Iterable[Path], fits: Callable[[Any], bool]) -> list[Path]:
    """Return the JSON files of a tool, and broken ones among them for the report; [] where none is the tool's."""
    starts = {file: json_start(file) for file in files}
    if not any(map(fits, starts.values())):
        return []
    return [file for file, start in starts.items() if start is None or fits(start)]


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return parse_json(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read as JSON: {error}. Copy it again, or export it again if it was cut short there."
        ) from error


def read_xml(path: Path) -> ElementTree.Element:
    """Read an XML file; one that defines entities is refused, since those can fill the memory.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return parse_xml(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read as XML: {error}. Export it again, or copy it again if it was cut short."
        ) from error


def parse_xml(content: bytes) -> ElementTree.Element:
    """Parse XML that may be hostile.

    Raises:
        ValueError: It is none, or defines entities, which no annotation tool writes.
    """
    if b"<!ENTITY" in content:
        raise ValueError("it defines XML entities, which no annotation tool writes")
    try:
        return ElementTree.fromstring(content)
    except (LookupError, ElementTree.ParseError) as error:
        raise ValueError(str(error)) from error


def read_lines(path: Path) -> list[str]:
    """Read a text file without empty lines.

    Raises:
        DataError: It cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}. Save it as UTF-8 text.") from error
    return [line.strip() for line in lines if line.strip()]


class NoArea(ValueError):
    """A shape of too few points; it has no area and is skipped."""


def read_points(points: Any, minimum: int = 3) -> Ring:
    """Read points, such as the corners of a polygon.

    Args:
        points: Pairs x, y, or numbers x0, y0, x1, y1, ...
        minimum: Smallest number of points.

    Raises:
        NoArea: There are fewer.
        ValueError: They are something else.
    """
    try:
        numbers = np.asarray(points, dtype=np.float64)
        if numbers.ndim == 1 and numbers.size % 2:
            raise ValueError(f"it has {numbers.size} numbers, which are no pairs x, y")
        ring = numbers.reshape(-1, 2)
    except (TypeError, ValueError) as error:
        if str(error).startswith("it has"):
            raise
        raise ValueError("its points are not pairs of numbers x, y") from error
    if len(ring) < minimum:
        raise NoArea(f"it has {len(ring)} points, and at least {minimum} are needed")
    if not np.isfinite(ring).all() or np.abs(ring).max() > _FARTHEST:
        raise ValueError("a coordinate of it is no number of pixels")
    return ring


def read_number(value: Any) -> float:
    """Read one finite number.

    Raises:
        ValueError: It is something else.
    """
    try:
        found = float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{value!r} is no number") from error
    if not abs(found) <= _FARTHEST:
        raise ValueError(f"{value!r} is no number of pixels")
    return found


def safe_name(name: str) -> str:
    """Turn a tool's file name into a path below a folder, without suffix.

    Example:
        >>> safe_name("..\\\\imgs\\\\a b.jpg"), safe_name("/data/x.tar.png")
        ('imgs/a b', 'data/x.tar')
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    named = [part for part in parts if part not in ("/", "..", ".") and not part.endswith(":")]
    if not named:
        return "image"
    stem, suffix = os.path.splitext(named[-1])
    return "/".join([*named[:-1], stem if suffix.lower() in IMAGE_SUFFIXES else named[-1]])


class Images:
    """Lookup of the images that a tool names, in some folders and everything below.

    Args:
        given: Folder that the user names; None takes the others.
        folders: Usual folders, best first.
    """

    def __init__(self, given: Path | None, *folders: Path) -> None:
        self.folders = [f for f in ([given] if given else folders) if f.is_dir()]

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        found: dict[str, dict[Path, None]] = defaultdict(dict)
        for folder in self.folders:
            for place, below, names in os.walk(folder):
                below[:] = sorted(name for name in below if not name.startswith("."))
                for name in sorted(names):
                    if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and name[0] != ".":
                        path = Path(place, name)
                        found[name.lower()][path] = None
                        found[path.stem.lower()][path] = None
        return {name: list(paths) for name, paths in found.items()}

    def name(self, image: Path) -> str:
        """Return the path of a found image below its folder, without suffix."""
        base = next((folder for folder in self.folders if folder in image.parents), image.parent)
        return safe_name(image.relative_to(base).as_posix())

    def find(self, name: str, place: str, *others: str) -> Path:
        """Find an image by its name, with or without folders and suffix.

        Args:
            name: As the tool writes it.
            place: Position in the source, for messages.
            others: Names to try next.

        Raises:
            DataError: There is none, or several could be meant.
        """
        for candidate in (name, *others):
            tail = candidate.replace("\\", "/").split("/")
            tail = [part for part in tail if part not in ("", ".", "..")]
            for folder in self.folders:
                direct = folder.joinpath(*tail)
                if direct.suffix.lower() in IMAGE_SUFFIXES and direct.is_file():
                    return direct
            best = _longest_tail(self._by_name.get(tail[-1].lower(), []) if tail else [], tail)
            if len(best) > 1:
                raise DataError(
                    f"{place}: several files could be its image: {', '.join(map(str, best[:3]))}. Name the folder of "
                    "the right ones with --images."
                )
            if best:
                return best[0]
        searched = ", ".join(map(str, self.folders)) or "no existing folder"
        raise DataError(
            f"{place}: its image '{name}' is not in {searched}. Name the folder of the images with --images."
        )


def _longest_tail(paths: list[Path], tail: list[str]) -> list[Path]:
    """Return the paths whose last folders agree most with the tool's."""

    def agreeing(path: Path) -> int:
        pairs = zip(reversed(path.parts[:-1]), reversed(tail[:-1]), strict=False)
        return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))

    best = max(map(agreeing, paths), default=0)
    return [path for path in paths if agreeing(path) == best]
