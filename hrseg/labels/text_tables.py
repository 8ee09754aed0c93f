"""Parser of class tables in text and YAML: names, ids and colors, with a header or without."""

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import yaml

from hrseg.errors import DataError, did_you_mean

MAX_BYTES = 2**18
"""Largest file that is read; 255 classes take a few kilobytes."""
NULLS = frozenset(("", "~", "null", "Null", "NULL"))
"""Empty values of YAML, for all fields but the name."""
_PUNCTUATION = frozenset("‘’“”«»–—…°€\u00a0")


Cells = tuple[int, Mapping[str, Any]]
"""One class as written: line number, and field → text."""


class Scalar(str):
    """A scalar of a YAML file as text with its line, never a number or a truth value."""

    line: int = 0


def read_text(path: Path) -> str:
    """Read a small text file: UTF-8, UTF-16, or what Windows wrote before (cp1251, cp1252).

    Raises:
        DataError: It cannot be opened, is larger than `MAX_BYTES`, or is in none of these encodings.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}. Check that the file is there and may be opened."
        ) from error
    if len(content) > MAX_BYTES:
        raise DataError(
            f"{path} has more than {MAX_BYTES:,} bytes, and no table of classes has. Give the file that names the "
            "classes."
        )
    try:
        return _decode(content)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} cannot be read: its text is neither UTF-8 nor UTF-16, nor plainly cp1252 or cp1251. Save it as "
            "UTF-8."
        ) from error


def read_yaml(path: Path) -> Any:
    """Read a YAML file as lists and mappings of text: `no`, `null` and `1` stay as written.

    Raises:
        DataError: It is no YAML, nests too deep, or a mapping has a key twice.
    """
    text = read_text(path)
    try:
        return _plain(yaml.compose(text, Loader=yaml.BaseLoader), path, {})
    except RecursionError as error:
        raise DataError(
            f"{path} cannot be read: its lists nest without end. A table of classes has three levels at most."
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or getattr(error, "reason", None) or "it is no YAML"
        raise DataError(
            f"{path}{where} cannot be read: {what}. Correct the YAML; names with signs need quotes."
        ) from error


def refuse(path: Path, line: int, what: str, step: str) -> NoReturn:
    """Raise the error of a line that cannot be read."""
    shown = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in what)
    raise DataError(f"Label file {path}, line {line} cannot be read: {shown}. {step}")


def check_fields(path: Path, line: int, fields: Iterable[str], known: Sequence[str]) -> None:
    """Refuse an unknown field."""
    for field in fields:
        if field not in known:
            close = did_you_mean(field[:60], known)
            refuse(path, line, f"'{field:.60}' is unknown", f"Known: {', '.join(known)}.{close}")


def whole_numbers(values: Iterable[Any]) -> bool:
    """Return whether all values are the text of an integer."""
    return all(isinstance(v, str) and re.fullmatch("[+-]?[0-9]{1,10}", v) for v in values)


def _plain(node: yaml.Node | None, path: Path, done: dict[int, Any]) -> Any:
    """Convert a node; `done` prevents the growth of nested aliases."""
    if node is None:
        return None
    if id(node) in done:
        return done[id(node)]
    line = node.start_mark.line + 1
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = Scalar(node.value)
        value.line = line
    elif isinstance(node, yaml.MappingNode):
        value = {}
        for key_node, value_node in node.value:
            key = _plain(key_node, path, done)
            if not isinstance(key, Scalar) or key in value:
                what = f"'{key:.60}' stands twice" if isinstance(key, Scalar) else "a key is a list"
                refuse(path, key_node.start_mark.line + 1, what, "Give each key once, as a word.")
            value[key] = _plain(value_node, path, done)
    else:
        value = [_plain(item, path, done) for item in node.value]
    done[id(node)] = value
    return value


def _decode(content: bytes) -> str:
    """Decode UTF-8, UTF-16, or what is plainly cp1251 or cp1252: any byte is valid in the latter two."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16")
    if b"\0" in content:  # UTF-16 without BOM: zero bytes are the high halves of ASCII
        little = content[1::2].count(0) >= content[::2].count(0)
        return content.decode("utf-16-le" if little else "utf-16-be")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1251", errors="replace")
        # Cyrillic words of two letters or more in usual case
        if all(re.fullmatch(r"[Ѐ-ӿ]{2,}", w) and w in (w.lower(), w.title(), w.upper()) for w in _foreign_words(text)):
            return text
        text = content.decode("cp1252")
        words = _foreign_words(text)  # accented letters occur beside plain ones
        signs = set(text) - _PUNCTUATION - set("".join(words))
        mixed = all(len(word) == 1 or re.search("[A-Za-z]", word) for word in words)
        if mixed and max(signs) < "\x7f":
            return text
        raise


