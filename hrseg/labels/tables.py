"""Reader of class tables: the built-in ones, a user's own, and those that annotation tools write.

All commands read classes here, so that they agree on what a file means. An error names the file and the line.
"""

import colorsys
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hrseg.errors import DataError, unknown_choice
from hrseg.labels.label_set import IGNORE_INDEX, MAX_CLASSES, Color, Label, LabelSet
from hrseg.labels.text_tables import (
    HEX,
    NULLS,
    Cells,
    check_fields,
    decimal,
    read_text_classes,
    read_yaml,
    refuse,
    whole_numbers,
)

_TABLES = Path(__file__).parent / "builtin"
_YAML = (".yaml", ".yml", ".json")
DATA_YAML = ("data.yaml", "data.yml", "dataset.yaml")
CLASS_FILES = (
    *("labels.yaml", "labels.yml", "labels.csv", "labelmap.txt", "label_map.txt"),
    *("label_colors.txt", "label_colours.txt", "colors.txt", "colours.txt"),
    *("class_dict.csv", "class_dict_seg.csv", "_classes.csv", "classes.csv", "classes.txt"),
    *("class_names.txt", "labels.txt", "codes.txt", "obj.names", *DATA_YAML),
)
"""Files of classes that are found by name, in order of precedence."""
VOID = frozenset(
    {"void", "ignore", "ignored", "__ignore__", "unlabelled", "unlabeled", "unknown"}
    | {"border", "boundary", "none", "no_label", "dontcare"}
)
"""Lowercase names that mean no class."""
MAX_NAME = 200


@dataclass(frozen=True)
class TableRow:
    """One class of a file; None where the file has no value."""

    name: str
    id: int | None = None
    color: Color | None = None
    train_id: int | None = None
    mirror: int | None = None


@dataclass(frozen=True)
class ClassTable:
    """The classes of a file.

    Attributes:
        path: The file.
        rows: Its classes in order.
        ignore: Further ids without a class.
        explicit: Whether the file declares what is ignored; otherwise the names of `VOID` are.
        snap: See `LabelSet`.
    """

    path: Path
    rows: tuple[TableRow, ...]
    ignore: tuple[int, ...] = ()
    explicit: bool = False
    snap: int = 0

    @property
    def by_color(self) -> dict[Color, str]:
        """Color → name; the first of several counts."""
        return {row.color: row.name for row in reversed(self.rows) if row.color is not None}

    @cached_property
    def labels(self) -> LabelSet:
        """The classes with missing ids and colors filled in: ids count from 0, colors are `distinct_colors`."""
        rows: list[Label] = []
        next_id = next_train = 0
        for row, color in zip(self.rows, distinct_colors(len(self.rows)), strict=True):
            while row.id is None and next_id in self.ignore:
                next_id += 1
            number = next_id if row.id is None else row.id
            void = number in self.ignore or (not self.explicit and row.name.lower() in VOID)
            train_id = row.train_id
            if train_id is None:
                train_id = IGNORE_INDEX if void else next_train
                if not void and next_train >= MAX_CLASSES:
                    raise DataError(f"it has more than {MAX_CLASSES} classes. Give some of them the same train_id.")
            next_id = number + 1
            next_train += train_id != IGNORE_INDEX
            rows.append(Label(number, train_id, row.name, row.color or color, row.mirror))
        more = sorted(set(self.ignore) - {label.id for label in rows})
        rows += [Label(number, IGNORE_INDEX, "ignored", (0, 0, 0)) for number in more]
        return LabelSet(self.path.stem, tuple(rows), self.snap)


def load_labels(source: str | Path) -> LabelSet:
    """Read a built-in table by name, or any file of classes.

    A CSV has the columns id, train_id, name, r, g, b, mirror, of which only name is required: ids count from 0,
    train ids follow the order (255 = ignored), colors are chosen; mirror is the id that a class becomes in a
    mirrored image. A YAML is `classes: [road, car]`, or rows such as
    `classes: [{id: 1, name: road, color: [128, 64, 128]}]`, and `ignore: [0]` for ids without a class. See
    `read_classes` for the files of other tools.

    Args:
        source: A name of `table_names()`, such as "cityscapes" or "ade20k", or a path.

    Raises:
        DataError: Unknown name, unreadable file, or a table with contradictions.

    Example:
        >>> load_labels("ade20k").num_classes
        150
    """
    return read_classes(source).labels


