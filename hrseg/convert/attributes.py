"""Classes from attributes or CSV columns, and colors in hexadecimal."""

import csv
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hrseg.convert.base import data_error
from hrseg.convert.classes import SourceClasses
from hrseg.errors import DataError
from hrseg.labels import Color

OBJECT = "object"
"""Class of objects whose source names none."""
UNNAMED = f"The source names no class: its objects are '{OBJECT}'. Rename it: --merge '{OBJECT}=building'."
_CLASS_COLUMNS = (
    *("class", "label", "category", "classname", "labelname", "categoryname", "classification"),
    *("name", "type", "classid", "labelid", "categoryid", "dn", "gridcode"),
)
"""Attributes that hold classes, likeliest first, normalized."""


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
            f"{path} cannot be read as CSV: {error}. Save it as UTF-8 text with commas, or copy it again."
        ) from error


def read_header(path: Path) -> list[str]:
    """Return the normalized column names of a CSV file; none where it is another kind of file."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return []
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return [normalized(cell) for cell in file.readline(4096).split(",")]


def normalized(name: str) -> str:
    """Return the letters and digits of a column's name, in lower case."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def class_attribute(rows: Iterable[Mapping[str, Any]], place: str) -> str | None:
    """Find the attribute that holds the class; None where no object has one.

    Args:
        rows: Attributes of each object.
        place: Their position in the source, for messages.

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
    columns = {normalized(key): key for key in reversed(values)}
    usual = next((columns[name] for name in _CLASS_COLUMNS if name in columns), None)
    if usual is not None:
        return usual
    texts = [k for k, found in values.items() if not all(isinstance(v, int | float) for v in found)]
    if len(texts) > 1:
        names = ", ".join(map(repr, sorted(texts)[:8]))
        what = f"its objects have the attributes {names}, and none is marked as the class"
        raise data_error(place, what, "Rename the one that is to 'class'")
    return texts[0] if texts else None


def class_of(value: Any, classes: SourceClasses | None) -> str | None:
    """Return the class that a value of an attribute means; None for an empty one.

    Args:
        value: A name, a number, options with whether they are chosen, or QuPath's mapping with a name.
        classes: Names of numbers; None calls 3 "class 3".

    Raises:
        ValueError: Several options, or a number that the table lacks.

    Example:
        >>> class_of(" car ", None), class_of("3", None), class_of({"car": True, "bus": False}, None)
        ('car', 'class 3', 'car')
    """
    if isinstance(value, dict):
        names = [value["name"]] if "name" in value else value.get("names")  # QuPath
        chosen = [k for k, v in value.items() if v is True]
        chosen = [": ".join(map(str, names))] if names else chosen
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


def hex_color(text: Any) -> Color | None:
    """Read a color such as "#00ff7f"; None for anything else.

    Example:
        >>> hex_color("#00ff7f"), hex_color("green")
        ((0, 255, 127), None)
    """
    try:
        red, green, blue = bytes.fromhex(str(text).removeprefix("#"))
    except ValueError:
        return None
    return red, green, blue