def _foreign_words(text: str) -> list[str]:
    return [word for word in re.findall(r"[^\W\d_]+", text) if not word.isascii()]


_MAX_LINE = 1000


def read_text_classes(path: Path) -> list[Cells]:
    """Read the classes of a text file.

    Raises:
        DataError: A line cannot be read.
    """
    lines = []
    for number, line in enumerate(re.split(r"\r\n|\r|\n", read_text(path)), start=1):
        line = line.strip(" \t")
        if len(line) > _MAX_LINE:
            refuse(path, number, f"it has {len(line):,} letters", "Write one class on each line.")
        comment = line.startswith("#") and not re.match(r"#[0-9a-fA-F]{6}[\s,;:]", line)
        if line and not comment and not line.startswith("INTERPOLATION:"):  # the latter of QGIS
            lines.append((number, line))
    if not lines:
        return []
    header = _header(path, lines[0][1])
    return _columns(path, lines, *header) if header else _without_header(path, lines)


_FIELDS = {
    alias: field
    for field, aliases in (
        ("name", "name classname labelname class label category classes labels"),
        ("id", "id pixelvalue pixel value index idx classid labelid number code gray grey"),
        ("r", "r red"),
        ("g", "g green"),
        ("b", "b blue"),
        ("color", "color colour rgb colorrgb hex"),
        ("train_id", "trainid"),
        ("mirror", "mirror"),
        ("", "a alpha supercategory catid hasinstances ignoreineval ratio train val stuff"),
    )
    for alias in aliases.split()
}
"""Heading of a column in lowercase → field; "" is not used."""
_COLUMNS = ("id", "train_id", "name", "r", "g", "b", "color", "mirror")


def _field(heading: str) -> str | None:
    return _FIELDS.get(re.sub(r"[^a-z0-9]", "", heading.lower()))


def _header(path: Path, line: str) -> tuple[Callable[[str], list[str]], list[str]] | None:
    """Return the function that splits a line, and the headings; None if the first line is a class."""
    for delimiter in "\t;,":
        if delimiter in line:
            split = partial(_cells, delimiter)
            try:
                headings = split(line)
            except csv.Error:
                return None
            return (split, headings) if any(map(_field, headings)) else None
    headings = line.split()
    fields = [_field(heading) for heading in headings]
    if len(headings) == 1 and fields[0] and path.suffix.lower() in (".csv", ".tsv"):
        return partial(_cells, ","), headings
    if len(headings) > 1 and all(fields) and "name" in fields:
        return partial(_by_blanks, fields.index("name"), len(headings)), headings
    return None


def _cells(delimiter: str, line: str) -> list[str]:
    row = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True, strict=True))
    return [cell.strip() for cell in row]


def _by_blanks(place: int, count: int, line: str) -> list[str]:
    """Split at blanks, but not inside the name, which is column `place`."""
    cells = line.split(None, place)
    return cells[:-1] + cells[-1].rsplit(None, count - 1 - place)


def _columns(
    path: Path, lines: list[tuple[int, str]], split: Callable[[str], list[str]], headings: list[str]
) -> list[Cells]:
    """Read classes under a header."""
    fields = [_field(heading) for heading in headings]
    unknown = [h for h, field in zip(headings, fields, strict=True) if field is None]
    check_fields(path, lines[0][0], unknown, _COLUMNS)
    rows = []
    for number, line in lines[1:]:
        try:
            row = split(line)
        except csv.Error as error:
            refuse(path, number, str(error), "Close the quotes.")
        if len(row) > len(headings):
            step = "Put a name that holds the separator into quotes."
            refuse(path, number, f"it has more cells than the header: {len(row)}", step)
        rows.append((number, row + [""] * (len(headings) - len(row))))
    names = [place for place, field in enumerate(fields) if field == "name"]
    if len(names) > 1:  # "label, class": one of them is the number
        numeric = [place for place in names if whole_numbers(row[place] for _, row in rows)]
        for place in numeric[: len(names) - 1]:
            fields[place] = "" if "id" in fields else "id"
    seen = [field for field in fields if field]
    double = next((field for field in seen if seen.count(field) > 1), None)
    if double:
        step = "Keep one of them."
        refuse(path, lines[0][0], f"two columns may be the {double} of a class", step)
    if "name" not in fields:
        refuse(path, lines[0][0], "it has no name of the classes", "It needs a column 'name'.")
    return [(number, {f: cell for f, cell in zip(fields, row, strict=True) if f and cell}) for number, row in rows]


