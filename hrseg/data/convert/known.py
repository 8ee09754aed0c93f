"""Classes that a source comes with: tables of names, ids and colours in the forms that tools and archives use."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from hrseg.data.convert.files import read_lines
from hrseg.data.convert.parts import Color, packed, problem
from hrseg.data.labels import IGNORE_INDEX, load_labels, table_names
from hrseg.errors import DataError

TABLES = (
    *("labelmap.txt", "label_map.txt", "colours.txt", "colors.txt", "label_colors.txt"),
    *("label_colours.txt", "class_dict.csv", "class_dict_seg.csv", "classes.csv"),
    *("labels.yaml", "labels.csv", "classes.txt"),
)
"""Where a folder may keep its classes."""
_SPLITS = {
    **{"default": "", "training": "train", "valid": "val", "validation": "val", "testing": "test"},
    "trn": "train",
}


@dataclass(frozen=True)
class Known:
    """A source's own table.

    Attributes:
        names: In its order.
        ids: Id → name, for masks of one channel.
        colours: Name → colour.
        ignored: Names without a class.
        place: Where it stands, for messages.
    """

    names: tuple[str, ...]
    ids: dict[int, str]
    colours: dict[str, Color]
    ignored: frozenset[str]
    place: str

    @property
    def by_colour(self) -> dict[int, str]:
        """0xRRGGBB → name.

        Raises:
            DataError: Two classes share a colour.
        """
        found: dict[int, str] = {}
        for name, color in self.colours.items():
            other = found.setdefault(packed(color), name)
            if other != name:
                raise problem(
                    self.place,
                    f"'{other}' and '{name}' have the same colour {color}",
                    "Give each class its own colour",
                )
        return found


def known_classes(source: str | Path) -> Known:
    """Read a source's classes.

    Args:
        source: A table's name, such as "voc2012"; a .csv or .yaml as `load_labels` takes it; or a text with one
            class a line: "name", "r g b name", "name r g b", or CVAT's "name:r,g,b:parts:actions".

    Raises:
        DataError: It cannot be read.
    """
    path = Path(source)
    if str(source) in table_names() or path.suffix.lower() in (".yaml", ".yml"):
        return _of_labels(source)
    if not path.is_file():
        return _of_labels(source)  # says what would be right
    if path.suffix.lower() == ".csv" and _has_names(path):
        return _of_labels(source)
    names: dict[str, None] = {}
    colours: dict[str, Color] = {}
    for number, line in enumerate(read_lines(path), start=1):
        if line.startswith("#"):
            continue
        name, color = _class_of(line, f"{path}, line {number}")
        if name in names:
            raise problem(f"{path}, line {number}", f"'{name}' stands twice", "Remove one of them")
        names[name] = None
        if color is not None:
            colours[name] = color
    if not names:
        raise problem(str(path), "it names no class", "Write one class on each line")
    return Known(tuple(names), dict(enumerate(names)), colours, frozenset(), str(path))


def find_table(folder: Path) -> Known | None:
    """Read the classes that a folder keeps, or return None."""
    path = next((folder / name for name in TABLES if (folder / name).is_file()), None)
    return None if path is None else known_classes(path)


def split_name(name: str) -> str:
    """Return our word for a tool's split.

    Example:
        >>> split_name("Validation"), split_name("train2017"), split_name("default"), split_name("night")
        ('val', 'train', '', 'night')
    """
    word = re.sub(r"(?<=[a-z])\d{4}$", "", name.strip().lower())
    return re.sub(r"[^\w.-]", "_", _SPLITS.get(word, word)).strip(".")


def known_split(*words: str) -> str:
    """Return the first word that is train, val or test by any usual name, or "".

    Example:
        >>> known_split("instances", "train2017"), known_split("aachen")
        ('train', '')
    """
    return next((s for s in map(split_name, words) if s in ("train", "val", "test")), "")


def _of_labels(source: str | Path) -> Known:
    labels = load_labels(source)
    ids = {row.id: row.name for row in labels.labels}
    ignored = frozenset(row.name for row in labels.labels if row.train_id == IGNORE_INDEX)
    kept = {row.train_id: row.name for row in reversed(labels.labels)}
    order = [kept[row.train_id] for row in labels.classes]
    merged = {
        row.id: row.name if row.train_id == IGNORE_INDEX else kept[row.train_id]
        for row in labels.labels
    }
    colours = {row.name: row.color for row in labels.labels}
    names = (*order, *(name for name in dict.fromkeys(ids.values()) if name in ignored))
    return Known(names, merged, {n: colours[n] for n in names}, ignored - set(order), str(source))


def _has_names(path: Path) -> bool:
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        header = next(csv.reader(file), [])
    return "name" in [cell.strip() for cell in header]


_LABELMAP = re.compile(r"([^:]+):\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*(?::.*)?$")
_FIRST = re.compile(r"(\d+)[\s,]+(\d+)[\s,]+(\d+)[\s,]+(\S.*)$")
_LAST = re.compile(r"(\S.*?)[\s,]+(\d+)[\s,]+(\d+)[\s,]+(\d+)$")


def _class_of(line: str, place: str) -> tuple[str, Color | None]:
    """Read one line of a text of classes."""
    for pattern, name, first in ((_LABELMAP, 1, 2), (_FIRST, 4, 1), (_LAST, 1, 2)):
        match = pattern.match(line)
        if match:
            r, g, b = (int(match[first + channel]) for channel in range(3))
            if max(r, g, b) > 255:
                raise problem(
                    place, f"{r}, {g}, {b} is no colour", "Use red, green, blue from 0 to 255"
                )
            return match[name].strip(), (r, g, b)
    if ":" in line:
        raise DataError(
            f"{place}: '{line}' is no class. Write 'name', 'name r g b', 'r g b name' or 'name:r,g,b::'."
        )
    return line, None
