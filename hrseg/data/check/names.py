"""Class names that lie beside the masks: what CVAT, VOC, CamVid, Roboflow, YOLO and people write into text files."""

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Name:
    """One class of such a file; id and colour where it tells them."""

    name: str
    id: int | None = None
    color: Colour | None = None


@dataclass(frozen=True)
class Names:
    """Where the names stand, and the names in their order."""

    path: Path
    rows: tuple[Name, ...]

    @property
    def by_color(self) -> dict[Colour, str]:
        """Colour → name; the first of several counts."""
        return {row.color: row.name for row in reversed(self.rows) if row.color is not None}


def find_names(root: Path) -> Names | None:
    """Read the first class file in a tree that makes sense, the nearest to the root first."""
    for pattern, read in _READERS:
        for depth in ("", "*/", "*/*/"):
            for path in sorted(root.glob(depth + pattern)):
                try:
                    rows = read(path)
                except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError, csv.Error):
                    continue
                if rows and len({row.name for row in rows}) == len(rows):
                    return Names(path, tuple(rows))
    return None


def _labelmap(path: Path) -> list[Name]:
    """Read CVAT's VOC form: `name:r,g,b:parts:actions` on each line."""
    rows = []
    for line in _lines(path):
        name, _, rest = line.partition(":")
        numbers = re.findall(r"\d+", rest.partition(":")[0])
        rows.append(Name(name.strip(), None, _colour(numbers)))
    return rows if all(row.color for row in rows) else []


def _colours_first(path: Path) -> list[Name]:
    """Read CamVid's form: `r g b name` on each line."""
    found = [re.match(r"(\d+)[\s,]+(\d+)[\s,]+(\d+)[\s,]+(.+)", line) for line in _lines(path)]
    if not all(found):
        return []
    return [Name(told[4].strip(), None, _colour(told.groups()[:3])) for told in found if told]


def _plain(path: Path) -> list[Name]:
    """Read one name per line, with a number before it or not."""
    lines = _lines(path)
    numbered = [re.match(r"(\d+)\s*[:,\t ]\s*(.+)", line) for line in lines]
    if lines and all(numbered):
        return [Name(told[2].strip(" '\""), int(told[1])) for told in numbered if told]
    if any(len(line) > 60 or "/" in line for line in lines):
        return []
    return [Name(line.strip(" '\",")) for line in lines]


def _table(path: Path) -> list[Name]:
    """Read a CSV with a column for the name, and others for id or colour."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        rows = []
        for row in reader:
            cells = {
                (key or "").strip().lower(): (value or "").strip() for key, value in row.items()
            }
            name = next(
                (cells[key] for key in ("name", "class", "label", "class name") if cells.get(key)),
                "",
            )
            number = next(
                (cells[k] for k in ("pixel value", "id", "value", "index") if k in cells), ""
            )
            color = [cells.get(key, "") for key in "rgb"] if "r" in cells else []
            rows.append(Name(name, int(number) if number.isdigit() else None, _colour(color)))
    return rows if all(row.name for row in rows) else []


def _mapping(path: Path) -> list[Name]:
    """Read a YAML with names: a list, or number → name."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    names = content.get("names", content.get("classes"))
    if isinstance(names, dict):
        return [Name(str(name), int(number)) for number, name in sorted(names.items())]
    if all(isinstance(name, str) for name in names):
        return [Name(name) for name in names]
    return [Name(str(row["name"]), row.get("id"), _colour(row.get("color", []))) for row in names]


_READERS: tuple[tuple[str, Callable[[Path], list[Name]]], ...] = (
    ("labelmap.txt", _labelmap),
    ("label_colors.txt", _colours_first),
    ("class_dict.csv", _table),
    ("_classes.csv", _table),
    ("classes.csv", _table),
    ("classes.txt", _plain),
    ("class_names.txt", _plain),
    ("labels.txt", _plain),
    ("codes.txt", _plain),
    ("obj.names", _plain),
    ("data.yaml", _mapping),
    ("labels.yaml", _mapping),
)
"""File name → how it is read, the most telling first."""


def _lines(path: Path) -> list[str]:
    if path.stat().st_size > 1_000_000:
        return []
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _colour(numbers: Sequence[object]) -> Colour | None:
    values = [int(str(number)) for number in numbers if str(number).isdigit()]
    if len(values) != 3 or max(values) > 255:
        return None
    return values[0], values[1], values[2]