HEX = re.compile(r"(?:#|\b0x)([0-9a-fA-F]{6})\b")
_LABELMAP = re.compile(r"([^:]+):\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*(?::.*)?$")
_LINE = re.compile(r"((?:-?\d+[\s,;:=]+)*)(.*?)((?:[\s,;:=]+-?\d+)*)$")
_UNCLEAR = re.compile(r"(?:^|\s)\d*\.\d+(?:\s|$)|[\[({]\s*\d+\s*[,\s]\s*\d")
_SHAPES = {
    (0, 0): "name",
    (1, 0): "id name",
    (0, 1): "name id",
    (3, 0): "r g b name",
    (0, 3): "name r g b",
    (3, 1): "r g b name id",
    (1, 3): "id name r g b",
    (1, 4): "id name r g b a",
    (5, 0): "id r g b a name",
    (7, 0): "id r g b a visible mesh name",
}
"""Count of numbers before and after the name → their fields. Four on one side have an id or an opacity."""


def decimal(match: re.Match[str]) -> str:
    """Replace a match of `HEX` by red, green, blue."""
    return " " + " ".join(str(value) for value in bytes.fromhex(match[1])) + " "


def _without_header(path: Path, lines: list[tuple[int, str]]) -> list[Cells]:
    """Read classes without a header, by the numbers before and after their names."""
    rows = []
    for _, line in lines:
        line = HEX.sub(decimal, line).strip()
        labelmap = _LABELMAP.match(line)  # of CVAT
        match = _LINE.match(" ".join(labelmap.groups()) if labelmap else line)
        assert match is not None  # the pattern matches any line
        rows.append((re.findall(r"-?\d+", match[1]), match[2], re.findall(r"-?\d+", match[3])))
    shapes = [(len(before), len(behind)) for before, _, behind in rows]
    names = [name for _, name, _ in rows]
    numbered = set(shapes) == {(0, 1)} and len(set(names)) == len(names)
    if set(shapes) <= {(0, 0), (0, 1)} and not numbered:  # "lane 1", "lane 2" are names
        rows, shapes = [([], line, []) for _, line in lines], [(0, 0)] * len(lines)
    found: list[Cells] = []
    for (number, line), (before, name, behind), shape in zip(lines, rows, shapes, strict=True):
        fields = _fields_of(shape, rows)
        bare = _unquoted(name)
        if fields is None:
            what = f"'{line:.60}' is no class"
        elif shape != shapes[0]:
            what = f"'{line:.60}' is written in another way than '{lines[0][1]:.60}' in line {lines[0][0]}"
        elif bare == name and (_UNCLEAR.search(name) or (shape > (0, 1) and name.isdecimal())):
            what = f"the numbers of '{line:.60}' have no known meaning"
        else:
            row = zip(fields, [*before, bare, *behind], strict=True)
            found.append((number, {k: v for k, v in row if k in _COLUMNS}))
            continue
        step = "Write 'name', 'id name', 'name r g b', 'id name r g b' or 'name:r,g,b::' on each line, or a header."
        refuse(path, number, what, step)
    for sign in "\t;,:=|":
        if set(shapes) == {(0, 0)} and all(sign in name for _, name, _ in rows):
            step = "Write a header such as name,id,r,g,b above, or put the names into quotes."
            refuse(path, lines[0][0], f"each line has columns ('{sign}') without a meaning", step)
    return found


def _fields_of(shape: tuple[int, int], rows: Sequence[tuple[list[str], str, list[str]]]) -> list[str] | None:
    """Return the fields of a line, in order; None if its numbers have no known meaning."""
    if shape not in ((4, 0), (0, 4)):
        return _SHAPES[shape].split() if shape in _SHAPES else None
    numbers = [before or behind for before, _, behind in rows]
    first, last = {row[0] for row in numbers if row}, {row[-1] for row in numbers if row}
    opacity = last == {"255"} or (last == {"0", "255"} and len(first) < len(rows))
    four = ["r", "g", "b", "a"] if opacity else ["id", "r", "g", "b"]
    return [*four, "name"] if shape[0] else ["name", *four]


def _unquoted(name: str) -> str:
    """Return a name without quotes and a trailing comma."""
    name = name.rstrip(",; ")
    for quote in "\"'":
        if len(name) > 1 and name[0] == name[-1] == quote:
            return name[1:-1].replace(quote * 2, quote)
    return name