def read_classes(source: str | Path) -> ClassTable:
    """Read the classes of a built-in table or a file, without filling in missing values.

    Text has one class per line: "name", with an id or red, green, blue or both before or after it, separated by
    blanks, tabs, commas, semicolons or colons; CVAT's "name:r,g,b:parts:actions"; color tables of QGIS and ITK-SNAP;
    or columns under a header in any order, as in class_dict.csv and _classes.csv. YAML is `classes:` as in
    `load_labels`, or `names:` as in YOLO's data.yaml, as a list or by number.

    Raises:
        DataError: Unknown name, unreadable file, or a table with contradictions; file and line are named.
    """
    if str(source) in table_names():
        return _read(_TABLES / f"{source}.csv")
    path = Path(source).expanduser()
    if not path.is_file():
        if not path.suffix:
            raise DataError(unknown_choice("label table", str(source), table_names()))
        raise DataError(f"Label file {path} does not exist. Give a .csv or .yaml of classes, or a table's name.")
    return _read(path)


def find_classes(root: Path, depth: int = 2) -> ClassTable | None:
    """Read the file of classes in a folder or below it, the nearest first; None if there is none.

    Raises:
        DataError: The file cannot be read.
    """
    folders = [root] if root.is_dir() else []
    for _ in range(depth + 1):
        entries = [entry for folder in folders for entry in _entries(folder)]
        files = {p.name.lower(): p for p in reversed(entries) if p.name.lower() in CLASS_FILES}
        for path in (files[name] for name in CLASS_FILES if name in files):
            if path.is_file() and (path.name.lower() not in DATA_YAML or "names" in read_yaml(path)):
                return _read(path)
        folders = [p for p in entries if not p.suffix and p.name[0] not in "._" and p.is_dir()]
    return None


def table_names() -> list[str]:
    """Return the names of the built-in tables."""
    return sorted(path.stem for path in _TABLES.glob("*.csv"))


