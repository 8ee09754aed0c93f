"""Lists such as train.txt that lie in a tree: who is in which split, and which mask belongs to which image."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hrseg.data.check.result import counted
from hrseg.data.check.roles import MASK, Named, folder_words
from hrseg.data.layouts.pairs import list_lines, list_words

_LISTS = re.compile(
    r"(train|training|val|valid|validation|test|testing)(set|_?list|_?files|_?pairs)?$", re.I
)
_PLACES = ("*.txt", "*.lst", "*/*.txt", "*/*.lst", "*/*/*.txt")


@dataclass
class Lists:
    """What the lists of a tree say.

    Attributes:
        splits: Image → split.
        partners: Image → mask, of lists with two columns.
        notes: What is odd, in sentences.
    """

    splits: dict[Path, str] = field(default_factory=dict)
    partners: dict[Path, Path] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_lists(root: Path, files: Sequence[Named]) -> Lists:
    """Read all lists whose lines mostly name files of the tree."""
    by_place = {file.path.relative_to(root).as_posix(): file.path for file in files}
    by_name = _single_names(root, [file for file in files if file.role != MASK])
    found = Lists()
    twice: list[Path] = []
    for path in sorted({path for place in _PLACES for path in root.glob(place)}):
        told = _LISTS.fullmatch(path.stem)
        if not told:
            continue
        try:
            lines = list_lines(path)
        except OSError as error:
            found.notes.append(f"{path.relative_to(root)} cannot be read: {error.strerror}.")
            continue
        split = folder_words(told[1])[1]
        rows = [words for line in lines if (words := list_words(line))]
        inside = path.parent.relative_to(root)
        met: list[tuple[Path, Path | None]] = []
        for words in rows:
            image = _at(words[0], inside, by_place) or _named(words[0], by_name)
            mask = _at(words[1], inside, by_place) if len(words) > 1 else None
            if image is not None:
                met.append((image, mask if mask != image else None))
        if not rows or len(met) < 0.8 * len(rows):
            continue
        if len(met) < len(rows):
            gone = counted(len(rows) - len(met), "file")
            found.notes.append(
                f"{path.relative_to(root)} names {gone} not to be found here, left out."
            )
        for image, mask in met:
            twice += [image] if found.splits.setdefault(image, split) != split else []
            if mask is not None:
                found.partners.setdefault(image, mask)
    if twice:
        found.notes.append(
            f"{counted(len(set(twice)), 'image')} in the lists of two splits, such as {twice[0].relative_to(root)}: "
            "taken for the first, since a score on images from the training says nothing."
        )
    return found


def _single_names(root: Path, images: Iterable[Named]) -> dict[str, Path | None]:
    """Return each name by which a list may call an image; None where two images have it."""
    names: dict[str, Path | None] = {}
    for image in images:
        relative = image.path.relative_to(root)
        for name in (str(relative.with_suffix("")), relative.name, relative.stem, image.stem):
            names[name] = None if names.get(name, image.path) != image.path else image.path
    return names


def _at(word: str, inside: Path, by_place: dict[str, Path]) -> Path | None:
    """Return the file at a place that counts from the list, the root, or a folder above the root."""
    parts = Path(word.strip("/")).parts
    places = ["/".join(parts[first:]) for first in range(len(parts))]
    return next((by_place[p] for p in ((inside / word).as_posix(), *places) if p in by_place), None)


def _named(word: str, by_name: dict[str, Path | None]) -> Path | None:
    name = word.removeprefix("./")
    return by_name.get(name) or by_name.get(Path(name).name) or by_name.get(Path(name).stem)
