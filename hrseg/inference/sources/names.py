"""Names of results: never twice the same in a run, always text, and the same again in the next run."""

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from hrseg.text import name_text

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
