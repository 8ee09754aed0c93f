"""Findings, classes and recipe of a check as plain data, which terminal, JSON and HTML page show."""

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hrseg.data.check.scan import ScannedPair
from hrseg.errors import first_few, printable
from hrseg.imaging import NAN_ID

Level = Literal["error", "warning", "note"]
Role = Literal["class", "ignored", "unknown"]
MAX_NAMED = 5
"""Files named in a sentence."""


@dataclass(frozen=True)
class Finding:
    """One finding about a dataset.

    Attributes:
        level: "error" stops or spoils a training; "warning" should be examined; "note" is information.
        kind: Stable identifier, for programs.
        text: One or two sentences.
        files: All files concerned, relative to the root where they are inside.
    """

    level: Level
    kind: str
    text: str
    files: tuple[str, ...] = ()


@dataclass
class ValueStats:
    """Statistics of one value of the masks.

    Attributes:
        value: Id, or color as 0xRRGGBB.
        first: First file that holds it.
        pixels: All its pixels.
        images: Masks that hold it.
        by_split: Split → pixels.
        edge, soft, sharp: Sums of those of `ScannedPair`.
        inside: Positions of masks in which some pixel has only equal neighbors.
        table: Label table of the first file, where it is not the layout's own.
    """

    value: int
    first: Path
    pixels: int = 0
    images: int = 0
    by_split: Counter[str] = field(default_factory=Counter)
    edge: int = 0
    soft: int = 0
    sharp: int = 0
    inside: set[int] = field(default_factory=set)
    table: str | None = None


@dataclass(frozen=True)
class ClassRow:
    """One class, ignored or unknown value found in the masks."""

    value: str
    name: str
    color: tuple[int, int, int]
    role: Role
    pixels: int
    share: float
    images: int
    first: str
    by_split: dict[str, float]


@dataclass(frozen=True)
class Result:
    """Result of a check."""

    root: Path
    layout: str
    where: str
    splits: dict[str, dict[str, int]]
    images: dict[str, Any]
    masks: dict[str, Any]
    classes: tuple[ClassRow, ...]
    findings: tuple[Finding, ...]
    recipe: "Recipe | None"
    seconds: float
    scanned: tuple[ScannedPair, ...] = field(repr=False, default=())

    @property
    def errors(self) -> int:
        """Number of findings that would stop or spoil a training."""
        return sum(finding.level == "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for JSON."""
        return {
            "root": str(self.root),
            "layout": self.layout,
            "where": self.where,
            "splits": self.splits,
            "images": self.images,
            "masks": self.masks,
            "classes": [{**vars(row), "color": list(row.color), "share": round(row.share, 8)} for row in self.classes],
            "findings": [{**vars(finding), "files": list(finding.files)} for finding in self.findings],
            "recipe": None if self.recipe is None else self.recipe.text("recipe"),
            "labels": None if self.recipe is None else self.recipe.labels,
            "seconds": round(self.seconds, 2),
        }


@dataclass(frozen=True)
class Recipe:
    """A training recipe and the files it needs beside it.

    Attributes:
        template: The YAML, with {beside} for the folder of the other files and {stem} for its own name.
        labels: Text of the class table, or None where one exists already.
        lists: Split → text of its list; empty where the layout alone gives the splits.
    """

    template: str
    labels: str | None
    lists: dict[str, str]

    def text(self, stem: str, folder: Path = Path()) -> str:
        """Return the YAML for a recipe of this name in this folder."""
        beside = (folder.resolve() / f"{stem}_data").as_posix().replace("'", "''")
        command = shlex.quote(printable(f"{stem}.yaml"))
        text = self.template.replace("{beside}", beside).replace("{stem}.yaml", command)
        return text.replace("{stem}", stem)

    def files(self, path: Path) -> dict[Path, str]:
        """Return path → content of all files of a recipe saved as `path`; the recipe comes last."""
        beside = path.with_name(f"{path.stem}_data")
        files = {beside / f"{split}.txt": text for split, text in self.lists.items()}
        if self.labels is not None:
            files[beside / "labels.yaml"] = self.labels
        return files | {path: self.text(path.stem, path.parent)}


def relative(path: Path | None, root: Path) -> str:
    """Return a path relative to the root where it is inside; "" for None."""
    if path is None:
        return ""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def named(files: Iterable[str]) -> str:
    """Join the first names, with the number of the others.

    Example:
        >>> named("abcdefg")
        'a, b, c, d, e and 2 more'
    """
    files = list(files)
    more = len(files) - MAX_NAMED
    return ", ".join(files[:MAX_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def counted(count: int, noun: str) -> str:
    """Return a number with its noun.

    Example:
        >>> counted(1, "mask"), counted(1200, "image")
        ('1 mask', '1,200 images')
    """
    return f"{count:,} {noun}{'s' * (count != 1)}"


def values_text(values: Sequence[int], of_colors: bool = False, limit: int = 5) -> str:
    """Join the first values of masks."""
    return first_few([value_text(value, of_colors) for value in values], limit)


def value_text(value: int, of_colors: bool = False) -> str:
    """Return a value of a mask as text: an id, or the color 0xRRGGBB.

    Example:
        >>> value_text(7), value_text(0x804080, of_colors=True)
        ('7', '(128, 64, 128)')
    """
    if of_colors:
        return str((value >> 16, value >> 8 & 255, value & 255))
    return "NaN" if value == NAN_ID else str(value)
