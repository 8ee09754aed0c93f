"""Classes of objects that a source describes by attributes or columns, and the tables of such sources."""

import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hrseg.convert.base import Record, problem
from hrseg.convert.classes import Known
from hrseg.errors import DataError
from hrseg.labels import Color

OBJECT = "object"
"""Class of objects whose source names none."""
UNNAMED = f"The source names no class: its objects are '{OBJECT}'. Rename it: --merge '{OBJECT}=building'."
_USUAL = (
    *("class", "label", "category", "classname", "labelname", "categoryname", "classification"),
    *("name", "type", "classid", "labelid", "categoryid", "dn", "gridcode"),
)
"""Attributes that hold classes, likeliest first, without case, blanks and underscores."""


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a CSV file with a header; cells that a short line lacks are empty.

    Raises:
        DataError: It cannot be read.
    """
    csv.field_size_limit(sys.maxsize)  # run lengths of one image pass the usual 128 KiB
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file, restval="", skipinitialspace=True)
            rows = []
            for row in table:
                rows.append({str(k).strip(): v for k, v in row.items() if k is not None})
                if any("\n" in cell for cell in rows[-1].values()):
                    raise ValueError(f"a quotation mark before line {table.line_num} is not closed")
            return rows
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read as CSV: {error}. Save it as UTF-8 text with commas, or "
            "copy it again."
        ) from error


def header(path: Path) -> list[str]:
    """Return the plain words of a CSV file's columns; none where it is another kind of file."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return []
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        line = file.readline(4096)
    return [plain(cell) for cell in line.split(",")]


def plain(name: str) -> str:
    """Return the letters and digits of a column's name, in lower case."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def class_attribute(rows: Iterable[Mapping[str, Any]], place: str) -> str | None:
    """Find the attribute that holds the class; None where no object has one.

    Args:
        rows: Attributes of each object.
        place: Where they stand, for messages.

    Raises:
        DataError: Several could be meant.

    Example:
        >>> class_attribute([{"id": 7, "Class": "car"}, {"id": 8, "Class": "bus"}], "a.csv")
        'Class'
    """
    values: dict[str, list[Any]] = {}
    for row in rows:
        for key, value in row.items():
            if value not in (None, "", {}, []):
                values.setdefault(key, []).append(value)
    words = {plain(key): key for key in reversed(values)}
    usual = next((words[word] for word in _USUAL if word in words), None)
    if usual is not None:
        return usual
    texts = [k for k, found in values.items() if not all(isinstance(v, int | float) for v in found)]
    if len(texts) > 1:
        raise problem(
            place,
            f"its objects have the attributes {', '.join(map(repr, sorted(texts)[:8]))}, and none says that it is the "
            "class",
            "Rename the one that is to 'class'",
        )
    return texts[0] if texts else None


def class_of(value: Any, classes: Known | None) -> str | None:
    """Return the class that a value of an attribute means; None for an empty one.

    Args:
        value: A name, a number, options and whether they are chosen, or QuPath's mapping with a name.
        classes: What numbers mean; None calls 3 "class 3".

    Raises:
        ValueError: Several options, or a number that the table lacks.

    Example:
        >>> class_of(" car ", None), class_of("3", None), class_of({"car": True, "bus": False}, None)
        ('car', 'class 3', 'car')
    """
    if isinstance(value, dict):
        names = [value["name"]] if "name" in value else value.get("names")  # QuPath
        chosen = (
            [": ".join(map(str, names))] if names else [k for k, v in value.items() if v is True]
        )
        if len(chosen) > 1:
            raise ValueError(f"it has the classes {', '.join(map(repr, chosen))} at once")
        return class_of(chosen[0], classes) if chosen else None
    text = str(value if value is not None else "").strip()
    try:
        number = int(float(text))
    except (ValueError, OverflowError):
        return text or None
    if classes is None:
        return f"class {number}"
    if number not in classes.ids:
        raise ValueError(f"class {number} is not in {classes.place}")
    return classes.ids[number]


def class_order(records: Sequence[Record], classes: Known | None) -> dict[str, Color | None]:
    """Return the classes of a table in its order, then those of objects by name; none with a color."""
    used = {item.label for record in records for item in record.objects}
    return dict.fromkeys([*(classes.names if classes else ()), *sorted(used)])


def hex_color(text: Any) -> Color | None:
    """Read a color such as "#00ff7f"; None for anything else.

    Example:
        >>> hex_color("#00ff7f"), hex_color("green")
        ((0, 255, 127), None)
    """
    try:
        value = int(str(text).removeprefix("#"), 16)
    except ValueError:
        return None
    return (value >> 16 & 255, value >> 8 & 255, value & 255)
