"""Tables of classes in files: those that ship, and a user's own CSV or YAML."""

import colorsys
import csv
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from hrseg.data.labels.label_set import IGNORE_INDEX, Label, LabelSet
from hrseg.errors import DataError, did_you_mean, unknown_choice

_TABLES = Path(__file__).parents[1] / "tables"
_COLUMNS = ("id", "train_id", "name", "r", "g", "b", "mirror")


def load_labels(source: str | Path) -> LabelSet:
    """Read a built-in table by name, or a user's CSV or YAML.

    A CSV has the columns id, train_id, name, r, g, b, mirror, of which only name is required: ids count from 0,
    train ids follow the order (255 = ignored), colours are drawn; mirror is the id that a class becomes in a
    mirrored image, for left and right. A YAML is `classes: [road, car]`, or rows such as
    `classes: [{id: 1, name: road, color: [128, 64, 128]}]`, and `ignore: [0]` for ids without a class.

    Args:
        source: A name of `table_names()`, such as "cityscapes" or "ade20k", or a path.

    Raises:
        DataError: Unknown name, unreadable file, or a table with contradictions.

    Example:
        >>> load_labels("ade20k").num_classes
        150
    """
    if str(source) in table_names():
        return _from_csv(str(source), _TABLES / f"{source}.csv")
    path = Path(source).expanduser()
    if not path.suffix and not path.is_file():
        raise DataError(unknown_choice("label table", str(source), table_names()))
    if not path.is_file():
        raise DataError(
            f"Label file {path} does not exist. Give a .csv or .yaml of classes, or a table's name."
        )
    try:
        return _from_csv(path.stem, path) if path.suffix.lower() == ".csv" else _from_yaml(path)
    except DataError:
        raise
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError, csv.Error) as error:
        raise DataError(
            f"Label file {path} cannot be read: {error}. A CSV needs a column 'name'; a YAML needs "
            "'classes: [first, second]'."
        ) from error


def table_names() -> list[str]:
    """Return the names of the built-in tables."""
    return sorted(path.stem for path in _TABLES.glob("*.csv"))


def distinct_colors(count: int) -> list[tuple[int, int, int]]:
    """Return colours that are easy to tell apart, the same ones every time.

    Hues turn by the golden angle, and brightness changes every seven colours.

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


def _from_csv(name: str, path: Path) -> LabelSet:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, restkey="more", skipinitialspace=True)
        rows = []
        for row in reader:
            if "more" in row:
                raise ValueError(f"line {reader.line_num} has more cells than the header")
            rows.append({k.strip(): v.strip() for k, v in row.items() if v and v.strip()})
    return _from_rows(name, rows, [])


def _from_yaml(path: Path) -> LabelSet:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not isinstance(content.get("classes"), list):
        raise ValueError("it has no list under 'classes'")
    _check_keys(content, ("classes", "ignore", "snap"))
    rows = []
    for entry in content["classes"]:
        row = dict(entry) if isinstance(entry, dict) else {"name": entry}
        _check_keys(row, ("id", "train_id", "name", "color", "mirror"))
        if "color" in row:
            row["r"], row["g"], row["b"] = row.pop("color")
        rows.append(row)
    table = _from_rows(path.stem, rows, content.get("ignore") or [])
    return replace(table, snap=int(content.get("snap", 0)))


def _from_rows(name: str, rows: Sequence[dict[str, Any]], ignore: Iterable[int]) -> LabelSet:
    ignored = {int(i) for i in ignore}
    drawn = distinct_colors(len(rows))
    labels: list[Label] = []
    next_id = next_train = 0
    for row, color in zip(rows, drawn, strict=True):
        _check_keys(row, _COLUMNS)
        if row.get("name") is None:
            raise ValueError(f"class {len(labels) + 1} has no name")
        if 0 < len({"r", "g", "b"} & set(row)) < 3:
            raise ValueError(f"class '{row['name']}' has a colour without all of r, g, b")
        while "id" not in row and next_id in ignored:
            next_id += 1
        number = int(row.get("id", next_id))
        train_id = int(row.get("train_id", IGNORE_INDEX if number in ignored else next_train))
        next_id = number + 1
        next_train += train_id != IGNORE_INDEX
        rgb = (int(row["r"]), int(row["g"]), int(row["b"])) if "r" in row else color
        mirror = None if row.get("mirror") is None else int(row["mirror"])
        labels.append(Label(number, train_id, str(row["name"]), rgb, mirror))
    have = {label.id for label in labels}
    labels += [Label(i, IGNORE_INDEX, "ignored", (0, 0, 0)) for i in sorted(ignored - have)]
    return LabelSet(name, tuple(labels))


def _check_keys(row: Iterable[Any], known: Sequence[str]) -> None:
    for key in row:
        if key not in known:
            raise ValueError(
                f"'{key}' is unknown.{did_you_mean(key, known)} Known: {', '.join(known)}"
            )