def distinct_colors(count: int) -> list[Color]:
    """Return distinguishable colors, always the same: hue steps of the golden angle, a new brightness every seven.

    Example:
        >>> distinct_colors(2)
        [(217, 65, 65), (65, 109, 217)]
    """
    colors = []
    for i in range(count):
        value = (0.85, 0.6, 1.0)[i // 7 % 3]
        r, g, b = colorsys.hsv_to_rgb(i * 0.618034 % 1.0, 0.7, value)
        colors.append((round(r * 255), round(g * 255), round(b * 255)))
    return colors


def class_name(name: str, place: str) -> str:
    """Return the name of a class without surrounding blanks.

    Raises:
        DataError: It is empty, too long, or holds characters that cannot be displayed, such as ESC or a line break.
    """
    name = name.strip(" \t\u00a0")
    hidden = next((s for s in name if not (s.isprintable() or s in "\u00a0\u200c\u200d")), None)
    if hidden:
        what = f"a class has the sign {hidden!a} in its name"
    elif len(name) > MAX_NAME:
        what = f"the name of a class has {len(name):,} letters"
    elif not name:
        what = "a class has no name"
    else:
        return name
    raise DataError(f"{place}: {what}. Give each class one line of 1 to {MAX_NAME} letters.")


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(
            f"Folder {folder} cannot be read: {error.strerror}. Allow it, or move the folder away."
        ) from error


def _read(path: Path) -> ClassTable:
    """Read a file by its suffix, and refuse contradictions with the name of the file."""
    if path.suffix.lower() in _YAML:
        found, properties = _read_yaml_classes(path)
    else:
        found = read_text_classes(path)
        properties = {"explicit": any("train_id" in cells for _, cells in found)}
    if not found:
        raise DataError(f"Label file {path} has no class in it. Write one class on each line.")
    table = ClassTable(path, tuple(_row(path, *cells) for cells in found), **properties)
    try:
        labels = table.labels.labels
    except DataError as error:
        raise DataError(f"Label file {path}: {error}") from error
    learned: dict[str, int] = {}
    for label, (line, _) in zip(labels, found, strict=False):
        if label.train_id != learned.setdefault(label.name, label.train_id):
            step = "Give each class its own name; rows of one train_id are one class."
            refuse(path, line, f"class '{label.name}' stands twice", step)
    return table


def _row(path: Path, line: int, cells: Mapping[str, Any]) -> TableRow:
    """Convert the cells of a class."""
    for field, value in cells.items():
        if field != "color" and not isinstance(value, str):
            refuse(path, line, f"'{field}' of a class is a list", "Write one word.")
    name = class_name(cells.get("name", ""), f"Label file {path}, line {line}")
    cells = {k: v for k, v in cells.items() if not isinstance(v, str) or v not in NULLS}

    def integer(value: Any, what: str) -> int:
        if not isinstance(value, str) or not re.fullmatch(r"[+-]?[0-9]{1,10}", value.strip()):
            shown = f"'{value:.40}'" if isinstance(value, str) else "a list"
            refuse(path, line, f"{what} of '{name}' is {shown}", "Write a whole number.")
        return int(value)

    number, train_id, mirror = (
        integer(cells[field], field) if field in cells else None for field in ("id", "train_id", "mirror")
    )
    if train_id is not None and train_id < 0:  # Cityscapes writes -1
        train_id = IGNORE_INDEX
    parts = _color_parts(cells)
    if parts is None:
        return TableRow(name, number, None, train_id, mirror)
    if len(parts) != 3:
        step = "Give red, green, blue from 0 to 255."
        refuse(path, line, f"'{name}' has a color without all of r, g, b", step)
    r, g, b = (integer(part, "the color") for part in parts)
    if not 0 <= min(r, g, b) <= max(r, g, b) <= 255:
        step = "It should be red, green, blue from 0 to 255."
        refuse(path, line, f"({r}, {g}, {b}), given to '{name}', is no color", step)
    return TableRow(name, number, (r, g, b), train_id, mirror)


def _color_parts(cells: Mapping[str, Any]) -> list[Any] | None:
    """Return red, green, blue from their columns, a list, "128 64 128" or "#804080"; None without a color."""
    if "color" not in cells:
        return [cells[k] for k in "rgb" if k in cells] or None
    color = cells["color"]
    if isinstance(color, str):
        return re.findall(r"[^\s,;()\[\]]+", HEX.sub(decimal, color))
    return list(color) if isinstance(color, list) else [color]


_CLASSES_STEP = "Write 'classes: [first, second]'."


def _read_yaml_classes(path: Path) -> tuple[list[Cells], dict[str, Any]]:
    """Return the classes, and the further fields of a labels.yaml."""
    content = read_yaml(path)
    if not isinstance(content, dict) or "classes" not in content:
        if isinstance(content, dict) and "names" in content:  # of YOLO
            return _yaml_entries(path, content["names"]), {}
        if isinstance(content, list) or (isinstance(content, dict) and whole_numbers(content)):
            return _yaml_entries(path, content), {}
        refuse(path, 1, "it has no list under 'classes'", _CLASSES_STEP)
    check_fields(path, 1, content, ("classes", "ignore", "snap"))
    ignore, snap = content.get("ignore", []), content.get("snap", "0")
    ignore = [] if isinstance(ignore, str) and ignore in NULLS else ignore
    if not isinstance(ignore, list) or not whole_numbers(ignore):
        step = "Write such as 'ignore: [0, 255]'."
        refuse(path, _line(ignore), "'ignore' is no list of ids", step)
    if not whole_numbers([snap]):
        refuse(path, _line(snap), "'snap' is no whole number", "Write such as 'snap: 32'.")
    properties = {"ignore": tuple(map(int, ignore)), "explicit": True, "snap": int(snap)}
    return _yaml_entries(path, content["classes"]), properties


def _yaml_entries(path: Path, entries: Any) -> list[Cells]:
    """Read a list of names or rows, or a mapping between names and numbers or colors."""
    if isinstance(entries, dict):
        fields = ("id", "name") if whole_numbers(entries) else ("name", "color")
        if fields[0] == "name" and whole_numbers(entries.values()):
            fields = ("name", "id")
        return [(_line(key), dict(zip(fields, (key, v), strict=True))) for key, v in entries.items()]
    if not isinstance(entries, list):
        refuse(path, _line(entries), "it has no list under 'classes'", _CLASSES_STEP)
    found: list[Cells] = []
    for entry in entries:
        row = entry if isinstance(entry, dict) else {"name": entry}
        check_fields(path, _line(entry), row, ("id", "train_id", "name", "color", "mirror"))
        found.append((_line(entry), row))
    return found


def _line(value: Any) -> int:
    """Return the line of a scalar, or of the first one in a list or mapping."""
    while isinstance(value, list | dict) and value:
        value = next(iter(value))
    return getattr(value, "line", 1)
